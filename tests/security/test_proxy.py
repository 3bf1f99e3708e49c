"""A proxy of the same user on the same machine lets nobody in."""

from __future__ import annotations

import re

from jobmgr.api.routes import ROUTES
from tests.api.test_proxy import Behind, behind  # noqa: F401 -- a fixture
from tests.security.guards import FORWARDED, rests_on

OPEN = "/healthz"


@rests_on(FORWARDED)
async def test_nobody_is_let_in_through_a_proxy_without_a_token(behind: Behind) -> None:  # noqa: F811 -- as above
    places = {(route.method, re.sub(r"\{[^}]*\}", "1", route.path)) for route in ROUTES}
    places |= {("GET", "/socket.io/?EIO=4&transport=polling"), ("GET", "/nothing")}

    answers = {
        place: (await behind.api.request(*place)).status for place in sorted(places) if place[1] != OPEN
    }

    assert set(answers.values()) == {401}, answers
