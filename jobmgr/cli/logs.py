"""`logs`: what a job wrote."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import click

from jobmgr.cli import output
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.client.logs import PIECE_BYTES, last_lines


@click.command()
@click.argument("job_id")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--stderr", "of_stderr", is_flag=True, help="What it wrote to stderr instead of stdout.")
@click.option("--tail", type=click.IntRange(min=1, max=1_000_000), help="Begin with the last so many lines.")
@click.option("--attempt", type=click.IntRange(min=1), help="An attempt before the last one.")
@with_client
async def logs(
    client: Client, job_id: str, *, follow: bool, of_stderr: bool, tail: int | None, attempt: int | None
) -> None:
    """Print what a job wrote: byte for byte into files and pipes, on a terminal with its colours and nothing else of
    what a terminal obeys."""
    job_id = await client.full_id(job_id)
    stream = "stderr" if of_stderr else "stdout"
    if follow:
        pieces = client.follow_log(job_id, stream, tail=tail, attempt=attempt)
    else:
        pieces = _read(client, job_id, stream, tail, attempt)
    with output.LogWriter() as writer:
        async with aclosing(pieces):
            async for piece in pieces:
                writer.write(piece)


async def _read(
    client: Client, job_id: str, stream: str, tail: int | None, attempt: int | None
) -> AsyncGenerator[bytes, None]:
    window_of = partial(client.log, job_id, stream, attempt=attempt)
    window = await (window_of(limit=PIECE_BYTES) if tail is None else last_lines(window_of, tail))
    yield window.data
    while window.data and window.end < window.size_bytes:
        window = await window_of(offset=window.end, limit=PIECE_BYTES)
        yield window.data
