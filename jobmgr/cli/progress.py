"""Simulations, on stderr while somebody waits for them: why they do not start, and how far they are."""

from __future__ import annotations

from collections.abc import Sequence

from jobmgr.cli import output
from jobmgr.cli.wait import tell
from jobmgr.client import Client
from jobmgr.client.remarks import Remarks


async def wait_with_progress(client: Client, job_ids: Sequence[str]) -> int:
    """Wait for simulations, say what is worth saying meanwhile, then how they ended; the exit code."""
    async with Remarks(client, job_ids, _note, of_progress=True):
        with output.progress("waiting") as bar:
            jobs = await client.wait_many(job_ids, bar)
    return tell(jobs)


def _note(_level: int, text: str) -> None:
    output.note(text)
