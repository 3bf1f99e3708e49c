"""Submits a project to a scheduler: `python -m jobmgr.compat.pyedb.submit_job_on_scheduler --help`."""

from __future__ import annotations

from jobmgr.compat.pyedb import programs


def main() -> None:
    """Run it with the command line of this process."""
    programs.main("submit_job_on_scheduler")


if __name__ == "__main__":
    main()
