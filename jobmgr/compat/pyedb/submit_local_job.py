"""Submits a project to the service's machine: `python -m jobmgr.compat.pyedb.submit_local_job --help`."""

from __future__ import annotations

from jobmgr.compat.pyedb import programs


def main() -> None:
    """Run it with the command line of this process."""
    programs.main("submit_local_job")


if __name__ == "__main__":
    main()
