"""How far simulations are, on stderr while somebody waits for one."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from jobmgr.cli import output
from jobmgr.cli.wait import tell
from jobmgr.client import Client
from jobmgr.errors import JobmgrError

_LOOK_S = 1.0


async def wait_with_progress(client: Client, job_id: str) -> int:
    """Wait for a simulation, say how far it is whenever that changes, then how it ended; the exit code."""
    teller = _Teller(client, job_id)
    telling = asyncio.create_task(teller.run())
    try:
        job = await client.wait(job_id)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    await teller.look()
    return tell([job])


class _Teller:
    def __init__(self, client: Client, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._told = ""

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        # How it ends is told in any case; a site that does not answer now may do so the next time.
        with suppress(JobmgrError):
            line = (await self._client.progress(self._job_id)).line
            if line and line != self._told:
                self._told = line
                output.note(line)
