"""What the log is told of many refusals."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession, web

from jobmgr.api.refusals import Refusals
from jobmgr.errors import AccessDenied, InvalidRequest, JobmgrError
from tests.api.conftest import serving
from tests.patience import eventually

NEVER_S = 3600.0


async def refuse(refusals: Refusals, times: int, wrong: JobmgrError) -> None:
    """Have so many requests refused, by a service that ends then."""

    async def note(request: web.Request) -> web.Response:
        refusals.note(request, wrong)
        return web.Response()

    app = web.Application()
    app.router.add_get("/asked", note)
    app.on_cleanup.append(refusals.close)
    async with serving(app) as url, ClientSession() as session:
        for _ in range(times):
            await session.get(f"{url}/asked?not=this")


def stopped() -> float:
    return 1000.0


async def test_some_get_a_line_each_and_the_end_says_how_many_more(caplog: pytest.LogCaptureFixture) -> None:
    await refuse(Refusals(NEVER_S, stopped), 25, AccessDenied("not yours"))

    line = "refused 403 access_denied: GET /asked from 127.0.0.1"
    assert caplog.messages == [line] * 10 + ["refused 15 more, not told singly: 15 from 127.0.0.1"]


async def test_how_many_more_is_told_while_the_service_runs(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals(0.01, stopped)

    async def note(request: web.Request) -> web.Response:
        refusals.note(request, AccessDenied("not yours"))
        return web.Response()

    app = web.Application()
    app.router.add_get("/asked", note)
    async with serving(app) as url, ClientSession() as session:
        for _ in range(11):
            await session.get(f"{url}/asked")
        await eventually(lambda: len(caplog.messages) == 11)

    assert caplog.messages[-1] == "refused 1 more, not told singly: 1 from 127.0.0.1"


async def test_time_gives_new_lines(caplog: pytest.LogCaptureFixture) -> None:
    times = iter(range(0, 10_000, 11))

    await refuse(Refusals(NEVER_S, lambda: float(next(times))), 25, AccessDenied("not yours"))

    assert len(caplog.messages) == 25


async def test_what_is_wrong_with_a_request_itself_is_no_refusal(caplog: pytest.LogCaptureFixture) -> None:
    await refuse(Refusals(NEVER_S, stopped), 1, InvalidRequest("command", "missing"))

    assert caplog.messages == []
