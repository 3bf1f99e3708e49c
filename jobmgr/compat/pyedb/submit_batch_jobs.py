"""Submits all projects of a folder: `python -m jobmgr.compat.pyedb.submit_batch_jobs --help`."""

from __future__ import annotations

from jobmgr.compat.pyedb import programs


def main() -> None:
    """Run it with the command line of this process."""
    programs.main("submit_batch_jobs")


if __name__ == "__main__":
    main()
