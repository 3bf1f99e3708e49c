"""The client against a real server that can be told to do what a real service seldom does."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from jobmgr import errors
from jobmgr.client import Client
from jobmgr.domain.job import EventPosition, Job
from jobmgr.domain.status import Status
from jobmgr.errors import (
    AnswerLost,
    EventsGone,
    FileMissing,
    InvalidRequest,
    JobNotFound,
    RemoteError,
    ServiceUnreachable,
    WaitTimeout,
)
from jobmgr.wire.translation import encode, job_answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NOW = datetime(2026, 1, 31, 18, tzinfo=UTC)


def job(job_id: str, status: Status) -> Job:
    return Job(
        job_id=job_id, name="", description="", status=status, priority=0, queue="default", site="local",
        executor="local", user="me", draft=False, attempt=1, exit_code=None, error=None, created_at=NOW, due_at=None,
        held_at=None, deps_left=0, cancel_requested_at=None, pause_requested_at=None, queued_at=NOW, started_at=NOW,
        finished_at=None, handle=None, work_dir=None, tags=(), extended_properties={}, key=None, v=1,
    )  # fmt: skip


class Service:
    """Answers each request with the handler set for its method and path, and notes what was asked."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.asked: list[str] = []
        self.states: dict[str, Status] = {}
        self.seq = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name = f"{request.method} {request.path}"
        self.asked.append(f"{name}?{request.query_string}" if request.query_string else name)
        if name in self.handlers:
            return await self.handlers[name](request)
        if name == "GET /api/v1/jobs":
            return self.jobs(request)
        return web.Response(status=404, text="what?")

    def jobs(self, request: web.Request) -> web.Response:
        wanted = request.query["ids"].split(",") if "ids" in request.query else []
        found = [job_answer(job(job_id, self.states[job_id])) for job_id in wanted if job_id in self.states]
        answer = {"jobs": found, "next_cursor": None, "epoch": "e", "seq": self.seq}
        return web.Response(body=encode(answer), content_type="application/json")

    def problem(self, status: int, code: str, detail: str, **facts: Any) -> Handler:
        async def answer(_: web.Request) -> web.Response:
            document = {
                "type": "urn:x",
                "title": "x",
                "status": status,
                "detail": detail,
                "code": code,
                **facts,
            }
            return web.Response(
                status=status, body=json.dumps(document), content_type="application/problem+json"
            )

        return answer

    def streams(self, *streams: list[bytes | Callable[[], None]]) -> None:
        """Each connection to the events gets the next stream, the last one stays open."""
        left = list(streams)

        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for item in left.pop(0):
                if isinstance(item, bytes):
                    await response.write(item)
                else:
                    item()
            if not left:
                await asyncio.Event().wait()
            return response

        self.handlers["GET /api/v1/events"] = answer

    def event(self, job_id: str, status: str) -> bytes:
        self.seq += 1
        data = {"seq": self.seq, "at": "2026-01-31T18:00:00.000000Z", "kind": status, "job_id": job_id, "user": "me",
                "v": 2, "status": status}  # fmt: skip
        return f"id: e:{self.seq}\nevent: {status}\ndata: {json.dumps(data)}\n\n".encode()


@pytest_asyncio.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield service
    await runner.cleanup()


@pytest_asyncio.fixture
async def client(service: Service) -> AsyncIterator[Client]:
    async with Client(service.url, "token", timeout_s=1.0, patience_s=5.0) as client:
        yield client


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "invalid_request", InvalidRequest),
        (422, "dependency_cycle", errors.DependencyCycle),
        (400, "malformed_body", InvalidRequest),
        (413, "body_too_large", InvalidRequest),
        (404, "job_not_found", JobNotFound),
        (404, "file_not_found", FileMissing),
        (409, "job_exists", errors.JobExists),
        (409, "key_reused", errors.KeyReused),
        (409, "illegal_transition", errors.IllegalTransition),
        (409, "conflict", errors.Conflict),
        (410, "events_gone", EventsGone),
        (403, "access_denied", errors.AccessDenied),
        (503, "store_unavailable", errors.StoreUnavailable),
        (401, "token_required", RemoteError),
        (500, "internal_error", RemoteError),
    ],
)
async def test_problems_become_the_errors_they_were(
    service: Service, client: Client, status: int, code: str, kind: type[errors.JobmgrError]
) -> None:
    service.handlers["GET /api/v1/jobs/j1"] = service.problem(
        status, code, "a: what was wrong", field="a", epoch="e", seq=7
    )

    with pytest.raises(kind) as caught:
        await client.get("j1")

    assert type(caught.value) is kind
    assert "what was wrong" in str(caught.value)
    facts = {
        name: getattr(caught.value, name)
        for name in ("job_id", "field", "epoch")
        if hasattr(caught.value, name)
    }
    assert facts in ({"job_id": "j1"}, {"field": "a"}, {"epoch": "e"}, {})


def test_every_error_of_the_service_has_a_class_in_the_client() -> None:
    # Those that only a client meets, roots, and those that end a service before it answers.
    elsewhere = {
        *(
            "error",
            "service_unreachable",
            "answer_lost",
            "remote_error",
            "address_unavailable",
            "ambiguous_id",
            "queue_not_found",
            # Of programs that run services and simulations themselves.
            *(
                kind.code
                for kind in (
                    errors.AnswerNotUnderstood,
                    errors.NotRunning,
                    errors.SecretUnavailable,
                    errors.UnsafeFile,
                    errors.SimulationFailed,
                    errors.SubmitRefused,
                    errors.SchedulerUnavailable,
                    errors.SubmitDoubtful,
                )
            ),
        )
    }
    source = (Path(errors.__file__).parent / "client" / "problem.py").read_text()

    for kind in vars(errors).values():
        # Answers tell codes; what shares the code of its root is told as that.
        if isinstance(kind, type) and issubclass(kind, errors.JobmgrError) and "code" in vars(kind):
            assert kind.code in elsewhere or re.search(rf"\berrors\.{kind.__name__}\b", source), kind


@pytest.mark.parametrize("status", [200, 404, 405, 501])
async def test_a_server_that_is_no_jobmgr_is_told_apart(
    service: Service, client: Client, status: int
) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>", content_type="text/html")

    service.handlers["GET /api/v1/jobs/j1"] = page

    with pytest.raises(ServiceUnreachable, match="no jobmgr"):
        await client.get("j1")


async def test_what_a_gateway_answers_is_not_an_answer_of_the_service(
    service: Service, client: Client
) -> None:
    async def gateway(_: web.Request) -> web.Response:
        return web.Response(status=504, text="<html>", content_type="text/html")

    service.handlers["GET /api/v1/limits"] = service.handlers["POST /api/v1/jobs"] = gateway

    with pytest.raises(ServiceUnreachable, match="504 Gateway"):
        await client.limits()
    with pytest.raises(AnswerLost, match="504 Gateway"):
        await client.submit(["true"])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that nobody trusts, with its key in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*argv, *names, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


async def test_what_keeps_tls_from_being_spoken_is_told_with_its_remedy(certificate: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    said = []
    for context in (tls, None):
        async with await asyncio.start_server(hear, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            async with Client(f"https://localhost:{port}", patience_s=0) as client:
                with pytest.raises(ServiceUnreachable) as caught:
                    await client.limits()
        said.append(str(caught.value))

    assert "its certificate is not trusted: self-signed certificate" in said[0]
    assert "SSL_CERT_FILE" in said[0]
    assert "what listens there speaks no TLS" in said[1]
    assert not any("jobmgr serve" in sentence for sentence in said)


async def test_only_who_can_start_the_service_is_told_to(service: Service, client: Client) -> None:
    async def gateway(_: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>", content_type="text/html")

    service.handlers["GET /api/v1/limits"] = gateway
    said = []
    for url in (service.url, "http://127.0.0.1:1", "unix:/nowhere/s", "http://jobs.invalid:1"):
        async with Client(url, patience_s=0) as other:
            with pytest.raises(ServiceUnreachable) as caught:
                await other.limits()
        said.append("start one with `jobmgr serve`" in str(caught.value))

    assert said == [False, True, True, False]


async def test_the_token_follows_no_redirect(service: Service, client: Client) -> None:
    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    service.handlers["GET /api/v1/limits"] = redirect

    with pytest.raises(ServiceUnreachable, match="no jobmgr"):
        await client.limits()
    assert service.asked == ["GET /api/v1/limits"]


async def test_waiting_survives_a_database_that_is_away(service: Service, client: Client) -> None:
    service.states = {"a": Status.RUNNING}

    async def unavailable(request: web.Request) -> web.StreamResponse:
        service.states["a"] = Status.COMPLETED
        return await service.problem(503, "store_unavailable", "busy")(request)

    service.handlers["GET /api/v1/events"] = unavailable

    assert (await client.wait("a")).status is Status.COMPLETED


async def test_who_asked_too_often_asks_again_when_the_service_said(service: Service, client: Client) -> None:
    asked_at: list[float] = []

    async def refuse_first(request: web.Request) -> web.StreamResponse:
        asked_at.append(asyncio.get_running_loop().time())
        body = await request.read()
        if len(asked_at) == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        assert body.count(b"\n") == 2
        return web.Response(status=201, body=b'{"job_ids": ["a", "b"]}', content_type="application/json")

    service.handlers["POST /api/v1/jobs"] = refuse_first

    job_ids = await client.submit_many([{"command": ["true"]}] * 2)

    assert job_ids == ["a", "b"]
    assert asked_at[1] - asked_at[0] >= 1


async def test_who_asked_too_often_and_has_no_patience_is_told_how_long(service: Service) -> None:
    for said, seconds in (("7", 7), ("", None), ("Sun, 22 Nov 2026 00:00:00 GMT", None)):

        async def refuse(_: web.Request, said: str = said) -> web.Response:
            return web.Response(status=429, headers={"Retry-After": said})

        service.handlers["GET /api/v1/limits"] = refuse
        async with Client(service.url, patience_s=0) as client:
            with pytest.raises(errors.TooManyRequests) as caught:
                await client.limits()
        assert caught.value.retry_after_s == seconds


async def drop(request: web.Request) -> web.Response:
    """The answer is lost."""
    await request.read()
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_a_change_whose_answer_is_lost_is_sent_again_under_its_key(
    service: Service, client: Client
) -> None:
    sent: list[tuple[str, bytes]] = []

    async def lose_two(request: web.Request) -> web.Response:
        sent.append((request.headers["Idempotency-Key"], await request.read()))
        if len(sent) < 3:
            return await drop(request)
        return web.Response(status=201, body=b'{"job_ids": ["a", "b"]}', content_type="application/json")

    service.handlers["POST /api/v1/jobs"] = lose_two

    job_ids = await client.submit_many([{"command": ["true"]}, {"command": ["false"]}])

    assert job_ids == ["a", "b"]
    assert sent == [sent[0]] * 3
    assert len(sent[0][1].splitlines()) == 2


async def test_two_changes_have_two_keys(service: Service, client: Client) -> None:
    keys: list[str] = []

    async def note(request: web.Request) -> web.Response:
        keys.append(request.headers["Idempotency-Key"])
        return web.Response(
            status=201, body=b'{"job_id": "a", "status": "queued"}', content_type="application/json"
        )

    service.handlers["POST /api/v1/jobs"] = note

    await client.submit(["true"])
    await client.submit(["true"])

    assert len(set(keys)) == 2


async def test_a_change_is_sent_again_while_the_database_is_away(service: Service, client: Client) -> None:
    away = service.problem(503, "store_unavailable", "the database is away")

    async def first_away(request: web.Request) -> web.StreamResponse:
        if len(service.asked) < 3:
            return await away(request)
        return web.Response(
            status=201, body=b'{"job_id": "a", "status": "queued"}', content_type="application/json"
        )

    service.handlers["POST /api/v1/jobs"] = first_away

    assert await client.submit(["true"]) == "a"


@pytest.mark.parametrize("code", ["token_required", "schema_outdated"])
async def test_a_repeat_that_is_refused_for_another_reason_leaves_it_unknown(
    service: Service, client: Client, code: str
) -> None:
    refuse = service.problem(401 if code == "token_required" else 503, code, "no")

    async def lose_first(request: web.Request) -> web.StreamResponse:
        return await (drop if len(service.asked) == 1 else refuse)(request)

    service.handlers["POST /api/v1/jobs"] = lose_first

    with pytest.raises(AnswerLost, match="`jobmgr show j-1`"):
        await client.submit(["true"], job_id="j-1")


async def test_a_service_that_goes_away_after_a_commit_in_doubt_is_waited_for(
    service: Service, client: Client
) -> None:
    away = service.problem(503, "store_unavailable", "the server closed the connection")

    async def doubt_then_drop(request: web.Request) -> web.StreamResponse:
        if len(service.asked) == 1:
            return await away(request)
        if len(service.asked) == 2:
            return await drop(request)
        return web.Response(
            status=201, body=b'{"job_id": "a", "status": "queued"}', content_type="application/json"
        )

    service.handlers["POST /api/v1/jobs"] = doubt_then_drop

    assert await client.submit(["true"]) == "a"


async def test_answers_that_stay_lost_say_how_to_look(service: Service) -> None:
    service.handlers["POST /api/v1/jobs"] = drop

    async with Client(service.url, "token", timeout_s=1.0, patience_s=0.0) as client:
        with pytest.raises(AnswerLost) as one:
            await client.submit(["true"], job_id="j-1")
        with pytest.raises(AnswerLost) as many:
            await client.submit_many([{"command": ["true"]}, {"command": ["true"]}])
        with pytest.raises(AnswerLost) as keyed:
            await client.submit(["true"], key="k")

    assert "`jobmgr show j-1`" in str(one.value)
    assert re.search(r"all or none of the 2 were stored: `jobmgr show [0-9a-f]{20}`", str(many.value))
    assert "a job with a `key` may just be submitted again" in str(keyed.value)


async def test_an_answer_that_takes_too_long_is_lost(service: Service) -> None:
    async def hang(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    service.handlers["POST /api/v1/jobs"] = hang
    service.handlers["GET /api/v1/limits"] = hang

    async with Client(service.url, "token", timeout_s=1.0, patience_s=0.0) as client:
        with pytest.raises(AnswerLost, match="no answer within 1 s"):
            await client.submit(["true"])
        with pytest.raises(ServiceUnreachable, match="no answer within 1 s"):
            await client.limits()


async def test_a_refused_connection_stored_nothing() -> None:
    async with Client("http://127.0.0.1:1") as client:
        with pytest.raises(ServiceUnreachable, match=r"connection refused.*jobmgr serve"):
            await client.submit(["true"])


async def test_an_id_that_cannot_be_one_is_not_even_asked_for(service: Service, client: Client) -> None:
    for job_id in ("", "../limits", "a/b", "a b", "é", "x" * 129, "j1\n"):
        with pytest.raises(JobNotFound):
            await client.get(job_id)
        with pytest.raises(JobNotFound):
            await client.wait_many(["j1", job_id])

    assert service.asked == []


async def test_a_command_is_a_list(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="command"):
        await client.submit("echo hello")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../../token", "a/../b", "a//b", "."])
async def test_a_path_that_leaves_the_run_directory_is_refused(
    service: Service, client: Client, name: str
) -> None:
    with pytest.raises(InvalidRequest):
        await client.file("j1", name)

    assert service.asked == []


async def test_the_token_is_shown(service: Service, client: Client) -> None:
    async def tell(request: web.Request) -> web.Response:
        return web.Response(body=request.headers["Authorization"].encode())

    service.handlers["GET /api/v1/jobs/j1/files/a b/%c"] = tell

    assert await client.file("j1", "a b/%c") == b"Bearer token"


async def test_waiting_reads_once_and_then_follows_events(service: Service, client: Client) -> None:
    service.states = {"a": Status.COMPLETED, "b": Status.RUNNING, "c": Status.QUEUED}
    told: list[tuple[int, int]] = []

    def end() -> None:
        service.states |= {"b": Status.FAILED, "c": Status.COMPLETED}

    first = service.event("b", "running")
    service.seq = 0
    service.streams(
        [
            first,
            end,
            service.event("b", "failed"),
            service.event("x", "failed"),
            service.event("c", "completed"),
        ]
    )
    service.seq = 5
    jobs = await client.wait_many(["c", "a", "b", "a"], lambda ended, total: told.append((ended, total)))

    assert [(job.job_id, job.status) for job in jobs] == [
        ("c", "completed"), ("a", "completed"), ("b", "failed"), ("a", "completed"),
    ]  # fmt: skip
    assert told == [(1, 3), (2, 3), (3, 3), (3, 3)]
    assert service.asked == [
        "GET /api/v1/jobs?ids=c,a,b&limit=3", "GET /api/v1/events?after=e:5", "GET /api/v1/jobs?ids=c,b&limit=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "broken", [[], [b'event: reset\ndata: {"epoch": "e2", "seq": 9, "detail": "too slow"}\n\n'], [b"data: {"]]
)
async def test_waiting_survives_a_stream_that_breaks(
    service: Service, client: Client, broken: list[Any]
) -> None:
    service.states = {"a": Status.RUNNING}

    def end() -> None:
        service.states["a"] = Status.COMPLETED

    service.streams(broken, [end, service.event("a", "completed")])

    assert (await client.wait("a")).status is Status.COMPLETED
    assert len(service.asked) == 5


async def test_waiting_survives_a_cursor_that_is_gone(service: Service, client: Client) -> None:
    service.states = {"a": Status.RUNNING}

    async def gone(request: web.Request) -> web.StreamResponse:
        service.states["a"] = Status.CANCELLED
        return await service.problem(410, "events_gone", "another epoch", epoch="e2", seq=1)(request)

    service.handlers["GET /api/v1/events"] = gone

    assert (await client.wait("a")).status is Status.CANCELLED


async def test_waiting_gives_up_in_time_and_names_what_is_left(service: Service, client: Client) -> None:
    service.states = {"a": Status.RUNNING, "b": Status.COMPLETED}
    service.streams([])

    with pytest.raises(WaitTimeout, match=r"1 of 2 jobs had not ended after 0.2 s: a"):
        await client.wait_many(["a", "b"], timeout_s=0.2)


async def test_waiting_for_a_service_that_stays_away_ends(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.states = {"a": Status.RUNNING}
    refused = service.problem(503, "x", "x")

    async def vanish(request: web.Request) -> web.StreamResponse:
        async def abort(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return await refused(request)

        service.handlers["GET /api/v1/jobs"] = service.handlers["GET /api/v1/events"] = abort
        return await abort(request)

    service.handlers["GET /api/v1/events"] = vanish
    async with Client(service.url, patience_s=0.5) as client:
        with caplog.at_level(logging.WARNING), pytest.raises(ServiceUnreachable):
            await client.wait("a")

    # Pauses grow, so half a second of patience is a handful of tries.
    assert 3 <= len(service.asked) <= 12
    assert "trying again" in caplog.text


async def test_waiting_for_no_jobs_asks_nobody(service: Service, client: Client) -> None:
    assert await client.wait_many([]) == []
    assert service.asked == []


async def test_many_ids_are_asked_for_in_pages(service: Service, client: Client) -> None:
    job_ids = [f"{'x' * 100}{n}" for n in range(450)]
    service.states = dict.fromkeys(job_ids, Status.COMPLETED)

    jobs = await client.wait_many(job_ids)

    assert [job.job_id for job in jobs] == job_ids
    assert all(len(line) < 8000 for line in service.asked)


async def test_following_resumes_after_the_last_event_and_gives_each_once(
    service: Service, client: Client
) -> None:
    one, two, three = (service.event("a", "queued") for _ in range(3))
    service.streams([one, two], [three])

    async with aclosing(client.follow_events(EventPosition("e", 0))) as events:
        seen = [(await anext(events)).seq for _ in range(3)]

    assert seen == [1, 2, 3]
    assert service.asked == ["GET /api/v1/events?after=e:0", "GET /api/v1/events?after=e:2"]


async def test_following_says_when_events_were_missed(service: Service, client: Client) -> None:
    service.streams([b'event: reset\ndata: {"epoch": "e2", "seq": 9, "detail": "too slow"}\n\n'])

    async with aclosing(client.follow_events(EventPosition("e", 0))) as events:
        with pytest.raises(EventsGone) as caught:
            await anext(events)

    assert (caught.value.epoch, caught.value.seq) == ("e2", 9)


async def test_a_client_that_is_not_open_says_how_to_use_it() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client("http://127.0.0.1:1").limits()
