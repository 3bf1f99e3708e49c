"""What commands that talk to a service have in common: a client, and job ids from arguments or a pipe."""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec

import click

from jobmgr.cli import output
from jobmgr.client import Client
from jobmgr.errors import AccessDenied, UserNotFound

P = ParamSpec("P")


def with_client(
    command: Callable[Concatenate[Client, P], Coroutine[Any, Any, int | None]],
) -> Callable[P, int | None]:
    """The command as click calls it: with an open client first, in an event loop of its own."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> int | None:
        async def call() -> int | None:
            async with new_client() as client:
                return await command(client, *args, **kwargs)

        return asyncio.run(call())

    return run


def new_client() -> Client:
    """A client for the service that the command line names."""
    url = click.get_current_context().find_root().params["url"]
    return Client(url, on_warning=lambda sentence: output.note(f"warning: {sentence}"))


async def note_unknown_user(client: Client, name: str) -> None:
    """Say so if nobody is called so, where a name mistyped would look like a user who did nothing."""
    try:
        known = [each.name for each in await client.users()]
    except AccessDenied:
        return  # Users are for admins to see.
    if name not in known:
        output.note(str(UserNotFound(name)))


def expand(job_ids: Sequence[str]) -> list[str]:
    """The ids given, with `-` replaced by those on stdin; each once, in their order."""
    found: dict[str, None] = {}
    for job_id in job_ids:
        if job_id == "-":
            found.update(dict.fromkeys(sys.stdin.read().split()))
        else:
            found[job_id] = None
    return list(found)


def batched(items: Sequence[str], count: int) -> Iterator[Sequence[str]]:
    """The items in groups of `count`; the last one may be smaller."""
    for start in range(0, len(items), count):
        yield items[start : start + count]
