"""`cluster`: what the schedulers of the sites tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, get_args

import click
import msgspec

from jobmgr.cli import output, table, wording
from jobmgr.cli.jobs import TABLE_ROWS
from jobmgr.cli.main import DONE, exit_code
from jobmgr.cli.session import with_client
from jobmgr.client import Client
from jobmgr.client.client import PAGE_SIZE
from jobmgr.domain.site import LOCAL
from jobmgr.errors import ClusterUnavailable
from jobmgr.wire.answers import (
    ClusterAnswer,
    ClusterJobsAnswer,
    ClustersAnswer,
    NodesAnswer,
    PartitionsAnswer,
)
from jobmgr.wire.requests import ForeignPhase

_WONDER_S = 1.0

T = TypeVar("T")
Told = ClusterAnswer | PartitionsAnswer | NodesAnswer | ClusterJobsAnswer


@click.command()
@click.argument("site", required=False)
@click.argument(
    "what",
    required=False,
    type=click.Choice(["partitions", "nodes", "jobs"]),
    metavar="[partitions|nodes|jobs]",
)
@click.option("--user", help="Only jobs of this user.")
@click.option("--partition", help="Only jobs in this partition.")
@click.option(
    "--phase", multiple=True, type=click.Choice(get_args(ForeignPhase)), help="Only such jobs; repeatable."
)
@click.option(
    "--limit", type=click.IntRange(min=0), help=f"At most so many jobs; 0: all (table: {TABLE_ROWS})."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_client
async def cluster(
    client: Client, /, site: str | None, what: str | None, *, limit: int | None, as_json: bool, **filters: Any
) -> int:
    """Show partitions, machines and jobs of sites.

    It is what their schedulers tell, of everybody's jobs, and is remembered for half a minute. Without SITE all
    sites are shown; as long as there are none, also which schedulers are installed here.
    """
    if what != "jobs" and (limit is not None or any(filters.values())):
        raise click.UsageError(
            "--user, --partition, --phase and --limit select jobs: `jobmgr cluster SITE jobs`"
        )
    with _telling_what_is_waited_for(site):
        if site is None:
            return await _show(client.clusters(), _clusters, as_json=as_json)
        match what:
            case "partitions":
                return await _show(client.partitions(site), _partitions, as_json=as_json)
            case "nodes":
                return await _show(client.nodes(site), _nodes, as_json=as_json)
            case "jobs":
                if limit is None:
                    limit = 0 if as_json else TABLE_ROWS
                return await _show(_read_jobs(client, site, limit, filters), _jobs, as_json=as_json)
            case _:
                return await _show(client.cluster(site), _cluster, as_json=as_json)


@contextmanager
def _telling_what_is_waited_for(site: str | None) -> Iterator[None]:
    """A line about it if it takes long enough for somebody to wonder."""
    whom = "the schedulers" if site is None else f"the scheduler of {site}"
    line = f"waiting for {whom} to answer, for half a minute at most"
    timer = asyncio.get_running_loop().call_later(_WONDER_S, output.note, line)
    try:
        yield
    finally:
        timer.cancel()


async def _show(told: Awaitable[T], show: Callable[[T], None], *, as_json: bool) -> int:
    """Print what is told; if a scheduler does not tell, what it told last, and why it does not."""
    try:
        answer, trouble = await told, None
    except ClusterUnavailable as error:
        if error.last is None:
            raise
        answer, trouble = error.last, error
    if as_json:
        output.as_json(msgspec.to_builtins(answer))
    else:
        show(answer)
    if trouble is None:
        return DONE
    output.error(str(trouble))
    return exit_code(trouble)


def _clusters(answer: ClustersAnswer) -> None:
    output.show(table.clusters_table(answer.clusters))
    for each in answer.clusters:
        if each.trouble:
            output.note(f"{each.site}: {each.trouble}")
    if any(each.site != LOCAL for each in answer.clusters):
        return
    output.line("")
    for found in answer.installed:
        output.line(
            f"{found.version} is installed here; `jobmgr site add {found.kind} --kind {found.kind}` adds it"
        )
    if not answer.installed:
        output.line("no scheduler is installed here; `jobmgr site add --help` tells how to add one over SSH")


def _cluster(answer: ClusterAnswer) -> None:
    facts: Sequence[tuple[str, object]] = (
        ("site", answer.site),
        ("kind", answer.kind),
        ("host", answer.host or "here"),
        ("state", "open" if answer.enabled else "disabled"),
        ("nodes up", wording.share(answer.nodes_up, answer.nodes)),
        ("cpus used", wording.share(answer.cpus_used, answer.cpus)),
        ("gpus", answer.gpus),
        ("jobs running", answer.jobs_running),
        ("jobs waiting", answer.jobs_waiting),
        ("told", wording.ago(answer.age_s)),
    )
    output.show(table.facts_table(facts))


def _partitions(answer: PartitionsAnswer) -> None:
    if answer.partitions:
        output.show(table.partitions_table(answer.partitions))
    _tell_age(answer.age_s, "" if answer.partitions else f"{answer.site} has no partitions")


def _nodes(answer: NodesAnswer) -> None:
    output.show(table.nodes_table(answer.nodes))
    _tell_age(answer.age_s)


def _jobs(answer: ClusterJobsAnswer) -> None:
    if answer.jobs:
        output.show(table.cluster_jobs_table(answer.jobs, wording.utc_now()))
    more = (
        f"these are {len(answer.jobs)} of {answer.total}; `--limit 0` lists all" if answer.next_cursor else ""
    )
    _tell_age(answer.age_s, more if answer.jobs else "no jobs")
    if not answer.complete:
        output.note(f"there may be more jobs: {answer.why}")


def _tell_age(age_s: float, *notes: str) -> None:
    """Notes beside a table; how old it is, if it is not of this moment."""
    for note in (*notes, f"told {wording.ago(age_s)}" if age_s >= 1 else ""):
        if note:
            output.note(note)


async def _read_jobs(client: Client, site: str, limit: int, filters: dict[str, Any]) -> ClusterJobsAnswer:
    """The first `limit` jobs (0: all) as one page."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        size = min(limit - len(found), PAGE_SIZE) if limit else PAGE_SIZE
        page = await client.cluster_jobs(site, limit=size, cursor=cursor, **filters)
        found += page.jobs
        cursor = page.next_cursor
        if cursor is None or len(found) == limit:
            page.jobs = found
            return page
