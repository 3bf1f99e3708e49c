"""The entry point that pyedb's module `service` had."""

from __future__ import annotations


def main() -> None:
    """Run the service until SIGTERM or SIGINT, with the command line of this process: see `start_service`."""
    from jobmgr.compat.pyedb import programs  # noqa: PLC0415 -- the command line, which scripts need not

    programs.main("start_service")
