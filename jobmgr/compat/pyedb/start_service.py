"""Runs the service: `python -m jobmgr.compat.pyedb.start_service --help`."""

from __future__ import annotations

from jobmgr.compat.pyedb import programs


def main() -> None:
    """Run it with the command line of this process."""
    programs.main("start_service")


if __name__ == "__main__":
    main()
