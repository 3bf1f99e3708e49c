"""The client's verbs, all of them, against a real service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.client import Client
from jobmgr.client.address import running_service
from jobmgr.domain.status import Status
from jobmgr.errors import (
    FileMissing,
    IllegalTransition,
    InvalidRequest,
    JobExists,
    JobNotFound,
)
from jobmgr.wire.submission import JobSubmission
from tests.cli.conftest import Commands


@pytest_asyncio.fixture
async def client(service: Commands) -> AsyncIterator[Client]:
    url = running_service(service.home)
    assert url is not None
    async with Client(url, (service.home / "token").read_text().strip()) as client:
        yield client


async def test_a_job_from_submission_to_its_files(client: Client, tmp_path: Path) -> None:
    command = ["sh", "-c", "echo hello; mkdir 'sub dir'; printf 123456 > 'sub dir/a%b'"]
    job_id = await client.submit(command, name="files", tags=["t"], extended_properties={"a": [1]})
    job = await client.wait(job_id, timeout_s=30)

    files = {entry.path: entry.size_bytes for entry in await client.files(job_id)}
    await client.download(job_id, "sub dir/a%b", tmp_path / "copy")

    assert (job.status, job.exit_code, job.tags, dict(job.extended_properties)) == (
        "completed",
        0,
        ("t",),
        {"a": [1]},
    )
    assert files["sub dir/a%b"] == 6
    assert (tmp_path / "copy").read_bytes() == await client.file(job_id, "sub dir/a%b") == b"123456"
    window = await client.log(job_id, offset=1, limit=2)
    assert (window.data, window.offset, window.end, window.size_bytes) == (b"el", 1, 3, 6)
    assert (await client.log(job_id, "stderr")).data == b""
    assert [attempt.outcome for attempt in await client.attempts(job_id)] == ["completed"]
    kinds = [event.kind for event in await client.events(job_id)]
    assert (kinds[0], kinds[-1]) == ("submitted", "completed")
    assert [reason.code for reason in await client.why(job_id)] == ["completed"]


async def test_verbs_on_a_job(client: Client) -> None:
    job_id = await client.submit(["true"], draft=True)

    assert (await client.set_priority(job_id, 8)).priority == 8
    assert (await client.update(job_id, name="new", tags=["x"])).name == "new"
    assert (await client.hold(job_id)).held_at is not None
    assert (await client.release(job_id)).held_at is None
    assert (await client.execute(job_id)).draft is False
    assert (await client.wait(job_id)).status is Status.COMPLETED
    assert (await client.retry(job_id)).finished_at is None
    assert (await client.wait(job_id)).attempt == 2
    assert (await client.cancel(job_id)).status is Status.COMPLETED
    with pytest.raises(IllegalTransition) as refused:
        await client.hold(job_id)
    assert refused.value.job_id == job_id
    await client.delete(job_id)
    with pytest.raises(JobNotFound):
        await client.get(job_id)


async def test_many_jobs_and_pages(client: Client) -> None:
    jobs = [{"command": ["true"], "tags": ["paged"], "draft": True} for _ in range(5)]
    job_ids = await client.submit_many([*jobs, JobSubmission(["true"], tags=["paged"], draft=True)])

    page = await client.list_page(limit=4, tag="paged", order="created")
    rest = await client.list_page(limit=4, tag="paged", order="created", cursor=page.next_cursor)

    assert [job.job_id for job in [*page.jobs, *rest.jobs]] == job_ids
    assert rest.next_cursor is None
    assert [job.job_id async for job in client.list(ids=job_ids[:2], status=[Status.PENDING])] == job_ids[
        1::-1
    ]


async def test_empty_list_of_ids_or_statuses_selects_no_job(client: Client) -> None:
    await client.submit(["true"], draft=True)

    page = await client.list_page(ids=[], total=True)

    assert (page.jobs, page.next_cursor, page.total, page.total_is_exact) == ([], None, 0, True)
    assert page.position == (await client.list_page()).position
    assert [job async for job in client.list(ids=[])] == []
    assert [job async for job in client.list(status=[])] == []


async def test_page_has_the_total_if_asked(client: Client) -> None:
    await client.submit_many([{"command": ["true"], "tags": ["counted"], "draft": True}] * 5)

    counted = await client.list_page(limit=2, tag="counted", total=True)
    uncounted = await client.list_page(limit=2, tag="counted")

    assert (counted.total, counted.total_is_exact) == (5, True)
    assert (uncounted.total, uncounted.total_is_exact) == (None, None)


async def test_what_the_service_refuses_names_the_field(client: Client) -> None:
    with pytest.raises(InvalidRequest) as one:
        await client.submit(["true"], resources={"memory": "lots"})
    with pytest.raises(InvalidRequest) as many:
        await client.submit_many([{"command": ["true"]}, {"command": ["true"], "nam": 1}])
    job_id = await client.submit(["true"])
    with pytest.raises(JobExists):
        await client.submit(["true"], job_id=job_id)
    with pytest.raises(FileMissing):
        await client.file(job_id, "no-such-file")

    assert one.value.field == "resources.memory"
    assert many.value.field == "jobs[1].nam"


async def test_what_is_nowhere_is_named_with_its_place(client: Client) -> None:
    good = {"command": ["true"]}
    with pytest.raises(InvalidRequest) as parent:
        await client.submit_many([good, {**good, "depends_on": [{"job_id": "no"}]}])
    with pytest.raises(InvalidRequest) as queue:
        await client.submit_many([good, good, {**good, "queue": "no"}])

    assert parent.value.field == "jobs[1].depends_on[0]"
    assert queue.value.field == "jobs[2].queue"


async def test_queues_and_limits(client: Client) -> None:
    queue = await client.update_queue("q-2.x", max_running=3)

    assert (queue.name, queue.max_running) == ("q-2.x", 3)
    assert "q-2.x" in [queue.name for queue in await client.queues()]
    assert (await client.update_limits(min_disk_gb=0.001)).min_disk_gb == 0.001
    assert (await client.update_limits(min_disk_gb=None)).min_disk_gb is None
    assert (await client.limits()).max_concurrent_jobs == 4


async def test_events_from_now_on(client: Client) -> None:
    position = (await client.list_page(limit=1)).position
    job_id = await client.submit(["true"])

    async with aclosing(client.follow_events(position)) as events:
        seen = []
        async for event in events:
            if event.job_id == job_id:
                seen.append(event.kind)
            if event.kind == "completed":
                break

    assert seen[0] == "submitted"
    assert seen[-1] == "completed"


async def test_a_log_is_followed_to_its_end(client: Client) -> None:
    job_id = await client.submit(["sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.3; done"])

    pieces = [piece async for piece in client.follow_log(job_id)]

    assert b"".join(pieces) == b"1\n2\n3\n"
    assert len(pieces) > 1
