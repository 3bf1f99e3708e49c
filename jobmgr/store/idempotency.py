"""Changes that are made once, however often they are asked for: the keys of requests, and those of jobs.

The answer to a request with a key is stored in the transaction of its change, so it is there exactly if the change
was made. Only changes are remembered: what was refused may be asked for again.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from jobmgr.domain.job import NewJob
from jobmgr.domain.once import Once
from jobmgr.errors import KeyReused
from jobmgr.store.backend import json_text
from jobmgr.store.portion import portions
from jobmgr.store.prepared import Prepared
from jobmgr.store.tables import Idempotency, Job, Spec
from jobmgr.store.transaction import AnyRow, Transaction

KEPT = timedelta(days=7)
# Of what is older, each key that is stored takes away this many: it never piles up, and no write waits for long.
_FORGOTTEN_PER_KEY = 2


def begin(tx: Transaction, asked: Iterable[Once]) -> dict[Once, str]:
    """Take the keys that are new, and answer what was answered under the others. Raises KeyReused."""
    waiting = list(asked)
    wanted = {(once.user, once.key): once for once in waiting}
    if len(wanted) < len(waiting):
        # Nobody is told this: who waits together is split until each stands alone, and finds what the first did.
        raise KeyReused(waiting[0].key, "two requests at once")
    answers: dict[Once, str] = {}
    too_old = []
    for row in _rows(tx, sa.select(*Idempotency.__table__.c), Idempotency, wanted):
        if row.created_at < tx.now - KEPT:
            too_old.append({"row": row.id})
            continue
        once = wanted.pop((row.user, row.key))
        if row.fingerprint != once.fingerprint:
            raise KeyReused(once.key, f"another request, {_when(row.created_at)}")
        answers[once] = row.answer
    if too_old:
        _FORGET_ONE.run(tx.connection, too_old)
    if wanted:
        # Another service that has the same key now waits here for our commit, and looks again after it: the unique
        # key, not the look above, decides. In order, so that two never wait for each other crosswise.
        _TAKE.run(tx.connection, [_row(wanted[key], tx) for key in sorted(wanted)])
    return answers


_FORGET_ONE = Prepared(sa.delete(Idempotency).where(Idempotency.id == sa.bindparam("row")))
_TAKE = Prepared(sa.insert(Idempotency), ("user", "key", "fingerprint", "answer", "created_at"))


def _rows(
    tx: Transaction, statement: sa.Select[Any], table: Any, wanted: Iterable[tuple[str, str]]
) -> list[AnyRow]:
    keys: dict[str, list[str]] = {}
    for user, key in sorted(wanted):
        keys.setdefault(user, []).append(key)
    finding = _finding(table, is_postgresql=tx.is_postgresql)
    ids: list[int] = []
    for user, of_user in keys.items():
        for portion in portions(of_user):
            # PostgreSQL takes them as an array, SQLite as JSON: one parameter, so that the text is always the same.
            many = portion if tx.is_postgresql else json_text(portion)
            found = tx.connection.execute(finding, {"of_user": user, "keys": many}).scalars()
            ids += [row for row in found if row is not None]
    rows: list[AnyRow] = []
    for few in portions(ids):
        rows += tx.connection.execute(statement.where(table.id.in_(few)))
    return rows


@functools.cache
def _finding(table: Any, *, is_postgresql: bool) -> sa.Select[Any]:
    """The ids of the rows under the keys of one user, null for each key that nothing is under.

    One look into the unique index per key, whatever a planner believes. To a list of keys PostgreSQL without
    statistics prefers all rows of the user, of whom there may be one.
    """
    if is_postgresql:
        array = sa.bindparam("keys", type_=postgresql.ARRAY(sa.Text))
        each = sa.func.unnest(array).table_valued("value").render_derived()
    else:
        each = sa.func.json_each(sa.bindparam("keys", type_=sa.Text())).table_valued("value")
    one = sa.select(table.id).where(
        table.user == sa.bindparam("of_user"),
        table.key == each.c.value,
        # The index of a column that may be null is a partial one, which has to be named by its condition.
        table.key.is_not(None),
    )
    return sa.select(one.scalar_subquery()).select_from(each)


def _row(once: Once, tx: Transaction) -> dict[str, Any]:
    return {
        "user": once.user,
        "key": once.key,
        "fingerprint": once.fingerprint,
        "answer": "",
        "created_at": tx.now,
    }


def end(tx: Transaction, answers: Mapping[Once, str]) -> None:
    """Store what the changes under new keys are answered with, and forget some of what is too old."""
    if not answers:
        return
    rows = [
        {"of_user": once.user, "of_key": once.key, "given": answer}
        for once, answer in sorted(answers.items(), key=lambda pair: (pair[0].user, pair[0].key))
    ]
    _STORE_ANSWER.run(tx.connection, rows)
    _forget(tx, _FORGOTTEN_PER_KEY * len(answers))


_STORE_ANSWER = Prepared(
    sa.update(Idempotency)
    .where(Idempotency.user == sa.bindparam("of_user"), Idempotency.key == sa.bindparam("of_key"))
    .values(answer=sa.bindparam("given"))
)


def _forget(tx: Transaction, at_most: int) -> None:
    # In two statements: in one, PostgreSQL may read all keys to find those few.
    old = _OLD.rows(tx.connection, {"before": tx.now - KEPT, "at_most": at_most})
    _FORGET_ONE.run(tx.connection, [{"row": row.id} for row in old])


# Not those that another service is about to forget: it holds other rows, too, and would be waited for crosswise.
_OLD = Prepared(
    sa.select(Idempotency.id)
    .where(Idempotency.created_at < sa.bindparam("before"))
    .order_by(Idempotency.created_at)
    .limit(sa.bindparam("at_most"))
    .with_for_update(skip_locked=True)
)


def written(answers: Sequence[Any]) -> str:
    """What a batch function answered, as it is stored."""
    return json_text(answers)


def read(once: Once, answers: str, batch: Callable[..., Sequence[Any]]) -> list[Any]:
    """What `written` wrote of the answers of `batch`, whose signature says what they are.

    Raises KeyReused if another version wrote it in a way that this one does not understand.
    """
    try:
        found: list[Any] = msgspec.json.decode(answers, type=_answer_type(batch))
    except msgspec.ValidationError:
        raise KeyReused(once.key, "a change that another version of jobmgr made") from None
    return found


@functools.cache
def _answer_type(batch: Callable[..., Sequence[Any]]) -> Any:
    return typing.get_type_hints(batch)["return"]


@dataclass(frozen=True, slots=True)
class Known:
    """A job that was stored under a key, as it is now."""

    job_id: str
    status: str


def known(tx: Transaction, jobs: Sequence[NewJob]) -> dict[tuple[str, str | None], Known]:
    """Those of `jobs` that are stored already, by user and key. Raises KeyReused for one that was another job."""
    wanted = {(job.user, job.key): job for job in jobs if job.key is not None}
    found: dict[tuple[str, str | None], Known] = {}
    for row in _rows(tx, _KEYED, Job, wanted):
        job = wanted[row.user, row.key]
        if row.fingerprint != job.fingerprint:
            other = f"job {row.job_id!r}, which is another one, {_when(row.created_at)}"
            raise KeyReused(row.key, other, f"{job.at}key")
        found[row.user, row.key] = Known(row.job_id, row.status)
    return found


_KEYED_COLUMNS: tuple[Any, ...] = (
    Job.user, Job.key, Job.job_id, Job.status, Job.created_at, Spec.fingerprint,
)  # fmt: skip
_KEYED = sa.select(*_KEYED_COLUMNS).join(Spec, Spec.job == Job.id)


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
