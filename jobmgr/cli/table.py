"""What commands list, as tables of rich. Text that others wrote is cleaned here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from rich.table import Table
from rich.text import Text

from jobmgr.cli import wording
from jobmgr.cli.output import clean, is_narrow, is_wide
from jobmgr.domain.checkup import Check, Verdict
from jobmgr.domain.job import Attempt, FileEntry, Job, JobError
from jobmgr.domain.queue import Queue, Tally
from jobmgr.domain.resources import Resources, size_text
from jobmgr.domain.site import LOCAL
from jobmgr.domain.status import UNSTARTED, WAITING, Status
from jobmgr.wire.answers import (
    AuditEntryAnswer,
    ClusterAnswer,
    ClusterJobAnswer,
    NodeAnswer,
    PartitionAnswer,
    SiteAnswer,
    StepAnswer,
    TokenAnswer,
    UserAnswer,
)
from jobmgr.wire.translation import parse_moment

_STYLES: Mapping[str, str] = MappingProxyType(
    {
        Status.PENDING: "yellow",
        Status.QUEUED: "yellow",
        Status.CLAIMED: "cyan",
        Status.SCHEDULED: "cyan",
        Status.RUNNING: "cyan",
        Status.PAUSED: "magenta",
        Status.COMPLETED: "green",
        Status.FAILED: "red",
        Status.CANCELLED: "bright_black",
    }
)
_MESSAGE_LENGTH = 200
# In these a job has its first start, if any, from an attempt that is over.
_NOT_STARTED = WAITING | UNSTARTED

_VERDICTS: Mapping[Verdict, str] = MappingProxyType(
    {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "red"}
)


def cell(value: object, style: str = "") -> Text:
    """`value` as text without a meaning to the terminal; None is empty."""
    return Text("" if value is None else clean(str(value)), style=style, no_wrap=True, overflow="ellipsis")


def folded(value: object, style: str = "") -> Text:
    """The same on as many lines as it takes."""
    text = cell(value, style)
    text.no_wrap, text.overflow = False, "fold"
    return text


def status_cell(status: str, reason: str = "") -> Text:
    """A status in its colour, with what it waits for if that is given."""
    return cell(f"{status} ({reason})" if reason else status, _STYLES.get(status, ""))


def jobs_table(
    jobs: Iterable[Job], now: datetime, progress: Mapping[str, str] = MappingProxyType({})
) -> Table:
    """One row per job; where it runs if that is not always here, whose it is if they are not all one user's, and the
    more of the rest the more room there is.

    `progress` is that of some, by their ids; it comes before what is only worth its room.
    """
    jobs = list(jobs)
    wide = is_wide() and not progress
    narrow = is_narrow() or (bool(progress) and not is_wide())
    at_all = {
        "USER": not narrow and len({job.user for job in jobs}) > 1,
        "QUEUE": not narrow,
        "SITE": any(job.site != LOCAL for job in jobs),
        "TRY": not narrow,
        "EXIT": not narrow,
        "SUBMITTED": not (narrow and progress),
        "PROGRESS": bool(progress),
        "PRIORITY": wide,
        "ERROR": wide,
    }
    columns: dict[str, Callable[[Job], Text]] = {
        "ID": lambda job: cell(job.job_id),
        "NAME": lambda job: cell(job.name),
        "STATUS": lambda job: status_cell(job.status, _waits_for(job, now)),
        "USER": lambda job: cell(job.user),
        "QUEUE": lambda job: cell(job.queue),
        "SITE": lambda job: cell(_where(job)),
        "TRY": lambda job: cell(job.attempt or None),
        "EXIT": lambda job: cell(job.exit_code),
        "SUBMITTED": lambda job: cell(
            wording.local(job.created_at) if wide else wording.recent(job.created_at, now)
        ),
        "TOOK": lambda job: cell(_took(job, now)),
        "PROGRESS": lambda job: cell(progress.get(job.job_id)),
        "PRIORITY": lambda job: cell(job.priority),
        "ERROR": lambda job: _error_cell(job.error),
    }
    shown = [name for name in columns if at_all.get(name, True)]
    table = _table(*shown)
    for job in jobs:
        table.add_row(*(columns[name](job) for name in shown))
    return table


def _took(job: Job, now: datetime) -> str | None:
    return None if job.status in _NOT_STARTED else wording.duration(job.started_at, job.finished_at, now)


def _where(job: Job) -> str:
    """Its site, and what it is called there."""
    return job.site if job.site == LOCAL or job.handle is None else f"{job.site} {job.handle}"


def _waits_for(job: Job, now: datetime) -> str:
    """What keeps a job from its queue, or there, in a word: what a person has to do comes first."""
    if job.status in UNSTARTED:
        return "held" if job.held_at is not None else ""
    if job.status is not Status.PENDING:
        return ""
    if job.draft or job.held_at is not None:
        return "draft" if job.draft else "held"
    if job.deps_left:
        return "waits"
    return f"due {wording.recent(job.due_at, now)}" if job.due_at is not None else ""


def _error_cell(error: JobError | None) -> Text:
    # In files and pipes nothing else cuts it; `show` has it whole.
    message = error.message if error else ""
    return cell(message if len(message) <= _MESSAGE_LENGTH else f"{message[: _MESSAGE_LENGTH - 3]}...")


def attempts_table(attempts: Iterable[Attempt], now: datetime) -> Table:
    """One row per attempt of a job."""
    attempts = list(attempts)
    has_grown = any(attempt.grown.asked() for attempt in attempts)
    grown = ("GROWN",) if has_grown else ()
    table = _table("TRY", "OUTCOME", "EXIT", "SIGNAL", "STARTED", "TOOK", "CPU", "MEMORY", *grown, "ERROR")
    for attempt in attempts:
        table.add_row(
            cell(attempt.number),
            status_cell(attempt.outcome or "live"),
            cell(attempt.exit_code),
            cell(attempt.signal),
            cell(wording.local(attempt.started_at)),
            cell(wording.duration(attempt.started_at, attempt.finished_at, now)),
            cell(None if attempt.cpu_s is None else f"{attempt.cpu_s:.2f} s"),
            cell(size_text(attempt.peak_memory_bytes)),
            *((cell(_grown(attempt.grown)),) if has_grown else ()),
            _error_cell(attempt.error),
        )
    return table


def _grown(resources: Resources) -> str:
    return ", ".join(f"{name} {value}" for name, value in wording.amounts(resources))


def files_table(files: Iterable[FileEntry]) -> Table:
    """One row per file of a run directory."""
    table = _table("FILE", "SIZE", "CHANGED")
    for file in files:
        table.add_row(
            cell(file.path), cell(size_text(file.size_bytes)), cell(wording.local(file.modified_at))
        )
    return table


def queues_table(queues: Iterable[Queue]) -> Table:
    """One row per queue, with how many of its jobs are where."""
    table = _table("QUEUE", "STATE", "LIMIT", *(tally.upper() for tally in Tally))
    for queue in queues:
        state = cell("paused", "magenta") if queue.paused else cell("open")
        counts = [cell(queue.counts[tally]) for tally in Tally]
        table.add_row(cell(queue.name), state, cell(queue.max_running), *counts)
    return table


def sites_table(sites: Iterable[SiteAnswer]) -> Table:
    """One row per site; why some are not served, if any are not."""
    sites = list(sites)
    has_trouble = any(site.trouble for site in sites)
    headings = ("SITE", "KIND", "STATE", "HOST", "WORK DIR", "AT MOST")
    table = _table(*headings, *(("FOUND",) if has_trouble else ()))
    for site in sites:
        state = cell("open") if site.enabled else cell("disabled", "magenta")
        if site.enabled and site.trouble:
            state = cell("not served", "red")
        at_most = min(filter(None, (site.max_submitted, site.max_running)), default=None)
        where = (site.host or "here", site.work_dir, at_most)
        row = (cell(site.name), cell(site.kind), state, *map(cell, where))
        table.add_row(*row, *((folded(site.trouble),) if has_trouble else ()))
    return table


def users_table(users: Iterable[UserAnswer]) -> Table:
    """One row per user."""
    table = _table("USER", "ROLE", "STATE", "GROUPS", "ADDED")
    for user in users:
        state = cell("disabled", "magenta") if user.disabled else cell("open")
        added = None if user.created_at is None else wording.local(parse_moment(user.created_at))
        table.add_row(cell(user.name), cell(user.role), state, cell(", ".join(user.groups)), cell(added))
    return table


def tokens_table(tokens: Iterable[TokenAnswer], now: datetime) -> Table:
    """One row per API token."""
    table = _table("ID", "USER", "STATE", "SCOPES", "LABEL", "MADE", "EXPIRES", "LAST USED")
    for token in tokens:
        moments = (token.created_at, token.expires_at, token.last_used_at)
        made, expires, used = (None if at is None else wording.local(parse_moment(at)) for at in moments)
        table.add_row(
            *map(cell, (token.id, token.user)),
            _state_cell(token, now),
            *map(cell, (", ".join(token.scopes), token.label, made, expires or "never", used)),
        )
    return table


def _state_cell(token: TokenAnswer, now: datetime) -> Text:
    if token.revoked_at is not None:
        return cell("revoked", "magenta")
    has_expired = token.expires_at is not None and parse_moment(token.expires_at) <= now
    return cell("expired", "magenta") if has_expired else cell("valid")


def audit_table(entries: Iterable[AuditEntryAnswer]) -> Table:
    """One row per entry of the audit."""
    table = _table("WHEN", "WHO", "FROM", "DID", "JOB", "CHANGED")
    for entry in entries:
        changed = ", ".join(f"{name}={_said(value)}" for name, value in sorted(entry.changed.items()))
        when = wording.local(parse_moment(entry.at))
        table.add_row(*map(cell, (when, entry.actor, entry.origin, entry.kind, entry.job_id, changed)))
    return table


def _said(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def steps_table(steps: Iterable[StepAnswer]) -> Table:
    """One row per step of a trial."""
    table = _table("STEP", "RESULT", "FOUND")
    for step in steps:
        result = cell("ok", "green") if step.is_well else cell("failed", "red")
        table.add_row(cell(step.name), result, folded(step.said))
    return table


def clusters_table(clusters: Iterable[ClusterAnswer]) -> Table:
    """One row per site: how large and busy its cluster is."""
    table = _table("SITE", "KIND", "STATE", "NODES UP", "CPUS USED", "GPUS", "RUNNING", "WAITING", "TOLD")
    for cluster in clusters:
        state = cell("open") if cluster.enabled else cell("disabled", "magenta")
        counts = (
            wording.share(cluster.nodes_up, cluster.nodes),
            wording.share(cluster.cpus_used, cluster.cpus),
            cluster.gpus,
        )
        jobs = (cluster.jobs_running, cluster.jobs_waiting)
        told = cell(_told(cluster), "red" if cluster.trouble else "")
        table.add_row(cell(cluster.site), cell(cluster.kind), state, *map(cell, (*counts, *jobs)), told)
    return table


def _told(cluster: ClusterAnswer) -> str | None:
    """How old it is, and whether there is nothing newer."""
    when = wording.ago(cluster.age_s)
    if not cluster.trouble:
        return when
    return "no answer" if when is None else f"no answer, last {when}"


def partitions_table(partitions: Iterable[PartitionAnswer]) -> Table:
    """One row per partition; the default one has a star."""
    table = _table("PARTITION", "STATE", "AT MOST", "NODES", "CPUS", "RUNNING", "WAITING")
    for each in partitions:
        name = f"{each.name}*" if each.is_default else each.name
        sizes = (
            wording.seconds(each.max_walltime_s),
            each.nodes,
            each.cpus,
            each.jobs_running,
            each.jobs_pending,
        )
        table.add_row(
            cell(name), _up_cell("up" if each.is_up else "down", is_up=each.is_up), *map(cell, sizes)
        )
    return table


def nodes_table(nodes: Iterable[NodeAnswer]) -> Table:
    """One row per machine."""
    table = _table("NODE", "STATE", "CPUS USED", "MEMORY", "GPUS", "PARTITIONS")
    for node in nodes:
        sizes = (wording.share(node.cpus_used, node.cpus), size_text(node.memory_bytes), node.gpus)
        state = _up_cell(node.state, is_up=node.is_up)
        table.add_row(cell(node.name), state, *map(cell, (*sizes, ",".join(node.partitions))))
    return table


def cluster_jobs_table(jobs: Iterable[ClusterJobAnswer], now: datetime) -> Table:
    """One row per job of anybody."""
    table = _table("ID", "NAME", "USER", "PARTITION", "STATE", "START", "WHERE OR WHY")
    for job in jobs:
        start = job.started_at or job.expected_start
        when = None if start is None else wording.recent(parse_moment(start), now)
        expected = "" if job.started_at else "~"
        table.add_row(
            *map(cell, (job.id, job.name, job.user, job.partition, job.state)),
            cell(None if when is None else expected + when),
            cell(job.nodes or job.reason),
        )
    return table


def _up_cell(state: str, *, is_up: bool) -> Text:
    return cell(state, "green" if is_up else "red")


def checks_table(checks: Iterable[Check]) -> Table:
    """One row per check of the installation."""
    table = _table("CHECK", "RESULT", "FOUND")
    for check in checks:
        result = cell(check.verdict, _VERDICTS[check.verdict])
        table.add_row(cell(check.name), result, folded(check.found))
    return table


def facts_table(facts: Sequence[tuple[str, object]]) -> Table:
    """Two columns, name and value; facts without a value are left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in facts:
        if value not in (None, ""):
            style = _STYLES.get(str(value), "") if name == "status" else ""
            table.add_row(cell(name, "bold"), folded(value, style))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        # Rich takes room from columns that may wrap first; their cells do not wrap, so each job stays one row.
        table.add_column(
            heading, no_wrap=heading not in ("NAME", "ERROR", "FILE", "FOUND", "PROGRESS", "LABEL", "CHANGED")
        )
    return table
