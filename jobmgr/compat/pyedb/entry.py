"""What pyedb's module `service` ran."""

from __future__ import annotations

import asyncio

from jobmgr.compat.pyedb.manager import JobManager


async def main() -> None:
    """Run a job manager until this is cancelled, as Ctrl-C does in `asyncio.run`; `start_service` is the program.

    It listens on a free port of this machine, and is found by the home, as every manager.
    """
    async with JobManager():
        await asyncio.Event().wait()
