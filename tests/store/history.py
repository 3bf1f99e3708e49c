"""A database in which much has happened: tens of thousands of jobs, nearly all of them ended long ago."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from jobmgr.domain.status import Status
from jobmgr.store import dispatchers
from jobmgr.store.tables import ApiToken, Attempt, Dependency, Event, Idempotency, Job, JobTag, Spec, User
from jobmgr.store.transaction import Transaction
from tests.store import plans

ENDED = 24_000
WAITING = 4_000
LIVE = 8
FIRST_LIVE = ENDED + WAITING + 1
EVENTS_PER_JOB = 2
KEYS = 10_000
USERS = 50
API_TOKENS = 2_000

DISPATCHER = "worker"
_AT = datetime(2026, 1, 1, tzinfo=UTC)
_LATER = _AT + timedelta(days=20_000)


def fill(tx: Transaction, _: object) -> list[None]:
    """Much history, a backlog, and a few live attempts of DISPATCHER. What waits, waits for the latter two."""
    dispatchers.register(tx, [dispatchers.Identity(DISPATCHER, "host", "boot", "namespace", 1, 1)])
    rows = [_job(number) for number in range(1, ENDED + WAITING + LIVE + 1)]
    tx.connection.execute(sa.insert(Job), rows)
    tx.connection.execute(sa.insert(Spec), [_spec(row["id"]) for row in rows])
    tried = [row for row in rows if row["status"] in (Status.COMPLETED, Status.RUNNING)]
    tx.connection.execute(sa.insert(Attempt), [_attempt(row) for row in tried])
    # The first one somebody asked for, the others are the service's own.
    for number in range(EVENTS_PER_JOB):
        tx.connection.execute(sa.insert(Event), [_event(row, is_asked=number == 0) for row in rows])
    tags = [{"job": row["id"], "tag": f"tag-{row['id'] % 500}"} for row in rows[::3]]
    tx.connection.execute(sa.insert(JobTag), tags)
    tx.connection.execute(sa.insert(Dependency), list(_dependencies()))
    tx.connection.execute(sa.insert(Idempotency), [_key(number) for number in range(KEYS)])
    tx.connection.execute(sa.insert(User), [_user(number) for number in range(USERS)])
    tx.connection.execute(sa.insert(ApiToken), [_api_token(number) for number in range(API_TOKENS)])
    tx.connection.exec_driver_sql(f"UPDATE queues SET queued = {WAITING // 2}, live = {LIVE}")
    if tx.is_postgresql:
        for table in plans.GROWING:
            # Who has no statistics must not be given any during the tests.
            tx.connection.exec_driver_sql(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        # The keys were given here, so nothing has counted.
        tx.connection.exec_driver_sql(f"SELECT setval('jobs_id_seq', {len(rows)})")
    return [None]


def analyze(tx: Transaction, _: object) -> list[None]:
    """Statistics for the planner."""
    tx.connection.exec_driver_sql("ANALYZE")
    return [None]


def _status(number: int) -> Status:
    if number > ENDED + WAITING:
        return Status.RUNNING
    if number > ENDED:
        return (Status.QUEUED, Status.PENDING)[number % 2]
    return Status.COMPLETED


def _job(number: int) -> dict[str, Any]:
    status = _status(number)
    is_due_later = status is Status.PENDING and number % 20 == 1
    return {
        "id": number,
        "job_id": f"j{number}",
        "status": status.value,
        "queue": "default",
        "site": "local",
        "priority": number % 10,
        "user": f"user-{number % USERS}",
        "key": f"key-{number}" if number % 2 else None,
        "name": f"name-{number}",
        "description": "",
        "cpus": number % 3,
        "memory_bytes": 0,
        "gpus": 0,
        "draft": False,
        "due_at": _LATER if is_due_later else None,
        "deps_left": 0 if is_due_later or status is not Status.PENDING else 1,
        "created_at": _AT,
        "finished_at": _AT if status.is_terminal else None,
        "cancel_requested_at": _AT if number % 1000 == 0 else None,
        "attempt": 1,
        "attempts_counted": 1,
        "extended_properties": {},
    }


def _spec(job: int) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "env": {},
        "resources": {},
        "retry_on": [],
        "exit_codes": [0],
        "required_files": [],
    }
    return {
        "job": job,
        "command": ["true"],
        "max_attempts": 1,
        "backoff_s": 1.0,
        "on_lost": "fail",
        "fingerprint": "f",
        **empty,
    }


def _attempt(row: dict[str, Any]) -> dict[str, Any]:
    finished_at = row["finished_at"]
    return {
        "job": row["id"],
        "number": 1,
        "token": f"token-{row['id']}",
        "lease": 1,
        "dispatcher": DISPATCHER,
        "claimed_by": DISPATCHER,
        "counted": True,
        "outcome": "completed" if finished_at else None,
        "claimed_at": _AT,
        "finished_at": finished_at,
    }


def _event(row: dict[str, Any], *, is_asked: bool) -> dict[str, Any]:
    about = {"job": row["id"], "job_id": row["job_id"], "user": row["user"]}
    actor = row["user"] if is_asked else None
    return {
        "at": _AT + timedelta(seconds=row["id"]),
        "kind": "submitted",
        **about,
        "v": 1,
        "data": {},
        "actor": actor,
    }


def _dependencies() -> Iterator[dict[str, Any]]:
    for child in range(2, ENDED + 1):
        yield {"child": child, "parent": child - 1, "condition": "success", "met": True}
    for child in range(ENDED + 1, ENDED + WAITING + 1):
        if _job(child)["deps_left"]:
            # A few for the ones that run, the others for those that are queued.
            parent = FIRST_LIVE + child % LIVE if child < ENDED + 80 else child - 1
            yield {"child": child, "parent": parent, "condition": "success", "met": None}


def _user(number: int) -> dict[str, Any]:
    return {"name": f"user-{number}", "role": "user", "groups": [], "disabled": False, "created_at": _AT}


def _api_token(number: int) -> dict[str, Any]:
    return {
        "id": f"{number:012x}",
        "user": f"user-{number % USERS}",
        "hash": f"{number:064x}",
        "label": "",
        "scopes": ["read"],
        "created_at": _AT,
        "created_by": "me",
        "revoked_at": _AT if number % 4 == 0 else None,
    }


def _key(number: int) -> dict[str, Any]:
    return {
        "user": "me",
        "key": f"key-{number}",
        "fingerprint": "f",
        "answer": "[]",
        "created_at": datetime.now(UTC),
    }
