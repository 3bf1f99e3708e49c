"""Whether the service lives, and whether it can serve."""

from __future__ import annotations

from aiohttp import web

from jobmgr.api.keys import MANAGER
from jobmgr.api.reply import reply
from jobmgr.wire.answers import HealthAnswer


async def healthz(_request: web.Request) -> web.Response:
    """The process answers; open to everybody."""
    return reply(HealthAnswer("ok"))


async def readyz(request: web.Request) -> web.Response:
    """The database answers too."""
    await request.app[MANAGER].check_ready()
    return reply(HealthAnswer("ready"))
