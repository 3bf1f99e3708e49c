"""`queue`: named lines of jobs."""

from __future__ import annotations

import click
import msgspec

from jobmgr.cli import output, table
from jobmgr.cli.number import number_or_none
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.domain.queue import Queue
from jobmgr.errors import QueueNotFound
from jobmgr.wire import translation


@click.group()
def queue() -> None:
    """List, pause, resume and limit queues."""


@queue.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@with_client
async def ls(client: Client, *, as_json: bool) -> None:
    """List queues with how many of their jobs are where."""
    queues = await client.queues()
    if as_json:
        output.as_json([msgspec.to_builtins(translation.queue_answer(queue)) for queue in queues])
    else:
        output.show(table.queues_table(queues))


@queue.command()
@click.argument("name")
@with_client
async def pause(client: Client, name: str) -> None:
    """Start no more jobs of a queue; running ones go on."""
    await _check_exists(client, name)
    _tell(await client.update_queue(name, paused=True))


@queue.command()
@click.argument("name")
@with_client
async def resume(client: Client, name: str) -> None:
    """Start jobs of a paused queue again."""
    await _check_exists(client, name)
    _tell(await client.update_queue(name, paused=False))


@queue.command()
@click.argument("name")
@click.argument("limit", metavar="N|none")
@with_client
async def limit(client: Client, name: str, limit: str) -> None:
    """Let at most N jobs of a queue run at a time, or any number; a new name makes a queue."""
    _tell(await client.update_queue(name, max_running=number_or_none(limit, "N")))


async def _check_exists(client: Client, name: str) -> None:
    # The service would make the queue, and a name mistyped would pause nothing.
    if name not in [queue.name for queue in await client.queues()]:
        raise QueueNotFound(name)


def _tell(queue: Queue) -> None:
    state = "paused" if queue.paused else "open"
    at_most = "no limit" if queue.max_running is None else f"at most {queue.max_running} running"
    output.line(f"{queue.name} {state}, {at_most}")
