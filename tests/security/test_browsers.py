"""What a page of another site has a browser do here is refused, by what browsers say of it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

import aiohttp
import pytest

from tests.api.conftest import Api
from tests.security.guards import (
    HARDENED,
    HARDENED_ERRORS,
    HOST,
    JSON_ONLY,
    NO_PLAIN_POSTS,
    ORIGIN,
    REFERER,
    RELATION,
    rests_on,
)

JOB = {"command": ["true"], "draft": True}
EVIL = "https://evil.example"
ORIGINS = (
    EVIL,
    "null",
    "file://",
    "http://localhost:1",
    "http://127.0.0.1",
    "http://127.0.0.1:{port}.evil.example",
    "http://evil.example:{port}",
    "http://evil@127.0.0.1:{port}",
    "ftp://127.0.0.1:{port}",
    "127.0.0.1:{port}",
    "",
)
RELATIONS = ("cross-site", "same-site", "unheard-of")
FETCHES = (
    ("POST", "navigate", "document"),
    ("GET", "no-cors", "image"),
    ("GET", "no-cors", "script"),
    ("GET", "navigate", "iframe"),
    ("GET", "cors", "empty"),
)
ANSWERS = (
    ("GET", "/api/v1/jobs"),
    ("GET", "/healthz"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/nothing"),
    ("PUT", "/api/v1/jobs"),
    ("GET", "/api/v1/jobs/none"),
    ("GET", "/socket.io/"),
    ("GET", "/api/v1/events?after=0"),
    ("OPTIONS", "/api/v1/jobs"),
)


def port_of(api: Api) -> str:
    return api.url.rsplit(":", 1)[1]


@rests_on(HOST)
async def test_a_name_that_was_rebound_reads_nothing(api: Api) -> None:
    for host in (
        "evil.example:{port}",
        "127.0.0.1.evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:{port}.",
        "",
    ):
        answer = await api.get("/api/v1/jobs", headers={"Host": host.format(port=port_of(api))})

        answer.problem(421, "wrong_host")


@rests_on(ORIGIN)
async def test_a_page_of_another_origin_is_refused(api: Api) -> None:
    for origin in ORIGINS:
        headers = {"Origin": origin.format(port=port_of(api))}

        (await api.get("/api/v1/jobs", headers=headers)).problem(403, "wrong_origin")
        (await api.post("/api/v1/jobs", json=JOB, headers=headers)).problem(403, "wrong_origin")
    assert await api.count() == 0


@rests_on(ORIGIN)
async def test_a_page_of_another_origin_is_not_told_what_happens(api: Api) -> None:
    path = "/socket.io/?EIO=4&transport="
    for url in (f"{path}polling", "/api/v1/events?after=0"):
        headers = {"Origin": EVIL, "Accept": "text/event-stream"}
        async with api.session.get(api.url + url, headers=headers) as response:
            assert response.status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await api.session.ws_connect(f"{api.url}{path}websocket", origin=EVIL)


@rests_on(ORIGIN)
async def test_a_page_of_another_origin_may_not_even_ask(api: Api) -> None:
    headers = {"Origin": EVIL, "Access-Control-Request-Method": "POST"}

    answer = await api.request("OPTIONS", "/api/v1/jobs", headers=headers)

    assert answer.status == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


@rests_on(REFERER)
async def test_a_browser_that_says_only_the_referer_is_refused(api: Api) -> None:
    for referer in (f"{EVIL}/page", "http://127.0.0.1:1/", "http://[", "about:blank"):
        answer = await api.post("/api/v1/jobs", json=JOB, headers={"Referer": referer})

        answer.problem(403, "wrong_origin")
    assert await api.count() == 0


@rests_on(RELATION)
async def test_what_another_site_fetches_or_embeds_is_refused(api: Api) -> None:
    for site, (method, mode, destination) in itertools.product(RELATIONS, FETCHES):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}

        answer = await api.request(
            method, "/api/v1/jobs", json=JOB if method == "POST" else None, headers=headers
        )

        answer.problem(403, "wrong_origin")
    assert await api.count() == 0


@rests_on(JSON_ONLY)
async def test_what_a_form_can_send_is_no_job(api: Api) -> None:
    # As browsers did that say nothing about the page.
    body = b'{"command": ["true"], "draft": true}'
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/plain; x=json",
    ):
        answer = await api.post("/api/v1/jobs", data=body, headers={"Content-Type": kind})

        answer.problem(415, "wrong_content_type")
    assert await api.count() == 0


@rests_on(NO_PLAIN_POSTS)
async def test_what_curl_may_send_a_browser_may_not(api: Api) -> None:
    body = b'{"config": {"project_path": "/x.aedt"}}'
    for told in ({"Origin": api.url}, {"Referer": f"{api.url}/"}, {"Sec-Fetch-Site": "same-origin"}):
        answer = await api.post("/jobs/submit", data=body, headers={**told, "Content-Type": "text/plain"})

        assert (answer.status, answer.json["code"]) == (415, "wrong_content_type")


@rests_on(HARDENED)
async def test_every_answer_is_hardened(api: Api) -> None:
    for method, path in ANSWERS:
        accept = {"Accept": "text/event-stream"}
        async with api.session.request(method, api.url + path, headers=accept) as response:
            assert_hardened(response.headers)


@rests_on(HARDENED_ERRORS)
async def test_the_answer_to_what_is_no_http_is_hardened(api: Api) -> None:
    for sent in (b"nonsense", b"GET / HTTP/1.1\r\nno header", b"GET /" + b"x" * 9000 + b" HTTP/1.1"):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port_of(api)))

        writer.write(sent + b"\r\n\r\n")
        head = (await reader.read()).partition(b"\r\n\r\n")[0].decode()
        writer.close()

        assert_hardened(dict(line.split(": ", 1) for line in head.splitlines()[1:]))


def assert_hardened(headers: Mapping[str, str]) -> None:
    policy = headers.get("Content-Security-Policy", "")
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert headers.get("X-Content-Type-Options") == "nosniff"
    assert headers.get("Cross-Origin-Resource-Policy") == "same-origin"
    assert headers.get("Cross-Origin-Opener-Policy") == "same-origin"
    assert headers.get("Referrer-Policy") == "no-referrer"
    assert headers.get("Cache-Control") == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
