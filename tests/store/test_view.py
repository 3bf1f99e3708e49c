"""Jobs on a page, which come straight from their rows, beside the same jobs alone, which were objects on the way."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from jobmgr.domain.job import JobFilter
from jobmgr.domain.status import TERMINAL, Status
from jobmgr.store import events, listing
from jobmgr.store.engine import Database
from jobmgr.store.tables import Job as JobRow
from jobmgr.store.transaction import Transaction
from jobmgr.wire.answers import JobAnswer, JobsAnswer
from jobmgr.wire.translation import encode, job_answer, to_page
from tests.store.worker import Worker, new_job

# Fractions of a second of which the last digits, the first or all are zero, and times at the ends of years.
MOMENTS = (
    datetime(2026, 1, 31, 18, 0, 0, 0, UTC),
    datetime(2026, 1, 31, 18, 0, 0, 1, UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_999, UTC),
    datetime(2040, 2, 29, 0, 0, 0, 120_000, UTC),
)
TIMES = (
    "created_at", "due_at", "held_at", "cancel_requested_at", "pause_requested_at", "queued_at", "started_at",
    "finished_at",
)  # fmt: skip
PROPERTIES: tuple[dict[str, Any], ...] = (
    {},
    {"case": {"n": 10**30, "x": 1e-300, "list": [None, True, -0.0, 'a\tb"c\\d\x01\x7f']}},
    {"ü\u2028😀/<>": "日本語", "": " two  blanks, {not: json}"},
    {f"key {number}": [number / 7] * 50 for number in range(200)},
)
TEXTS = ("", "plain", 'quoted "twice" and \\ 100%', "日本語 ü 😀 \u2028")


async def many_jobs(worker: Worker) -> None:
    """Jobs of every status, each with other times, texts, properties and tags; some with no more than they need."""
    new = [
        new_job(
            f"{status}-{number}",
            name=TEXTS[number],
            description=TEXTS[-number],
            user=f"user {TEXTS[number]}",
            tags=("z", "a", "Z", "ü", "日本", 'a"b\\')[: 2 * number],
            extended_properties=PROPERTIES[number],
            key=TEXTS[number] + status if number else None,
            priority=-number,
            draft=number == 1,
        )
        for status in Status
        for number in range(4)
    ]
    await worker.insert(*new)
    await worker.database.write(_change, None)


def _change(tx: Transaction, _: object) -> list[None]:
    for index, status in enumerate(Status):
        for number in range(4):
            changes = sa.update(JobRow).where(JobRow.job_id == f"{status}-{number}")
            tx.connection.execute(changes.values(_values(status, index, number)))
    return [None]


def _values(status: Status, index: int, number: int) -> dict[str, Any]:
    # The first of each status has no time but those that it must have.
    times: dict[str, datetime | None] = {
        name: MOMENTS[(index + shift + number) % 4] + timedelta(days=shift) if number else None
        for shift, name in enumerate(TIMES)
    }
    times["created_at"] = MOMENTS[number]
    times["finished_at"] = MOMENTS[number] if status in TERMINAL else None
    return {
        **times,
        "status": status.value,
        "exit_code": (None, 0, 3, -9)[number],
        "error_code": (None, "exit_code", "signal", None)[number],
        "error_message": (None, None, "it said: ü", None)[number],
        "handle": TEXTS[number] or None,
        "work_dir": f"/{TEXTS[number]}" if number else None,
        "attempt": number,
    }


async def read_page(worker: Worker, order: str = "created") -> bytes:
    return encode(await worker.database.read(listing.page_answer, JobFilter(), order, 1000, None))


async def test_page_shows_each_job_as_it_is_shown_alone(worker: Worker) -> None:
    await many_jobs(worker)

    page = json.loads(await read_page(worker))

    assert [job["job_id"] for job in page["jobs"]] == [
        f"{status}-{number}" for status in Status for number in range(4)
    ]
    for shown in page["jobs"]:
        alone = json.loads(encode(job_answer(await worker.get(shown["job_id"]))))
        assert list(shown) == list(alone) == list(JobAnswer.__struct_fields__)
        for field in alone:
            assert (field, shown[field], type(shown[field])) == (field, alone[field], type(alone[field]))


async def test_page_shows_what_was_stored(worker: Worker) -> None:
    await many_jobs(worker)

    page = json.loads(await read_page(worker))

    shown = {job["job_id"]: job for job in page["jobs"]}
    for index, status in enumerate(Status):
        for number in range(4):
            job, stored = shown[f"{status}-{number}"], _values(status, index, number)
            for name in TIMES:
                moment = stored[name]
                text = None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                assert (name, job[name]) == (name, text)
            errors = {1: {"code": "exit_code", "message": ""}, 2: {"code": "signal", "message": "it said: ü"}}
            assert job["error"] == errors.get(number)
            assert job["tags"] == sorted(("z", "a", "Z", "ü", "日本", 'a"b\\')[: 2 * number])
            assert job["extended_properties"] == PROPERTIES[number]
            assert (job["status"], job["draft"], job["priority"]) == (status, number == 1, -number)


@pytest.mark.parametrize("order", listing.ORDERS)
async def test_page_as_values_is_the_page_as_an_answer(worker: Worker, order: str) -> None:
    await many_jobs(worker)

    values = await worker.database.read(listing.page, JobFilter(), order, 1000, None)

    answer = msgspec.json.decode(await read_page(worker, order), type=JobsAnswer)
    assert values == to_page(answer)
    assert [await worker.get(job.job_id) for job in values.jobs] == values.jobs


async def test_page_is_in_utc_wherever_the_server_is(worker: Worker) -> None:
    await many_jobs(worker)

    def elsewhere(connection: sa.Connection) -> JobsAnswer:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL TIME ZONE 'Asia/Kolkata'")
        return listing.page_answer(connection, JobFilter(), "created", 1000, None)

    assert json.loads(encode(await worker.database.read(elsewhere))) == json.loads(await read_page(worker))


async def test_page_without_jobs_has_its_event_position(worker: Worker) -> None:
    await many_jobs(worker)

    page = await worker.database.ask(listing.page_answer, JobFilter(user="nobody"), "created", 10, None)

    position = await worker.database.read(events.position)
    assert page == JobsAnswer([], None, position.epoch, position.seq)
    assert position.seq > 0


async def test_what_is_one_statement_needs_no_transaction(postgresql_url: str) -> None:
    database = Database(postgresql_url)

    def beginnings(connection: sa.Connection) -> int:
        begun = sa.text("SELECT transaction_timestamp()")
        return len({connection.execute(begun).scalar_one() for _ in range(2)})

    asked, read = await database.ask(beginnings), await database.read(beginnings)
    await database.close()

    assert (asked, read) == (2, 1)
