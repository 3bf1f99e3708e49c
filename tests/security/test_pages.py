"""What a page of another site can have a real browser do to a service of the same user: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.api.conftest import Api, serving
from tests.chromium import Chromium, Page
from tests.security.guards import HARDENED, HOST, JSON_ONLY, NO_WILDCARD, ORIGIN, RELATION, rests_on
from tests.security.page import ATTACKS, BLANK

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@asynccontextmanager
async def elsewhere(chromium: Chromium) -> AsyncIterator[Page]:
    """A page of another site."""

    async def blank(_: web.Request) -> web.Response:
        return web.Response(text=BLANK, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", blank)
    async with serving(app) as url, chromium.page(url.replace("127.0.0.1", "evil.example") + "/") as page:
        yield page


async def attacked(api: Api, chromium: Chromium, *kinds: str) -> Mapping[str, Any]:
    """What became of these attacks from a page elsewhere."""
    async with elsewhere(chromium) as page:
        outcomes: Mapping[str, Any] = await page.run(ATTACKS, api.url, list(kinds))
    assert len(outcomes) == len(kinds), outcomes
    return outcomes


async def names(api: Api) -> set[str]:
    """Of all jobs."""
    return {job.name for job in (await api.manager.list(limit=1000)).jobs}


@rests_on(ORIGIN, RELATION, JSON_ONLY)
@pytest.mark.parametrize("kind", ["post", "form", "beacon"])
async def test_a_page_of_another_site_stores_nothing_blindly(api: Api, chromium: Chromium, kind: str) -> None:
    await attacked(api, chromium, kind)

    assert await names(api) == set()


@rests_on(ORIGIN, RELATION, NO_WILDCARD)
async def test_a_page_of_another_site_reads_and_changes_nothing(api: Api, chromium: Chromium) -> None:
    await api.submit("true", draft=True, name="secret")

    outcomes = await attacked(api, chromium, "read", "store", "stream", "poll")

    assert [kind for kind, outcome in outcomes.items() if outcome == "done"] == []
    assert await names(api) == {"secret"}


@rests_on(ORIGIN, RELATION)
async def test_a_page_of_another_site_gets_no_socket(api: Api, chromium: Chromium) -> None:
    outcomes = await attacked(api, chromium, "websocket")

    assert outcomes != {"websocket": "done"}


@rests_on(RELATION, HARDENED)
@pytest.mark.parametrize("kind", ["script", "image"])
async def test_a_page_of_another_site_embeds_nothing(api: Api, chromium: Chromium, kind: str) -> None:
    job = await api.run("sh", "-c", f"printf {PNG} | base64 -d > image; printf 1 > script")

    outcomes = await attacked(api, chromium, f"{kind}:/api/v1/jobs/{job.job_id}/files/{kind}")

    assert "done" not in outcomes.values(), outcomes


@rests_on(RELATION, HARDENED)
async def test_a_page_of_another_site_shows_nothing_of_the_service_in_itself(
    api: Api, chromium: Chromium
) -> None:
    async with elsewhere(chromium) as page:
        await page.run(ATTACKS, api.url, ["frame:/healthz", "frame:/api/v1/jobs"])
        frames = await chromium.frames()

    assert len(frames) == 2
    assert not [text for text in frames if '"jobs"' in text or '"status"' in text]


@rests_on(HOST)
async def test_a_page_whose_name_was_rebound_is_another_site(api: Api, chromium: Chromium) -> None:
    await api.submit("true", draft=True, name="secret")
    here = api.url.replace("127.0.0.1", "rebound.example")

    async with chromium.page(f"{here}/", BLANK) as page:
        outcomes = await page.run(ATTACKS, here, ["read", "store", "stream", "poll", "websocket"])

    assert [kind for kind, outcome in outcomes.items() if outcome == "done"] == []
    assert await names(api) == {"secret"}
