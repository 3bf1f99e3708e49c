"""`watch`: the jobs while they run, drawn anew when something happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field

import click
import msgspec
from rich.console import Group, RenderableType

from jobmgr.cli import output, table, wording
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.domain.job import Event, EventPosition, Job, JobPage
from jobmgr.domain.queue import Queue
from jobmgr.domain.status import Status
from jobmgr.errors import EventsGone, ExecutorUnavailable, JobmgrError, NotFound, SiteError
from jobmgr.hfss.job import KIND
from jobmgr.wire import translation

# How often what changed is read again at most, and how often the times are drawn on.
_READ_S = 0.5
_DRAW_S = 1.0
_LATEST = 15


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")
@with_client
async def watch(client: Client, *, as_json: bool) -> None:
    """Watch counts and the latest jobs until Ctrl-C; without a terminal, print a line for every event."""
    if as_json or not output.is_terminal():
        await _print_events(client, as_json=as_json)
    else:
        await _draw(client)


async def _print_events(client: Client, *, as_json: bool) -> None:
    async for event in _events(client, None):
        if as_json:
            output.as_json_line(msgspec.to_builtins(translation.event_answer(event)))
        else:
            code = event.data.get("exit_code")
            result = "" if code is None else f" exit code {code}"
            output.line(f"{wording.local(event.at)} {event.kind} {event.job_id or ''}{result}")
            output.flush()


async def _events(client: Client, after: EventPosition | None) -> AsyncGenerator[Event, None]:
    """Events without end, also when some were missed."""
    while True:
        try:
            async with aclosing(client.follow_events(after)) as events:
                async for event in events:
                    yield event
        except EventsGone as gone:
            output.note("some events were missed")
            after = EventPosition(gone.epoch, gone.seq) if gone.epoch else None


@dataclass(slots=True)
class _View:
    """What is drawn; `lost` says why the service cannot be read at the moment."""

    queues: list[Queue] = field(default_factory=list)
    page: JobPage | None = None
    progress: Mapping[str, str] = field(default_factory=dict)
    lost: str = ""

    @property
    def is_moving(self) -> bool:
        """Whether there are simulations, of which no event says how far they are."""
        return self.page is not None and any(map(_is_moving, self.page.jobs))

    async def read(self, client: Client) -> None:
        self.queues = list(await client.queues())
        self.page = await client.list_page(limit=_LATEST)
        moving = [job.job_id for job in self.page.jobs if _is_moving(job)]
        self.progress = dict(
            zip(moving, await asyncio.gather(*(_line(client, one) for one in moving)), strict=True)
        )
        self.lost = ""

    def drawn(self) -> Group:
        jobs = self.page.jobs if self.page else []
        parts: list[RenderableType] = [
            table.queues_table(self.queues),
            table.cell(""),
            table.jobs_table(jobs, wording.utc_now(), self.progress),
        ]
        if self.lost:
            parts.append(table.cell(self.lost, "red"))
        return Group(*parts)


def _is_moving(job: Job) -> bool:
    return job.kind == KIND and job.status is Status.RUNNING


async def _line(client: Client, job_id: str) -> str:
    # Of a site that does not answer now there is nothing to draw.
    with contextlib.suppress(ExecutorUnavailable, NotFound, SiteError):
        return (await client.progress(job_id)).line
    return ""


async def _draw(client: Client) -> None:
    view = _View()
    await view.read(client)
    assert view.page is not None
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_notice(client, view.page.position, changed))
        with output.live() as draw:
            while True:
                draw(view.drawn())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DRAW_S):
                        await changed.wait()
                if changed.is_set() or view.lost or view.is_moving:
                    await asyncio.sleep(_READ_S)
                    changed.clear()
                    try:
                        await view.read(client)
                    except JobmgrError as error:
                        view.lost = str(error)


async def _notice(client: Client, after: EventPosition, changed: asyncio.Event) -> None:
    while True:
        # Who watches decides how long a service is waited for.
        with contextlib.suppress(JobmgrError):
            async for _ in _events(client, after):
                changed.set()
        changed.set()
        await asyncio.sleep(_DRAW_S)
