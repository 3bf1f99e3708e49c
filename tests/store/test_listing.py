"""Listings: pages by key that cover every job once, filters, cursors."""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from jobmgr.domain.job import MAX_LISTED_IDS, Job, JobFilter
from jobmgr.domain.status import Status
from jobmgr.errors import InvalidRequest, JobNotFound
from jobmgr.store import listing
from tests.store.worker import Worker, new_job


async def pages(worker: Worker, wanted: JobFilter, order: str, limit: int) -> list[list[Job]]:
    found = []
    cursor: str | None = None
    while True:
        page = await worker.database.read(listing.page, wanted, order, limit, cursor)
        found.append(page.jobs)
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("order", listing.ORDERS)
@pytest.mark.parametrize("limit", [1, 3, 10, 25])
async def test_pages_cover_every_job_once_in_order(worker: Worker, order: str, limit: int) -> None:
    rng = random.Random(3)
    priorities = {f"j{number:02}": rng.randint(-2, 2) for number in range(25)}
    await worker.insert(*(new_job(name, priority=priority) for name, priority in priorities.items()))

    found = [job.job_id for page in await pages(worker, JobFilter(), order, limit) for job in page]

    expected = {
        "created": sorted(priorities),
        "-created": sorted(priorities, reverse=True),
        "-priority": sorted(priorities, key=lambda name: (-priorities[name], name)),
    }
    assert found == expected[order]


async def test_last_page_has_no_cursor(worker: Worker) -> None:
    await worker.insert(*(new_job() for _ in range(6)))

    found = await pages(worker, JobFilter(), "created", 3)

    assert [len(page) for page in found] == [3, 3]


async def test_jobs_that_come_while_paging_repeat_and_hide_nothing(worker: Worker) -> None:
    await worker.insert(*(new_job(f"old-{number}") for number in range(6)))
    first = await worker.database.read(listing.page, JobFilter(), "-created", 3, None)
    await worker.insert(*(new_job(f"new-{number}") for number in range(6)))

    second = await worker.database.read(listing.page, JobFilter(), "-created", 3, first.next_cursor)

    assert [job.job_id for job in [*first.jobs, *second.jobs]] == [
        f"old-{number}" for number in range(5, -1, -1)
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (JobFilter(status=frozenset({Status.PENDING})), ["d"]),
        (JobFilter(status=frozenset({Status.PENDING, Status.CANCELLED})), ["b", "d"]),
        (JobFilter(status=frozenset()), []),
        (JobFilter(user="eve"), ["b", "c"]),
        (JobFilter(queue="second"), ["c"]),
        (JobFilter(site="local"), ["a", "b", "c", "d"]),
        (JobFilter(site="elsewhere"), []),
        (JobFilter(executor="local"), ["a", "b", "c", "d"]),
        (JobFilter(executor="batch"), []),
        (JobFilter(tag="x"), ["a", "c"]),
        (JobFilter(ids=("d", "a", "nobody")), ["a", "d"]),
        (JobFilter(ids=()), []),
        (JobFilter(name="Sweep"), ["b"]),
        (JobFilter(name="sweep*"), ["a", "c"]),
        (JobFilter(name="*_1*"), ["a"]),
        (JobFilter(name="*[1-9]*"), ["d"]),
        (JobFilter(name="*%*"), ["c"]),
        (JobFilter(name="*?"), ["c"]),
        (JobFilter(name="*\\*"), ["d"]),
        (JobFilter(name="*"), ["a", "b", "c", "d"]),
        (JobFilter(user="eve", tag="x", status=frozenset({Status.QUEUED})), ["c"]),
    ],
)
async def test_filters_restrict_together(worker: Worker, wanted: JobFilter, expected: list[str]) -> None:
    await worker.queue("second")
    await worker.insert(
        new_job("a", name="sweep_1", tags=("x", "y"), user="adam"),
        new_job("b", name="Sweep", user="eve"),
        new_job("c", name="sweep 100% done?", tags=("x",), user="eve", queue="second"),
        new_job("d", name="[1-9]\\", user="adam", draft=True),
    )
    await worker.cancel("b")

    found = await worker.all(wanted)

    assert [job.job_id for job in found] == expected


PARTS: dict[str, tuple[Any, ...]] = {
    "status": (frozenset(), frozenset({Status.QUEUED}), frozenset({Status.QUEUED, Status.CANCELLED})),
    "ids": ((), ("j1", "j2", "j12", "j14")),
    "id_prefix": ("j1", "j"),
    "user": ("adam", "eve"),
    "queue": ("default", "second"),
    "site": ("local", "elsewhere"),
    "executor": ("local", "batch"),
    "tag": ("x", "y"),
    "name": ("a", "a*", "*b"),
}


def is_selected(job: Job, field: str, value: Any) -> bool:
    match field:
        case "status":
            return job.status in value
        case "ids":
            return job.job_id in value
        case "id_prefix":
            return job.job_id.startswith(value)
        case "tag":
            return value in job.tags
        case "name":
            return fnmatch.fnmatchcase(job.name, value)
        case _:
            return bool(getattr(job, field) == value)


async def test_every_two_filters_select_what_both_select(worker: Worker) -> None:
    await worker.queue("second")
    for number in range(16):
        job_id = await worker.add(
            f"j{number}",
            name=("a", "ab", "b")[number % 3],
            tags=("x", "y", "z")[: number % 4],
            user="eve" if number % 2 else "adam",
            queue="second" if number % 5 else "default",
        )
        if number % 7 == 0:
            await worker.cancel(job_id)
    every = await worker.all()
    parts = [{field: value} for field, values in PARTS.items() for value in values]

    found = [(one | other, await worker.all(JobFilter(**one | other))) for one in parts for other in parts]

    for wanted, jobs in found:
        expected = [job for job in every if all(is_selected(job, *part) for part in wanted.items())]
        assert jobs == expected, wanted


@pytest.mark.parametrize(
    "wanted",
    [
        JobFilter(),
        JobFilter(status=frozenset({Status.PENDING})),
        JobFilter(executor="local", queue="second"),
        JobFilter(executor="batch"),
        JobFilter(tag="x", name="n*"),
        JobFilter(ids=("j1", "j2", "nobody")),
    ],
)
async def test_total_counts_what_all_pages_hold(worker: Worker, wanted: JobFilter) -> None:
    await worker.queue("second")
    for number in range(12):
        tags = ("x", "y") if number % 2 else ("y",)
        queue = "second" if number % 3 else "default"
        await worker.add(f"j{number}", name="n" * number, tags=tags, queue=queue, draft=number > 8)

    listed = await pages(worker, wanted, "created", 4)
    counted = await worker.database.read(listing.count, wanted)

    assert counted == (sum(len(page) for page in listed), True)


async def test_total_is_the_same_on_every_page(worker: Worker) -> None:
    await worker.insert(*(new_job() for _ in range(5)))

    first = await worker.database.read(listing.page, JobFilter(), "created", 3, None, total=True)
    second = await worker.database.read(
        listing.page, JobFilter(), "created", 3, first.next_cursor, total=True
    )

    assert [(page.total, page.total_is_exact) for page in (first, second)] == [(5, True), (5, True)]


@pytest.mark.parametrize(
    ("at_most", "expected"), [(1, (1, False)), (4, (4, False)), (5, (5, True)), (6, (5, True))]
)
async def test_total_is_counted_up_to_a_cap(worker: Worker, at_most: int, expected: tuple[int, bool]) -> None:
    await worker.insert(*(new_job() for _ in range(5)))

    assert await worker.database.read(listing.count, JobFilter(), at_most) == expected


@pytest.mark.parametrize("text", ["\0", "a\0b", "\udcff", "ü" * 10, "'; DROP TABLE jobs; --", "x" * 10_000])
async def test_text_that_is_nowhere_finds_nothing_or_is_refused(worker: Worker, text: str) -> None:
    await worker.add("a")

    for wanted in (
        JobFilter(ids=(text,)),
        JobFilter(user=text),
        JobFilter(queue=text),
        JobFilter(tag=text),
        JobFilter(name=text),
        JobFilter(name=text + "*"),
    ):
        with contextlib.suppress(InvalidRequest):
            assert await worker.all(wanted) == []
    with pytest.raises((JobNotFound, InvalidRequest)):
        await worker.get(text)
    with pytest.raises((JobNotFound, InvalidRequest)):
        await worker.cancel(text)


async def cursor_of(worker: Worker, wanted: JobFilter, order: str) -> str:
    page = await worker.database.read(listing.page, wanted, order, 1, None)
    assert page.next_cursor is not None
    return page.next_cursor


def forged(cursor: str, job: object, priority: object) -> str:
    """A cursor with a valid digest and other contents: the digest finds mistakes, it is no secret."""
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    mark = json.loads(raw[4:])[0]
    body = json.dumps([mark, job, priority]).encode()
    digest = hashlib.blake2b(body, digest_size=4).digest()
    return base64.urlsafe_b64encode(digest + body).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor", ["", "x", "ü", "....", "AAAA", "bm90IGEgY3Vyc29y", "=" * 50, "A" * 10_000, "\0"]
)
async def test_text_that_is_no_cursor_is_refused(worker: Worker, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await worker.database.read(listing.page, JobFilter(), "created", 10, cursor)

    assert refused.value.field == "cursor"


async def test_changed_cursor_is_refused(worker: Worker) -> None:
    await worker.insert(*(new_job() for _ in range(3)))
    cursor = await cursor_of(worker, JobFilter(), "created")

    for index in range(len(cursor)):
        other = "A" if cursor[index] != "A" else "B"
        changed = cursor[:index] + other + cursor[index + 1 :]
        with pytest.raises(InvalidRequest):
            await worker.database.read(listing.page, JobFilter(), "created", 10, changed)


@pytest.mark.parametrize(
    ("job", "priority"),
    [
        (2**63, 0),
        (-1, 0),
        (1, 2**31),
        (1, -(2**31) - 1),
        (1, 10**40),
        (10**40, 1),
        ("1", 0),
        (None, 0),
        (1, 0.5),
    ],
)
async def test_forged_cursor_is_refused(worker: Worker, job: object, priority: object) -> None:
    await worker.insert(*(new_job() for _ in range(3)))
    cursor = forged(await cursor_of(worker, JobFilter(), "-priority"), job, priority)

    with pytest.raises(InvalidRequest):
        await worker.database.read(listing.page, JobFilter(), "-priority", 10, cursor)


@pytest.mark.parametrize(
    ("wanted", "order"),
    [(JobFilter(user="eve"), "created"), (JobFilter(), "-created"), (JobFilter(name="n"), "created")],
)
async def test_cursor_of_another_listing_is_refused(worker: Worker, wanted: JobFilter, order: str) -> None:
    await worker.insert(*(new_job() for _ in range(3)))
    cursor = await cursor_of(worker, JobFilter(), "created")

    with pytest.raises(InvalidRequest, match="another filter or order"):
        await worker.database.read(listing.page, wanted, order, 10, cursor)


async def test_as_many_ids_as_are_taken_are_found_and_more_are_refused(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"))
    most = ("a", *(f"nobody-{number}" for number in range(MAX_LISTED_IDS - 1)))

    assert [job.job_id for job in await worker.all(JobFilter(ids=most))] == ["a"]
    with pytest.raises(InvalidRequest, match="1001 of them; ask for at most 1000") as refused:
        await worker.all(JobFilter(ids=(*most, "b")))
    assert refused.value.field == "ids"


async def test_prefix_of_ids_is_compared_by_byte(worker: Worker) -> None:
    names = ["3fa9", "3fa9-1", "3fa90", "3fa9z", "3fA9", "3fa", "3fb", "3fa.9"]
    await worker.insert(*map(new_job, names))

    found = await worker.all(JobFilter(id_prefix="3fa9"))

    assert [job.job_id for job in found] == ["3fa9", "3fa9-1", "3fa90", "3fa9z"]
    assert await worker.all(JobFilter(id_prefix="3fa9_")) == []


async def test_unknown_order_is_refused(worker: Worker) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await worker.database.read(listing.page, JobFilter(), "name; DROP TABLE jobs", 10, None)

    assert refused.value.field == "order"


async def test_many_jobs_are_read_in_the_order_asked_for(worker: Worker) -> None:
    names = [f"j{number}" for number in range(1200)]
    await worker.insert(*(new_job(name) for name in names))
    asked = random.Random(5).sample(names, len(names))

    found = await worker.database.read(listing.get, asked)

    assert [job.job_id for job in found] == asked


async def test_jobs_ahead_are_those_that_run_before_in_the_same_queue(worker: Worker) -> None:
    await worker.queue("second")
    await worker.insert(
        new_job("a"),
        new_job("b", priority=5),
        new_job("c"),
        new_job("d"),
        new_job("e", queue="second"),
        new_job("f"),
    )

    assert await worker.database.read(listing.ahead, "d") == 3
    assert await worker.database.read(listing.ahead, "b") == 0


async def test_unfinished_names_what_has_not_ended(worker: Worker) -> None:
    await worker.insert(new_job("a"), new_job("b"), new_job("c", draft=True))
    await worker.run("a")

    assert await worker.database.read(listing.unfinished, ["a", "b", "c"]) == ["b", "c"]
    with pytest.raises(JobNotFound):
        await worker.database.read(listing.unfinished, ["nobody"])


async def test_times_are_utc_with_microseconds(worker: Worker) -> None:
    due_at = datetime(2031, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
    await worker.add("a", due_at=due_at)

    job = await worker.get("a")

    assert job.due_at == due_at
    assert job.created_at.tzinfo is UTC
