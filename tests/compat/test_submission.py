"""Submitting to a service elsewhere: what is lost is asked for again, and nothing is run twice."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.compat.pyedb import JobManager, ResourceLimits, submit_job_to_manager
from jobmgr.errors import AnswerLost, InvalidRequest, NobodyListens, ServiceUnreachable, SimulationFailed
from tests.compat.conftest import Make

_HOST = re.compile(rb"\r\nHost: [^\r]*")
LIMITS = ResourceLimits(2, 100, 0, 0)


@pytest_asyncio.fixture
async def manager(home: Path) -> AsyncIterator[JobManager]:
    async with JobManager(LIMITS) as manager:
        yield manager


@pytest.fixture
def nowhere() -> str:
    """The URL of a port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://localhost:{free.getsockname()[1]}"


class Cutter:
    """Stands between a client and a service, whose answers get lost, the first `count` of them, after a while.

    If it `dies` with the last of them, nobody listens there any more.
    """

    def __init__(self, count: int, a_while: Callable[[], Awaitable[None]], *, dies: bool = False) -> None:
        self.lost = 0
        self.count = count
        self.a_while = a_while
        self.dies = dies

    @asynccontextmanager
    async def before(self, url: str) -> AsyncIterator[str]:
        """The URL under which the service at `url` is to be had."""
        host, _, port = url.removeprefix("http://").rpartition(":")

        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(host, int(port))
            request = await _message(reader)
            # The guard knows its own names only.
            back.write(_HOST.sub(f"\r\nHost: {host}:{port}".encode(), request, count=1))
            answer = await _message(there)
            if self.lost < self.count:
                self.lost += 1
                await self.a_while()
                if self.dies and self.lost == self.count:
                    server.close()
                writer.transport.abort()
            else:
                writer.write(answer)
                await writer.drain()
            back.close()
            writer.close()

        server = await asyncio.start_server(meet, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


async def test_a_job_is_stored_at_the_service(manager: JobManager, make: Make) -> None:
    job_id = await submit_job_to_manager(make("patch_1"), 7, manager.session.url)
    await manager.wait_until_all_done()

    assert job_id == "patch_1"
    assert (manager.jobs[job_id].status, manager.jobs[job_id].priority) == ("completed", 7)


async def test_an_answer_that_is_lost_is_asked_for_again_and_the_job_runs_once(
    manager: JobManager, make: Make, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # It has ended when it is asked for again: without a key it would be another run.
    cutter = Cutter(2, manager.wait_until_all_done)
    async with cutter.before(manager.session.url) as url:
        job_id = await submit_job_to_manager(make("patch_1"), manager_url=url)

    assert cutter.lost == 2
    assert len(manager.jobs) == 1
    assert len(list((home / "work/runs" / job_id).iterdir())) == 1
    assert not [record for record in caplog.records if "run by this program" in record.message]


async def test_an_answer_that_stays_lost_is_an_error_and_nothing_runs_here(
    manager: JobManager, make: Make, home: Path
) -> None:
    async with Cutter(1000, manager.wait_until_all_done).before(manager.session.url) as url:
        with pytest.raises(AnswerLost, match="unknown whether"):
            await submit_job_to_manager(make("patch_1"), manager_url=url, patience_s=0.2)
        await manager.wait_until_all_done()

    assert manager.jobs["patch_1"].status == "completed"
    assert len(list((home / "work/runs/patch_1").iterdir())) == 1
    # Of a run by this program there would be another log beside the project.
    assert len(list((home.parent / "projects").glob("*.batchinfo.*"))) == 1


async def test_an_answer_that_is_lost_with_its_service_is_an_error_and_nothing_runs_here(
    manager: JobManager, make: Make, home: Path
) -> None:
    # A connection that is refused says that nobody is there now, and nothing of what was sent before.
    cutter = Cutter(1, manager.wait_until_all_done, dies=True)
    async with cutter.before(manager.session.url) as url:
        with pytest.raises(AnswerLost, match="unknown whether") as raised:
            await submit_job_to_manager(make("patch_1"), manager_url=url, patience_s=0.2)

    assert cutter.lost == 1
    assert isinstance(raised.value.__cause__, NobodyListens)
    assert len(list((home / "work/runs/patch_1").iterdir())) == 1
    # Of a run by this program there would be another log beside the project.
    assert len(list((home.parent / "projects").glob("*.batchinfo.*"))) == 1


async def test_a_refused_connection_lets_this_program_run_it_and_is_told(
    make: Make, nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = make("patch_1")

    with caplog.at_level(logging.WARNING):
        job_id = await submit_job_to_manager(config, manager_url=nowhere)

    assert job_id == "patch_1"
    assert (Path(config.project_path).parent / "patch_1.aedtresults" / "solution").read_text() == "patch_1\n"
    assert [record for record in caplog.records if "patch_1 is run by this program" in record.message]


async def test_a_run_here_that_fails_is_an_error(make: Make, nowhere: str) -> None:
    with pytest.raises(SimulationFailed, match=r"(?s)ended with 7.*out of licences"):
        await submit_job_to_manager(
            make("patch_1", fails_at="Adaptive Pass 1", exit_code=7, complains="out of licences"),
            manager_url=nowhere,
        )


async def test_what_is_no_refused_connection_runs_nothing_here(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ServiceUnreachable):
        await submit_job_to_manager(make("patch_1"), manager_url="http://no-such-host.invalid:8080")

    assert not list((tmp_path / "projects").glob("*.batchinfo.*"))


async def test_a_refusal_of_the_service_is_raised_and_nothing_runs_here(
    manager: JobManager, make: Make, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="priority"):
        await submit_job_to_manager(make("patch_1"), 2**40, manager.session.url)

    assert len(manager.jobs) == 0
    assert not list((tmp_path / "projects").glob("*.batchinfo.*"))
