"""What pages can do in a real browser that may use the service."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from jobmgr.api.server import Server
from jobmgr.service import JobManager
from tests.api.conftest import TOKEN, Api, serving
from tests.chromium import Chromium
from tests.security.page import ATTACKS, BLANK

KINDS = ["read", "store", "stream", "poll", "websocket"]


async def test_page_of_an_allowed_site_reads_stores_and_follows(
    manager: JobManager, chromium: Chromium
) -> None:
    async def blank(_: web.Request) -> web.Response:
        return web.Response(text=BLANK, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", blank)
    async with serving(app) as url:
        site = url.replace("127.0.0.1", "site.example")
        async with (
            Server(manager, host="127.0.0.1", port=0, token=TOKEN, allowed_origins=[site]) as server,
            aiohttp.ClientSession() as session,
            chromium.page(f"{site}/") as page,
        ):
            await Api(manager, server.url, session).submit("true", draft=True, name="secret")
            outcomes = await page.run(ATTACKS, server.url, KINDS)

    assert outcomes == dict.fromkeys(KINDS, "done")


@pytest.mark.parametrize("path", ["/docs", "/nothing"])
async def test_own_page_is_shown_as_it_is_meant(api: Api, chromium: Chromium, path: str) -> None:
    async with chromium.page(api.url + path) as page:
        shown = await page.run(
            "async () => [document.body.innerText, getComputedStyle(document.querySelector('body')).maxWidth]"
        )

    assert "/api/v1/jobs" in shown[0] if path == "/docs" else "no_such_route" in shown[0]
    # Its style is allowed by its own policy, which allows nothing else.
    assert (shown[1] != "none") is (path == "/docs")
