"""Two users and what each is to the other: on every route, in lists, events, streams and rooms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import socketio
import sqlalchemy as sa

from jobmgr.api.app import make_app
from jobmgr.api.browser import Browsers
from jobmgr.api.guard import Guard, own_uid
from jobmgr.api.route import Route
from jobmgr.api.routes import ROUTES
from jobmgr.domain.access import Principal, Role, Scope, Verb, may
from jobmgr.domain.queue import Queue
from jobmgr.service import JobManager
from jobmgr.store.tables import Event
from tests.api.conftest import TOKEN, Answer, Api, eventually, serving

PRINCIPALS = {
    "ann": Principal("ann", Role.USER),
    "ben": Principal("ben", Role.USER, mates={"ann": None}),
    "zoe": Principal("zoe", Role.USER),
    "viewer": Principal("viewer", Role.VIEWER),
    "admin": Principal("root", Role.ADMIN),
    "reader": Principal("ann", Role.ADMIN, frozenset({Scope.READ})),
    "submitter": Principal("ann", Role.USER, frozenset({Scope.SUBMIT}), mates={"ben": None}),
    "bound": Principal("ann", Role.USER, job_id="anns", token_id="jmj_anns.1"),
}
# All others are to read, if they only tell something, or to change.
VERBS = {
    ("POST", "/api/v1/jobs"): Verb.SUBMIT,
    ("POST", "/jobs/submit"): Verb.SUBMIT,
    ("POST", "/api/submit"): Verb.SUBMIT,
    ("PATCH", "/api/v1/jobs/{job_id}"): Verb.REPORT,
    ("PATCH", "/api/v1/limits"): Verb.OPERATE,
    ("PATCH", "/pool/limits"): Verb.OPERATE,
    ("PUT", "/pool/limits"): Verb.OPERATE,
    ("PATCH", "/api/v1/queues/{name}"): Verb.OPERATE,
    ("PUT", "/api/v1/sites/{name}"): Verb.OPERATE,
    ("PATCH", "/api/v1/sites/{name}"): Verb.OPERATE,
    ("DELETE", "/api/v1/sites/{name}"): Verb.OPERATE,
    ("POST", "/api/v1/sites/{name}/test"): Verb.OPERATE,
    ("GET", "/api/v1/cluster/{name}/jobs"): Verb.OVERSEE,
    ("POST", "/system/start_monitoring"): Verb.LOOK,
    **{
        ("GET", path): Verb.LOOK
        for path in (
            "/api/v1/limits",
            "/api/v1/queues",
            "/api/v1/sites",
            "/api/v1/cluster",
            "/api/v1/cluster/{name}",
            "/api/v1/cluster/{name}/partitions",
            "/api/v1/cluster/{name}/nodes",
            "/resources",
            "/api/resources",
            "/queue",
            "/api/queue",
            "/pool/limits",
            "/scheduler/partitions",
            "/api/cluster_partitions",
            "/api/scheduler_type",
            "/system/status",
        )
    },
    **{("GET", path): Verb.SELF for path in ("/readyz", "/openapi.json", "/docs", "/api/me")},
    ("GET", "/healthz"): None,
    ("GET", "/api/v1/me"): Verb.SELF,
    ("GET", "/api/v1/tokens"): Verb.SELF,
    ("DELETE", "/api/v1/tokens/{token_id}"): Verb.SELF,
    ("GET", "/api/v1/users"): Verb.GOVERN,
    ("GET", "/api/v1/users/{name}"): Verb.GOVERN,
    ("PUT", "/api/v1/users/{name}"): Verb.GOVERN,
    ("PATCH", "/api/v1/users/{name}"): Verb.GOVERN,
    ("DELETE", "/api/v1/users/{name}"): Verb.GOVERN,
    ("POST", "/api/v1/tokens"): Verb.GOVERN,
    ("GET", "/api/v1/reports/audit"): Verb.GOVERN,
}
OF_A_JOB = [route for route in ROUTES if "{job_id}" in route.path]
BODIES: dict[tuple[str, str], Any] = {
    ("PATCH", "/api/v1/jobs/{job_id}"): {"name": "other"},
    ("POST", "/api/v1/jobs/{job_id}/priority"): {"priority": 5},
    ("POST", "/jobs/{job_id}/priority"): {"priority": 5},
}


async def by_token(shown: str) -> Principal | None:
    return PRINCIPALS.get(shown)


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


class House(Api):
    """The service, asked by whoever is named."""

    async def by(self, who: str, method: str, path: str, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {who}", **options.pop("headers", {})}
        return await self.request(method, path, headers=headers, **options)

    async def ask(self, who: str, route: Route, job_id: str) -> Answer:
        path = route.path.replace("{job_id}", job_id).replace("{path:[\\s\\S]+}", "stdout")
        path = path.replace("{name}", "name")
        body = BODIES.get((route.method, route.path))
        return await self.by(who, route.method, path, **({} if body is None else {"json": body}))

    async def submitted(self, who: str, **fields: Any) -> Answer:
        return await self.by(who, "POST", "/api/v1/jobs", json={"command": ["true"], **fields})


@pytest_asyncio.fixture
async def house(manager: JobManager) -> AsyncIterator[House]:
    guard = Guard(TOKEN, own_uid(), True, Browsers(), Principal.owner(manager.user), by_token)
    async with serving(make_app(manager, guard)) as url, aiohttp.ClientSession() as session:
        yield House(manager, url, session)


@pytest_asyncio.fixture
async def anns(house: House) -> House:
    """With an ended job of hers that wrote something."""
    assert (await house.submitted("ann", job_id="anns", name="her secret")).status == 201
    await house.manager.wait("anns", 30)
    return house


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_what_a_route_takes(route: Route) -> None:
    default = Verb.READ if route.method == "GET" else Verb.CHANGE
    wanted = VERBS.get((route.method, route.path), default)
    assert route.takes == wanted


async def test_every_route_refuses_whom_it_must(house: House) -> None:
    for who, principal in PRINCIPALS.items():
        for route in ROUTES:
            if route.takes is not None and not may(principal, route.takes):
                answer = await house.ask(who, route, "anns")
                assert answer.status == 403, (who, name_of(route), answer)
                assert answer.json["code"] == "access_denied"
    assert await house.count() == 0


async def test_job_of_another_is_as_if_there_were_none(anns: House) -> None:
    for route in OF_A_JOB:
        refused = await anns.ask("zoe", route, "anns")
        unknown = await anns.ask("zoe", route, "none")
        assert refused.status == unknown.status, name_of(route)
        assert refused.body.replace(b"anns", b"none") == unknown.body, name_of(route)
        assert b"secret" not in refused.body
    job = await anns.manager.get("anns")
    assert (job.name, job.v, job.attempt) == ("her secret", 4, 1)


async def test_mates_look_and_do_not_touch(anns: House) -> None:
    for route in OF_A_JOB:
        answer = await anns.ask("ben", route, "anns")
        if route.method == "GET":
            assert answer.status in (200, 404), name_of(route)
            assert b"there is no job" not in answer.body, name_of(route)
        elif route.path != "/api/cancel/{job_id}":
            assert answer.json["code"] == "access_denied", name_of(route)
    assert (await anns.manager.get("anns")).v == 4
    assert (await anns.by("ben", "GET", "/api/v1/jobs/anns")).json["name"] == "her secret"


async def test_lists_hold_what_is_seen(anns: House) -> None:
    await anns.submitted("zoe", job_id="zoes", draft=True)
    seen = {
        "ann": {"anns"},
        "ben": {"anns"},
        "zoe": {"zoes"},
        "viewer": {"anns", "zoes"},
        "admin": {"anns", "zoes"},
        "bound": {"anns"},
    }
    for who, ids in seen.items():
        for query in ("", "?ids=anns,zoes", "?order=created", "?order=-priority", "?name=*", "?total=true"):
            found = (await anns.by(who, "GET", f"/api/v1/jobs{query}")).json
            assert {job["job_id"] for job in found["jobs"]} == ids, (who, query)
            assert found["total"] in (None, len(ids))
        for user in ("ann", "zoe"):
            found = (await anns.by(who, "GET", f"/api/v1/jobs?user={user}&total=true")).json
            wanted = ids & {f"{user}s"}
            assert ({job["job_id"] for job in found["jobs"]}, found["total"]) == (wanted, len(wanted)), who
        for path in ("/jobs", "/jobs?limit=10", "/api/jobs"):
            assert {job["id"] for job in (await anns.by(who, "GET", path)).json} == ids, (who, path)
        events = (await anns.by(who, "GET", "/api/v1/events")).json
        assert {event["job_id"] for event in events["events"]} - {None} == ids
    assert (await anns.by("zoe", "GET", "/api/me")).json["username"] == "zoe"


async def test_pages_of_events_go_on_behind_those_of_others(anns: House) -> None:
    await anns.submitted("zoe", job_id="zoes", draft=True)
    seen: list[str] = []
    after = "0"
    while True:
        page = (await anns.by("zoe", "GET", f"/api/v1/events?limit=1&after={after}")).json
        seen += [event["job_id"] for event in page["events"] if event["job_id"]]
        if page["next_after"] == f"{page['epoch']}:{page['seq']}":
            break
        after = page["next_after"]
    assert seen == ["zoes"]


@pytest.mark.parametrize("query", ["", "?job=zoes"])
async def test_stream_tells_of_own_jobs(house: House, query: str) -> None:
    await house.submitted("zoe", job_id="zoes", draft=True)
    headers = {"Accept": "text/event-stream", "Authorization": "Bearer zoe"}
    async with house.session.get(f"{house.url}/api/v1/events{query}", headers=headers) as response:
        await response.content.readuntil(b"\n\n")
        await house.submitted("ann", job_id="anns", draft=True)
        await house.by("zoe", "POST", "/api/v1/jobs/zoes/cancel")
        async with asyncio.timeout(30):
            told = await response.content.readuntil(b"\n\n")
    assert b"zoes" in told
    assert b"anns" not in told
    refused = await house.by("zoe", "GET", "/api/v1/events?job=anns", headers={"Accept": "text/event-stream"})
    assert refused.status == 404


class Client:
    """A Socket.IO client that keeps what it is told."""

    def __init__(self) -> None:
        self.client = socketio.AsyncClient(reconnection=False)
        self.told: list[tuple[str, Any]] = []
        self.ended = asyncio.Event()
        self.client.on("*", self._keep)

    async def _keep(self, name: str, data: Any) -> None:
        self.told.append((name, data))
        if "zoes" in str(data) and "cancelled" in str(data):
            self.ended.set()


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("auth", [None, {"rooms": ["events"]}, {"rooms": ["job:zoes"]}])
async def test_sockets_tell_of_own_jobs(house: House, transport: str, auth: Any) -> None:
    await house.submitted("zoe", job_id="zoes", draft=True)
    listener = Client()
    headers = {"Authorization": "Bearer zoe"}
    await listener.client.connect(house.url, headers=headers, transports=[transport], auth=auth)
    refused = await listener.client.call("subscribe", {"rooms": ["job:none"]})
    await house.submitted("ann", job_id="anns", draft=True)
    foreign = await listener.client.call("subscribe", {"rooms": ["job:anns"]})
    await house.by("ann", "POST", "/api/v1/jobs/anns/cancel")
    await house.by("zoe", "POST", "/api/v1/jobs/zoes/cancel")
    async with asyncio.timeout(30):
        await listener.ended.wait()
    await listener.client.disconnect()
    assert "anns" not in str(listener.told)
    assert str(foreign).replace("anns", "none") == str(refused)


async def test_what_messages_tell_is_read_once_for_all_who_hear(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners = {who: Client() for who in ("ann", "ben", "zoe", "viewer", "admin")}
    for who, listener in listeners.items():
        await listener.client.connect(house.url, headers={"Authorization": f"Bearer {who}"})
    read = house.manager.queues
    readings = []

    async def counted() -> Sequence[Queue]:
        readings.append("queues")
        return await read()

    monkeypatch.setattr(house.manager, "queues", counted)

    await house.submitted("ann", job_id="anns")
    await house.manager.wait("anns", 30)
    await house.submitted("zoe", job_id="zoes", draft=True)
    await house.by("zoe", "POST", "/api/v1/jobs/zoes/cancel")

    async def all_told() -> bool:
        queued = {
            who: [data["job_id"] for name, data in listener.told if name == "job_queued"]
            for who, listener in listeners.items()
        }
        return listeners["zoe"].ended.is_set() and queued == {
            "ann": ["anns"],
            "ben": ["anns"],
            "zoe": [],
            "viewer": ["anns"],
            "admin": ["anns"],
        }

    await eventually(all_told)
    for listener in listeners.values():
        await listener.client.disconnect()
    assert len(readings) == 1


async def test_room_of_another_refuses_the_connection(anns: House) -> None:
    client = socketio.AsyncClient(reconnection=False)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await client.connect(anns.url, headers={"Authorization": "Bearer zoe"}, auth={"rooms": ["job:anns"]})


async def test_only_admins_submit_for_others(house: House) -> None:
    assert (await house.submitted("zoe", user="ann")).json["code"] == "access_denied"
    bulk = {"jobs": [{"command": ["true"]}, {"command": ["true"], "user": "ann"}]}
    assert (await house.by("zoe", "POST", "/api/v1/jobs", json=bulk)).status == 403
    assert await house.count() == 0
    assert (await house.submitted("zoe", user="zoe", draft=True)).status == 201
    (await house.submitted("admin", user="ann ", draft=True)).problem(422, "invalid_request", "user")
    answer = await house.submitted("admin", user="ann", draft=True)
    assert (await house.manager.get(answer.json["job_id"])).user == "ann"


async def test_nobody_waits_for_a_job_of_another(anns: House) -> None:
    refused = await anns.submitted("zoe", depends_on=[{"job_id": "anns"}])
    unknown = await anns.submitted("zoe", depends_on=[{"job_id": "none"}])
    assert (refused.status, unknown.status) == (422, 422)
    assert refused.body.replace(b"anns", b"none") == unknown.body


async def test_why_names_a_parent_to_who_sees_it(house: House) -> None:
    await house.submitted("ann", job_id="anns", draft=True)
    for user in ("ben", "zoe"):
        await house.manager.submit(
            ["true"], user=user, job_id=f"{user}s", depends_on=[{"job_id": "anns", "when": "any"}]
        )

    async def why(who: str, job_id: str) -> str:
        answer = await house.by(who, "GET", f"/api/v1/jobs/{job_id}/why")
        return str(answer.json["reasons"][0]["message"])

    assert await why("ben", "bens") == "it waits for the end of job anns (pending)"
    assert await why("zoe", "zoes") == "it waits for the end of a job that is not yours to see"
    assert await why("viewer", "zoes") == "it waits for the end of job anns (pending)"


async def test_spec_names_a_parent_to_who_sees_it(house: House) -> None:
    await house.submitted("ann", job_id="anns", draft=True)
    for user in ("ben", "zoe"):
        await house.manager.submit(["true"], user=user, job_id=f"{user}s", depends_on=[{"job_id": "anns"}])

    async def parents(who: str, job_id: str) -> Any:
        return (await house.by(who, "GET", f"/api/v1/jobs/{job_id}/spec")).json["depends_on"]

    assert await parents("ben", "bens") == [{"job_id": "anns", "when": "success", "met": None}]
    assert await parents("zoe", "zoes") == [{"job_id": None, "when": "success", "met": None}]
    assert await parents("viewer", "zoes") == [{"job_id": "anns", "when": "success", "met": None}]


async def test_without_the_scope_to_read_only_own_jobs_are_there(anns: House) -> None:
    await anns.submitted("ben", job_id="bens", draft=True)

    for route in OF_A_JOB:
        others, unknown = [await anns.ask("submitter", route, job_id) for job_id in ("bens", "none")]
        assert others.status == unknown.status, name_of(route)
        assert others.body.replace(b"bens", b"none") == unknown.body, name_of(route)
        if route.method == "GET":
            own = await anns.ask("submitter", route, "anns")
            assert own.status == 403, name_of(route)
            assert b"this API token lacks the scope read" in own.body, name_of(route)


async def test_who_may_change_a_job_is_answered_with_it(house: House) -> None:
    assert (await house.submitted("submitter", job_id="anns", draft=True)).status == 201
    changes: list[tuple[str, str, Any]] = [
        ("PATCH", "", {}),
        ("PATCH", "", {"name": "new"}),
        ("POST", "/priority", {"priority": 3}),
        ("POST", "/hold", None),
        ("POST", "/release", None),
        ("POST", "/cancel", None),
    ]

    answers = [
        await house.by(
            "submitter", method, f"/api/v1/jobs/anns{verb}", **({} if body is None else {"json": body})
        )
        for method, verb, body in changes
    ]

    assert {(answer.status, answer.json.get("job_id")) for answer in answers} == {(200, "anns")}


async def test_scope_to_submit_is_enough_to_wait_for_own_jobs(house: House) -> None:
    for user in ("ann", "ben"):
        await house.submitted(user, job_id=f"{user}s", draft=True)

    own = await house.submitted("submitter", depends_on=[{"job_id": "anns"}])
    mates = await house.submitted("submitter", depends_on=[{"job_id": "bens"}])

    assert own.status == 201
    assert "there is no job" in mates.problem(422, "invalid_request", "depends_on[0]")


async def test_token_of_a_job_tells_of_that_job_only(anns: House) -> None:
    await anns.submitted("ann", job_id="other", draft=True)
    assert (await anns.by("bound", "PATCH", "/api/v1/jobs/anns", json={"tags": ["x"]})).status == 200
    assert (await anns.by("bound", "PATCH", "/api/v1/jobs/other", json={"tags": ["x"]})).status == 404
    # Its priority is not what a job says of itself.
    assert (await anns.by("bound", "PATCH", "/api/v1/jobs/anns", json={"priority": 9})).status == 403
    assert (await anns.by("bound", "POST", "/api/v1/jobs/anns/retry")).status == 403
    assert (await anns.by("bound", "GET", "/api/v1/jobs/other")).status == 404
    for path in (
        "/api/v1/queues",
        "/api/v1/sites",
        "/api/v1/limits",
        "/api/v1/cluster",
        "/resources",
        "/queue",
    ):
        assert (await anns.by("bound", "GET", path)).json["code"] == "access_denied", path


async def test_keys_of_a_job_are_not_those_of_its_user(anns: House) -> None:
    key = {"Idempotency-Key": "k1"}
    await anns.submitted("ann", job_id="other", draft=True)
    first = await anns.by("ann", "PATCH", "/api/v1/jobs/other", json={"name": "hers"}, headers=key)
    again = await anns.by("bound", "PATCH", "/api/v1/jobs/other", json={"name": "hers"}, headers=key)
    assert (first.status, again.status) == (200, 404)
    own = await anns.by("bound", "PATCH", "/api/v1/jobs/anns", json={"name": "it"}, headers=key)
    assert own.status == 200


async def test_site_of_a_scheduler_is_made_by_who_may(house: House, tmp_path: Path) -> None:
    config = {"jobid": "j", "project_path": str(tmp_path / "a.aedt"), "scheduler_type": "slurm"}
    asked = {"config": {**config, "ansys_edt_path": "/bin/true"}}
    answer = await house.by("zoe", "POST", "/jobs/submit", json=asked)
    assert answer.status in (400, 403), answer
    assert [site["name"] for site in (await house.by("zoe", "GET", "/api/v1/sites")).json["sites"]] == [
        "local"
    ]


async def test_token_that_is_shown_counts_also_for_the_own_user(house: House) -> None:
    # It may be good for less than who shows it; one that is unknown is good for nothing.
    assert (await house.by("viewer", "POST", "/api/v1/jobs", json={"command": ["true"]})).status == 403
    for shown in ("Bearer nonsense", "Bearer ", "", "viewer", "Token viewer", "Basic dmlld2VyOg=="):
        answer = await house.get("/api/v1/jobs", headers={"Authorization": shown})
        answer.problem(401, "token_unknown")


async def test_events_keep_who_did_it_and_from_where(anns: House) -> None:
    await anns.by("admin", "DELETE", "/api/v1/jobs/anns")
    own = await anns.post("/api/v1/jobs", json={"command": ["true"], "draft": True})
    assert own.status == 201

    def read(connection: sa.Connection) -> list[tuple[Any, ...]]:
        rows = connection.execute(sa.select(Event.kind, Event.user, Event.actor, Event.origin))
        return [tuple(row) for row in rows if row.kind != "limits_updated"]

    assert await anns.manager.database.read(read) == [
        ("submitted", "ann", "ann", "127.0.0.1"),
        ("claimed", "ann", None, None),
        ("started", "ann", None, None),
        ("completed", "ann", None, None),
        ("deleted", "ann", "root", "127.0.0.1"),
        ("submitted", anns.manager.user, anns.manager.user, "127.0.0.1"),
    ]
