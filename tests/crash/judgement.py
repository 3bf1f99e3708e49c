"""The judgement at the end of a campaign: each promise of docs/architecture.md, checked against what was observed.

Ledger, database, control directories, process table and logs are compared with each other and with what was
asked. One function for all tests, so that none judges more mildly than another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from jobmgr.domain.job import When
from jobmgr.domain.outcome import LOST, RELEASED
from jobmgr.domain.queue import Tally
from jobmgr.domain.status import TERMINAL, Status
from jobmgr.executors import process
from tests import remnant
from tests.crash import record
from tests.crash.holder import Casualties, Content, control_file, holding
from tests.crash.ledger import Line, Plan
from tests.crash.reader import Reader
from tests.crash.record import Record, Row
from tests.crash.site import Site
from tests.crash.walk import Walk

# The gate was passed and the keeper died before the command started; the exit record of its warden proves that.
NEVER_STARTED = "keeper_died_before_start"
DISK_FULL = "disk_full"
_LOST_ALONE = "lost although not both of its holders were killed"
_LOST_RECORDED = "lost although there is an exit record"
# What is counted although it must be 0; each is a breach too.
_NEVER = ("doubled", "wrong outcomes", _LOST_ALONE, _LOST_RECORDED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was counted, and each promise that was broken, as a sentence."""

    breaches: list[str]
    counts: Counter[str] = field(default_factory=Counter)


async def judge(site: Site, reader: Reader | None = None) -> Verdict:
    """Judge a site whose jobs should all have ended and whose service runs.

    `reader` followed the events meanwhile; without one they are read now.
    """
    reader = reader or Reader(site.service)
    await reader.read_on()
    rows = await record.read(site.database)
    lines = site.ledger.lines()
    counts = Counter(dict.fromkeys(_NEVER, 0))
    breaches = [
        *_submissions(site, rows),
        *_starts(rows, lines, counts),
        *_attempts(site, rows, lines, counts),
        *_jobs(site, rows, counts),
        *_control_directories(site, rows),
        *_processes(site),
        *_events(rows),
        *reader.compare(rows.events),
        *_tallies(rows),
        *_logs(site),
    ]
    return Verdict(breaches, counts)


def _submissions(site: Site, rows: Record) -> Iterator[str]:
    for plan in site.plans.values():
        if plan.is_answered and plan.job_id not in rows.jobs:
            yield f"job {plan.job_id} was answered and is not stored"
    for job_id in rows.jobs.keys() - site.plans.keys():
        yield f"job {job_id} was never submitted"


def _starts(rows: Record, lines: Sequence[Line], counts: Counter[str]) -> Iterator[str]:
    counts["started lines"] = len(lines)
    known = {row.token: (job_id, row.number) for job_id, found in rows.attempts.items() for row in found}
    for line, times in Counter(lines).items():
        if known.get(line.token) != (line.job_id, line.number):
            yield f"{line} was started and is no attempt of the database"
        if times > 1:
            counts["doubled"] += 1
            yield f"{line} was started {times} times"


def _attempts(site: Site, rows: Record, lines: Sequence[Line], counts: Counter[str]) -> Iterator[str]:
    starts = Counter(line.token for line in lines)
    for job_id, found in rows.attempts.items():
        plan = site.plans.get(job_id)
        for attempt in found:
            counts["attempts"] += 1
            counts[f"attempts {attempt.outcome}"] += 1
            about = f"attempt {attempt.number} of {job_id} ({attempt.outcome})"
            for breach in _attempt(site, plan, attempt, starts[attempt.token], counts):
                yield f"{about}: {breach}"


def _attempt(site: Site, plan: Plan | None, attempt: Row, starts: int, counts: Counter[str]) -> Iterator[str]:
    if attempt.outcome is None:
        yield "has no end"
        return
    if plan is not None and plan.may_lack_space and attempt.error_code == DISK_FULL:
        yield from _without_space(site, attempt, starts)
        return
    yield from _evidence(site, attempt, counts)
    least, most = _expected_starts(attempt)
    if not least <= starts <= most:
        yield f"its command was started {starts} times ({attempt.error_code}: {attempt.error_message})"
    if plan is not None and attempt.outcome not in (RELEASED, LOST):
        found = list(_end(plan, attempt))
        counts["wrong outcomes"] += len(found)
        yield from found


def _without_space(site: Site, attempt: Row, starts: int) -> Iterator[str]:
    """Whether it did not run and left nothing that says otherwise: there was no space for a void gate either."""
    for name in ("gate", "exit"):
        content = control_file(site.work, attempt.job_id, attempt.number, name)
        if content is not None and content.get("decision") != "void":
            yield f"there was no space, and its {name} is {content}"
    if starts:
        yield f"there was no space, and its command was started {starts} times"


def _evidence(site: Site, attempt: Row, counts: Counter[str]) -> Iterator[str]:
    """Whether the row says what gate and exit record say."""
    gate = control_file(site.work, attempt.job_id, attempt.number, "gate")
    exit_record = control_file(site.work, attempt.job_id, attempt.number, "exit")
    for content in (gate, exit_record):
        if content is not None and content["token"] != attempt.token:
            yield f"its control directory says {content}"
    if attempt.outcome == RELEASED:
        yield from _released(gate, exit_record)
    elif attempt.outcome == LOST:
        yield from _lost(site.casualties, gate, exit_record, counts)
    elif exit_record is None:
        yield "has ended without an exit record"
    else:
        for name in ("exit_code", "signal", "ended_by"):
            if exit_record[name] != getattr(attempt, name):
                yield f"its {name} is {getattr(attempt, name)}, its exit record says {exit_record[name]}"


def _released(gate: Content | None, exit_record: Content | None) -> Iterator[str]:
    is_void = gate is None or gate["decision"] == "void"
    never_started = exit_record is not None and (exit_record["error"] or {}).get("code") == NEVER_STARTED
    if not is_void and not never_started:
        yield f"is released, and its gate is not void; its exit record is {exit_record}"


def _lost(
    casualties: Casualties, gate: Content | None, exit_record: Content | None, counts: Counter[str]
) -> Iterator[str]:
    if exit_record is not None:
        counts[_LOST_RECORDED] += 1
        yield "there is an exit record"
    held = holding(gate)
    dead = [] if held is None else [casualties.is_among(held.keeper), casualties.is_among(held.warden)]
    if dead == [True, True]:
        counts["lost by the death of keeper and warden"] += 1
        return
    counts[_LOST_ALONE] += 1
    yield f"was given up, with (keeper, warden) killed: {dead}"


def _expected_starts(attempt: Row) -> tuple[int, int]:
    """How many lines an attempt with this end has at least and at most."""
    if attempt.outcome == RELEASED or attempt.error_code in ("program_not_found", NEVER_STARTED):
        return 0, 0
    if attempt.exit_code is not None or (attempt.signal is not None and attempt.ended_by == "self"):
        return 1, 1
    # Lost, or ended from outside, perhaps before the first instruction of the command.
    return 0, 1


def _end(plan: Plan, attempt: Row) -> Iterator[str]:
    """Whether the attempt ended as its command does, or as somebody wanted."""
    seen = f"exit code {attempt.exit_code}, signal {attempt.signal}, error {attempt.error_code}"
    if attempt.ended_by == "cancel":
        if not plan.cancel_asked:
            yield f"was cancelled, and nobody asked for it: {seen}"
    elif attempt.ended_by == "walltime":
        if not plan.times_out:
            yield f"ran into its time limit: {seen}"
    elif plan.times_out:
        yield f"did not run into its time limit: {seen}"
    elif plan.error_code is not None:
        if attempt.error_code != plan.error_code:
            yield f"should fail with {plan.error_code}: {seen}"
    elif (attempt.exit_code, attempt.signal) != (plan.exit_code, plan.signal):
        yield f"should end with exit code {plan.exit_code}, signal {plan.signal}: {seen}"


def _jobs(site: Site, rows: Record, counts: Counter[str]) -> Iterator[str]:
    statuses = {job_id: Status(job.status) for job_id, job in rows.jobs.items()}
    for job_id, job in rows.jobs.items():
        counts["jobs"] += 1
        counts[f"jobs {job.status}"] += 1
        plan = site.plans.get(job_id)
        if plan is None:
            continue
        found = [*_job(plan, job, rows.attempts[job_id]), *_dependencies(plan, job, statuses, site)]
        counts["wrong outcomes"] += len(found)
        for breach in found:
            yield f"job {job_id} ({job.status}): {breach}"


def _job(plan: Plan, job: Row, attempts: Sequence[Row]) -> Iterator[str]:
    if Status(job.status) not in TERMINAL:
        yield "has not ended"
        return
    yield from _numbers(plan, job, attempts)
    yield from _status(plan, job, attempts)


def _numbers(plan: Plan, job: Row, attempts: Sequence[Row]) -> Iterator[str]:
    numbers = [one.number for one in attempts]
    if numbers != list(range(1, len(attempts) + 1)) or job.attempt != len(attempts):
        yield f"its last attempt is {job.attempt}, there are {numbers}"
    if any(one.counted != (one.outcome != RELEASED) for one in attempts):
        yield "a released attempt counts, or another one does not"
    tried = sum(one.counted for one in attempts)
    if tried > plan.max_attempts * (1 + plan.retries_asked):
        yield f"was tried {tried} times"
    has_failed = bool(attempts) and job.status == Status.FAILED and attempts[-1].outcome == "failed"
    if has_failed and not plan.cancel_asked and not plan.retries_asked and tried != plan.max_attempts:
        yield f"was given up after {tried} of {plan.max_attempts} attempts"


def _status(plan: Plan, job: Row, attempts: Sequence[Row]) -> Iterator[str]:
    last = attempts[-1].outcome if attempts else None
    if job.status == Status.CANCELLED:
        if not plan.cancel_asked and job.error_code != "dependency_failed":
            yield f"nobody asked for it: {job.error_code}"
    elif job.status == Status.COMPLETED:
        if last != "completed" or plan.exit_code != 0 or job.exit_code != 0:
            yield f"its last attempt is {last}, exit code {job.exit_code}, its command's {plan.exit_code}"
    elif last not in ("failed", LOST):
        yield f"its last attempt is {last}"


def _dependencies(plan: Plan, job: Row, statuses: dict[str, Status], site: Site) -> Iterator[str]:
    # A parent that was run again may have ended otherwise before.
    parents = {p: when for p, when in plan.parents.items() if not site.plans[p].retries_asked}
    met = all(When(when).is_met_by(statuses[parent]) for parent, when in parents.items())
    if job.attempt > 0 and not met:
        yield f"has run, and its parents are {[statuses[parent] for parent in parents]}"
    if job.error_code == "dependency_failed" and met and len(parents) == len(plan.parents):
        yield f"could have run, its parents are {[statuses[parent] for parent in parents]}"


def _control_directories(site: Site, rows: Record) -> Iterator[str]:
    known = {(job_id, str(row.number)) for job_id, found in rows.attempts.items() for row in found}
    for path in (site.work / "control").glob("*/*"):
        if (path.parent.name, path.name) not in known:
            yield f"the control directory {path} belongs to no attempt"


def _processes(site: Site) -> Iterator[str]:
    for stat in remnant.commands(site.work):
        token = process.token_of(stat.pid)
        yield f"process {stat.pid} of attempt {token} still runs: {remnant.arguments(stat.pid)!r}"
    for who, status in site.service.ends:
        if not site.casualties.is_among(who):
            yield f"the service ended by itself, with {status}:\n{site.service.log_tail()}"


def _tallies(rows: Record) -> Iterator[str]:
    counted = Counter((job.queue, Tally.of(Status(job.status))) for job in rows.jobs.values())
    for queue in rows.queues:
        for tally in Tally:
            said, there = getattr(queue, tally.value), counted[queue.name, tally]
            if said != there:
                yield f"queue {queue.name} says {said} {tally}, there are {there}"


def _logs(site: Site) -> Iterator[str]:
    for path in (site.service.log, site.work / "keepers.log"):
        text = path.read_text(errors="replace") if path.exists() else ""
        for mark in ("Traceback", " CRITICAL "):
            if mark in text:
                at = text.index(mark)
                yield f"{path.name} has a {mark.strip()}: {text[max(0, at - 300) : at + 1500]}"


def _events(rows: Record) -> Iterator[str]:
    for job_id, events in rows.events_of().items():
        for breach in Walk().follow(events):
            yield f"events of {job_id}: {breach}"
        claimed = sum(event.kind == "claimed" for event in events)
        if claimed != len(rows.attempts.get(job_id, [])):
            yield f"events of {job_id}: {claimed} claims, {len(rows.attempts.get(job_id, []))} attempts"
