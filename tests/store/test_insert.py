"""Submitted jobs: stored in order, all or nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from jobmgr.credential import Reference, Source
from jobmgr.domain.job import Dependency, JobSpec, NewJob, OnLost, Success
from jobmgr.domain.queue import Tally
from jobmgr.domain.resources import Resources
from jobmgr.domain.retry import Retry
from jobmgr.domain.status import Status
from jobmgr.errors import InvalidRequest, JobExists, JobNotFound
from jobmgr.store import jobs, submissions
from jobmgr.store.engine import Database
from tests.store.worker import Worker, new_job, now


async def test_bulk_keeps_the_order_of_submission(worker: Worker) -> None:
    names = [f"job-{number:03}" for number in range(300)]

    await worker.insert(*(new_job(name) for name in names))

    assert [job.job_id for job in await worker.all()] == names


async def test_insert_answers_where_each_job_is(worker: Worker) -> None:
    stored = await worker.database.write(
        submissions.insert,
        [
            new_job("a"),
            new_job("b", draft=True),
            new_job("c", after=["a"]),
            new_job("d", due_at=now() + timedelta(hours=1)),
            new_job("e", due_at=now() - timedelta(hours=1)),
        ],
    )

    assert [(item.job_id, item.status.value) for item in stored] == [
        ("a", "queued"),
        ("b", "pending"),
        ("c", "pending"),
        ("d", "pending"),
        ("e", "queued"),
    ]


async def test_everything_submitted_comes_back(worker: Worker) -> None:
    due_at = now() + timedelta(days=3)
    spec = JobSpec(
        command=("prog", "ü", "a b", ""),
        env={"A": "1", "Ä": "ß"},
        cwd="/somewhere",
        resources=Resources(cpus=2, memory_bytes=2**40, gpus=1, walltime_s=90.5, partition="long"),
        retry=Retry(3, 1.5, frozenset({"exit_code", "signal"})),
        on_lost=OnLost.RETRY,
        success=Success((0, 3), ("out.txt",)),
    )
    job = NewJob(
        "mine",
        spec,
        name="näme",
        description="two\nlines",
        user="me",
        priority=-7,
        due_at=due_at,
        tags=("a", "z"),
        extended_properties={"x": {"y": [1, 2.5, None, "ü", True]}},
    )

    await worker.insert(job)

    shown = await worker.get("mine")
    assert (shown.name, shown.description, shown.user, shown.priority) == ("näme", "two\nlines", "me", -7)
    assert shown.due_at == due_at
    assert shown.tags == ("a", "z")
    assert shown.extended_properties == {"x": {"y": [1, 2.5, None, "ü", True]}}
    assert (shown.status, shown.v, shown.attempt, shown.executor) == (Status.PENDING, 1, 0, "local")
    assert abs(now() - shown.created_at) < timedelta(minutes=1)


async def test_claimed_job_carries_its_spec(worker: Worker) -> None:
    spec = JobSpec(
        command=("prog", "ü", ""),
        env={"A": "1", "B": Reference(Source.FILE, "/key")},
        cwd="/somewhere",
        resources=Resources(cpus=2, memory_bytes=2**40, gpus=1, walltime_s=90.5),
        success=Success((0,), ("out.txt",)),
    )
    await worker.add("mine", spec=spec)

    claimed = await worker.claim_one()

    assert claimed.command == ("prog", "ü", "")
    assert (claimed.env, claimed.cwd, claimed.walltime_s) == (spec.env, "/somewhere", 90.5)
    assert (claimed.cpus, claimed.memory_bytes, claimed.gpus) == (2, 2**40, ("0",))
    assert claimed.required_files == ("out.txt",)


async def test_job_id_that_is_taken_is_refused_and_nothing_stored(worker: Worker) -> None:
    await worker.add("taken")

    with pytest.raises(JobExists) as refused:
        await worker.insert(new_job("new"), new_job("taken"))

    assert refused.value.job_id == "taken"
    assert [job.job_id for job in await worker.all()] == ["taken"]


async def test_job_id_twice_in_one_bulk_is_refused(worker: Worker) -> None:
    with pytest.raises(JobExists):
        await worker.insert(new_job("twice"), new_job("twice"))

    assert await worker.all() == []


@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        (new_job("bad", queue="nowhere"), InvalidRequest),
        (new_job("bad", site="nowhere"), InvalidRequest),
        (new_job("bad", after=["nobody"]), InvalidRequest),
        (new_job("bad", depends_on=(Dependency("bad"),)), InvalidRequest),
    ],
    ids=["queue", "site", "parent", "itself"],
)
async def test_unknown_name_is_refused_and_nothing_stored(
    worker: Worker, bad: NewJob, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        await worker.insert(new_job("good"), bad)

    assert await worker.all() == []
    assert await worker.counts() == {}


async def test_refused_submission_leaves_those_beside_it_alone(worker: Worker) -> None:
    await worker.add("taken")
    good = [new_job(f"good-{number}") for number in range(20)]
    bad = {3: new_job("taken"), 11: new_job("b", queue="nowhere"), 17: new_job("c", after=["nobody"])}
    bulks = [[bad[number]] if number in bad else [job] for number, job in enumerate(good)]

    answers = await asyncio.gather(
        *(worker.database.write(submissions.insert, bulk) for bulk in bulks), return_exceptions=True
    )

    refused = {number: type(answer) for number, answer in enumerate(answers) if isinstance(answer, Exception)}
    assert refused == {3: JobExists, 11: InvalidRequest, 17: InvalidRequest}
    stored = {job.job_id for job in await worker.all()}
    assert stored == {"taken"} | {job.job_id for number, job in enumerate(good) if number not in bad}
    assert await worker.counts() == {Tally.QUEUED: 18}


async def test_refused_jobs_of_one_commit_are_named_by_their_own_place(worker: Worker) -> None:
    bad: list[dict[str, Any]] = [
        {"queue": "nowhere"},
        {"site": "nowhere"},
        {"site": None, "executor": "nowhere"},
        {"after": ["nobody"]},
        {"job_id": "self", "after": ["self"]},
    ]
    bulks = [
        [
            *(new_job(at=f"jobs[{index}].") for index in range(number)),
            new_job(**fields, at=f"jobs[{number}]."),
        ]
        for number, fields in enumerate(bad)
    ]

    # All of them wait for the same commit, which fails and is split.
    answers = await asyncio.gather(
        *(worker.database.write(submissions.insert, bulk) for bulk in bulks), return_exceptions=True
    )

    assert [getattr(answer, "field", None) for answer in answers] == [
        "jobs[0].queue",
        "jobs[1].site",
        "jobs[2].executor",
        "jobs[3].depends_on[0]",
        "jobs[4].depends_on[0]",
    ]
    assert await worker.all() == []


async def test_bad_change_leaves_the_submissions_of_its_commit_alone(worker: Worker) -> None:
    answers = await asyncio.gather(
        worker.add("a"), worker.cancel("nobody"), worker.add("b"), return_exceptions=True
    )

    assert (answers[0], answers[2]) == ("a", "b")
    assert isinstance(answers[1], JobNotFound)
    assert [job.job_id for job in await worker.all()] == ["a", "b"]


async def test_same_new_id_from_two_services_is_stored_once(worker: Worker, other: Worker) -> None:
    rounds = [f"same-{number}" for number in range(20)]

    for name in rounds:
        answers = await asyncio.gather(worker.add(name), other.add(name), return_exceptions=True)
        assert [type(answer) for answer in answers if answer != name] == [JobExists]

    assert [job.job_id for job in await worker.all()] == rounds


async def test_write_after_close_is_refused(database_url: str) -> None:
    database = Database(database_url)
    await database.start()
    await database.close()

    with pytest.raises(Exception, match="closed"):
        await database.write(jobs.cancel, "any")


async def test_close_commits_what_waits(database_url: str) -> None:
    database = Database(database_url)
    await database.start()
    submitting = asyncio.create_task(database.write(submissions.insert, [new_job("last")]))
    await asyncio.sleep(0)

    await database.close()

    assert (await submitting)[0].job_id == "last"
