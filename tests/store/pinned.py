"""The statements whose cost must not grow with what is stored: by the functions that send them, and what they need."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jobmgr.dispatch.admission import choose
from jobmgr.domain.access import Sight
from jobmgr.domain.audit import AuditFilter
from jobmgr.domain.job import EventPosition
from jobmgr.domain.once import Once
from jobmgr.domain.outcome import End, Outcome
from jobmgr.domain.status import Status
from jobmgr.store import (
    api_tokens,
    attempts,
    audit,
    claims,
    dependencies,
    dispatchers,
    events,
    idempotency,
    jobs,
    listing,
    ownership,
    queues,
    simulations,
    submissions,
    waiting,
)
from jobmgr.store.attempts import Finish, Start, Turn
from jobmgr.store.claims import Claim, Room
from jobmgr.store.fence import Key
from jobmgr.store.ownership import Adoption, Unreachable
from jobmgr.store.transaction import Transaction
from tests.store import history, plans
from tests.store.worker import new_job

LIVE = [
    Key(job, 1, f"token-{job}", 1) for job in range(history.FIRST_LIVE, history.FIRST_LIVE + history.LIVE)
]
_TOKENS = [key.token for key in LIVE]
_RUNNING = f"j{history.FIRST_LIVE}"
_QUEUED = f"j{history.ENDED + 2}"
_NOW = datetime(2026, 2, 1, tzinfo=UTC)
_ME = "user-1"
_OF_ONE_USER = AuditFilter(actor=_ME, kind="submitted", since=datetime(2026, 1, 1, tzinfo=UTC), until=_NOW)
_FAR_BACK = "2026-01-01T04:00:00.000000Z_14400"


@dataclass(frozen=True, slots=True)
class Pinned:
    """What `work` sends reads no growing table as a whole, uses `index` (a pattern), and sorts nothing.

    Unless it says why it may: what is sorted then is as much as was asked for, or as much as is live. The one index
    that it may read as a whole is `walks`.
    """

    name: str
    work: Callable[[Transaction], object]
    index: str = ""
    sorts_because: str = ""
    walks: str = ""


def faults(tx: Transaction, pinned: Pinned) -> list[str]:
    """What is wrong with the plans of these statements on this database."""
    found = plans.of_work(tx.connection, lambda: pinned.work(tx), generic=True)
    wrong = [step for plan in found for step in plans.full_reads(plan, pinned.walks)]
    if not pinned.sorts_because:
        wrong += [step for plan in found for step in plans.sorts(plan)]
    if not re.search(pinned.index, "\n".join(found)):
        wrong.append(f"nothing uses {pinned.index}")
    return wrong


def _finish(tx: Transaction) -> object:
    def completed(_rules: object, _at: datetime) -> Outcome:
        return Outcome(Status.COMPLETED, "completed", None)

    ends = [Finish(key, End(exit_code=0), completed, _NOW, _NOW, "/run") for key in LIVE]
    return attempts.finish(tx, ends)


def _repeat_requests(tx: Transaction) -> object:
    return idempotency.begin(tx, [Once("me", key, "f") for key in _mostly_new(range(20))])


def _take_keys(tx: Transaction) -> object:
    once = Once("me", "a new key", "f")
    taken = idempotency.begin(tx, [once])
    idempotency.end(tx, {once: "[]"})
    return taken


def _repeat_submissions(tx: Transaction) -> object:
    # Of one user, as those of a campaign are.
    keys = _mostly_new(range(1, 1000, 50))
    return idempotency.known(tx, [new_job(key, user=_ME, key=key, fingerprint="f") for key in keys])


def _mostly_new(known: Sequence[int]) -> list[str]:
    """As many keys as go into one statement, of which few are known: what is read must be as little as is found."""
    return [f"key-{number}" for number in known] + [f"new-{number}" for number in range(480)]


def _submit_dependants(tx: Transaction) -> object:
    return submissions.insert(
        tx, [[new_job(f"child-{number}", after=("j7", _QUEUED)) for number in range(20)]]
    )


def _page_of_events(tx: Transaction) -> object:
    now = events.position(tx.connection)
    return events.page(tx.connection, EventPosition(now.epoch, 17), 100)


def _change(
    batch: Callable[[Transaction, Sequence[str]], object], *job_ids: str
) -> Callable[[Transaction], object]:
    return lambda tx: batch(tx, job_ids)


_MACHINE = Room(8, 8, 2**33, ())
_FREE = Room(8, 8, 2**30, ())
_FEW = "as many as are live or were asked for"
_ONE_JOBS = "what belongs to one job"
_KEY = r'user=\? AND key=\?|"user" = .*key = '

PINNED = (
    # The dispatcher
    Pinned(
        "claim",
        lambda tx: claims.claim(tx, [Claim(history.DISPATCHER, "local", _FREE, choose)]),
        "ix_jobs_queued",
    ),
    Pinned(
        "claim for a foreign queue",
        lambda tx: claims.claim(tx, [Claim("another", "local", Room.elsewhere(8), choose)]),
        "uq_attempts_live",
    ),
    Pinned(
        "passed over",
        lambda tx: claims.passed_over(tx.connection, "local", Room(8, 1, 2**30, ()), _MACHINE),
        "ix_jobs_asking",
    ),
    Pinned(
        "start",
        lambda tx: attempts.start(tx, [Start(key, "handle", _NOW, "/run") for key in LIVE]),
        "uq_attempts_live|pk_attempts|autoindex_attempts",
        _FEW,
    ),
    Pinned("finish", _finish, "ix_dependencies_parent", _FEW),
    Pinned("turn", lambda tx: attempts.turn(tx, [Turn(key, is_paused=True) for key in LIVE]), "", _FEW),
    Pinned(
        "due jobs, looking",
        lambda tx: waiting.next_due(tx.connection),
        "ix_jobs_due",
        # From its beginning. Without statistics PostgreSQL takes it for so small that it gathers all of it.
        walks="ix_jobs_due",
    ),
    Pinned(
        "due jobs, promoting",
        lambda tx: waiting.promote_due(tx, [100]),
        "ix_jobs_due",
        "PostgreSQL without statistics expects fewer than it was asked for",
    ),
    Pinned(
        "wishes to cancel",
        lambda tx: attempts.cancel_wishes(tx.connection, history.DISPATCHER),
        "ix_jobs_cancelling|uq_attempts_live",
    ),
    Pinned(
        "wishes to pause",
        lambda tx: attempts.pause_wishes(tx.connection, history.DISPATCHER),
        "ix_jobs_pausing|uq_attempts_live",
    ),
    Pinned(
        "wishes for foreign queues",
        lambda tx: attempts.untold_wishes(tx.connection, history.DISPATCHER),
        "ix_jobs_untold|uq_attempts_live",
        # Only what is still to be told is in it.
        walks="ix_jobs_untold",
    ),
    # Recovery
    Pinned(
        "adoption",
        lambda tx: ownership.adopt(tx, [Adoption("worker", [history.DISPATCHER])]),
        "uq_attempts_live",
    ),
    Pinned(
        "own live attempts",
        lambda tx: ownership.of_dispatcher(tx.connection, history.DISPATCHER),
        "uq_attempts_live",
    ),
    Pinned("peers", lambda tx: dispatchers.peers(tx.connection, "other"), "uq_attempts_live", "services"),
    Pinned(
        "reclaim",
        lambda tx: ownership.reclaim(tx, [(history.DISPATCHER, _TOKENS)]),
        "uq_attempts_token|uq_attempts_live|sqlite_autoindex_attempts",
    ),
    Pinned(
        "unreachable",
        lambda tx: ownership.unreachable(tx, [Unreachable(key, "why") for key in LIVE]),
        "",
        _FEW,
    ),
    Pinned(
        "unattended",
        lambda tx: ownership.unattended(tx, [history.DISPATCHER]),
        "uq_attempts_live",
        _FEW,
    ),
    # Events
    Pinned("events after a position", _page_of_events, "pk_events|USING INTEGER PRIMARY KEY"),
    Pinned("events that follow", lambda tx: events.tail(tx.connection, 10, 2000)),
    Pinned(
        "events of a job", lambda tx: events.of_job(tx.connection, 17, 0, 100), "ix_events_job", _ONE_JOBS
    ),
    # Who did what
    Pinned(
        "audit, its first page",
        lambda tx: audit.page(tx.connection, AuditFilter(), 100, None),
        "ix_events_audit",
        # From its end. Other filters search in the index, and do not look at the events.
        walks="ix_events_audit",
    ),
    Pinned(
        "audit, a page of what one user did",
        lambda tx: audit.page(tx.connection, _OF_ONE_USER, 100, _FAR_BACK),
        "ix_events_audit",
    ),
    # Who shows a token
    Pinned(
        "API tokens",
        lambda tx: api_tokens.known(
            tx.connection, [f"{number:012x}" for number in (5, 6, history.API_TOKENS)]
        ),
        "pk_api_tokens|sqlite_autoindex_api_tokens_1",
    ),
    Pinned(
        "token of a job that runs",
        lambda tx: attempts.live(tx.connection, _RUNNING, 1),
        "uq_jobs_job_id|sqlite_autoindex_jobs_1",
    ),
    # Changes that are made once
    Pinned("requests asked again", _repeat_requests, _KEY),
    Pinned("new requests", _take_keys, "ix_idempotency_created_at"),
    Pinned("submissions asked again", _repeat_submissions, _KEY),
    # Changes by users
    Pinned("submission of dependants", _submit_dependants, "", _FEW),
    Pinned("cancel what waits", _change(jobs.cancel, _QUEUED), "", _ONE_JOBS),
    Pinned("cancel what runs", _change(jobs.cancel, _RUNNING), "", _ONE_JOBS),
    Pinned("pause", _change(jobs.pause, _RUNNING), "", _ONE_JOBS),
    Pinned(
        "hold and release", lambda tx: (jobs.hold(tx, [_QUEUED]), jobs.release(tx, [_QUEUED])), "", _ONE_JOBS
    ),
    Pinned("retry", _change(jobs.retry, "j17"), "", _ONE_JOBS),
    Pinned("delete", _change(jobs.delete, "j17"), "", _ONE_JOBS),
    Pinned(
        "change",
        lambda tx: jobs.update(tx, [jobs.Change("j17", {"name": "other"}, tags=("a",))]),
        "",
        _ONE_JOBS,
    ),
    # One job, and some
    Pinned(
        "jobs by id",
        lambda tx: listing.get(tx.connection, ["j17", "j18"]),
        "uq_jobs_job_id|sqlite_autoindex_jobs_1",
        _FEW,
    ),
    Pinned("attempts of a job", lambda tx: listing.attempts(tx.connection, "j17"), "", _ONE_JOBS),
    Pinned("where an attempt ran", lambda tx: listing.run_directory(tx.connection, "j17", 1)),
    Pinned("spec of a job", lambda tx: listing.spec(tx.connection, "j17", Sight()), "", _ONE_JOBS),
    Pinned("what a job asks for", lambda tx: listing.asked(tx.connection, "j17")),
    Pinned("since when it is unreachable", lambda tx: listing.unreachable(tx.connection, _RUNNING)),
    Pinned("what it waits for", lambda tx: dependencies.unmet(tx.connection, _QUEUED), "", _ONE_JOBS),
    Pinned("how many run before it", lambda tx: listing.ahead(tx.connection, _QUEUED), "ix_jobs_queued"),
    Pinned("which have not ended", lambda tx: listing.unfinished(tx.connection, ["j17", "j18"])),
    Pinned("queues with their counts", lambda tx: queues.listing(tx.connection)),
    Pinned(
        "how many wait, by priority",
        lambda tx: queues.backlog(tx.connection),
        "ix_jobs_(queued|status)",
        "what waits is grouped",
        walks="ix_jobs_queued",
    ),
    # Simulations
    Pinned(
        "simulation, stored and asked for again",
        lambda tx: [simulations.submit(tx, [new_job("simulation")]) for _ in range(2)],
        "uq_jobs_job_id|sqlite_autoindex_jobs_1",
        _ONE_JOBS,
    ),
    Pinned("what it was made of", lambda tx: simulations.payload(tx.connection, "j17")),
    Pinned(
        "portion of all jobs",
        lambda tx: simulations.page(tx.connection, 17, 1000, Sight()),
        "pk_jobs|jobs USING INTEGER PRIMARY KEY",
    ),
)
