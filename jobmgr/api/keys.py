"""What handlers find in their application and in their requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from jobmgr.api.limits import Limits
    from jobmgr.api.openapi import Documents
    from jobmgr.api.stream import Streams
    from jobmgr.domain.access import Caller
    from jobmgr.manager.manager import Manager

MANAGER: web.AppKey[Manager] = web.AppKey("manager")
STREAMS: web.AppKey[Streams] = web.AppKey("streams")
DOCUMENTS: web.AppKey[Documents] = web.AppKey("documents")
LIMITS: web.AppKey[Limits] = web.AppKey("limits")
# In the request: who asks. Only what is open to everybody has none.
CALLER: web.RequestKey[Caller] = web.RequestKey("caller")
# Where it comes from, once somebody has wanted to know.
ORIGIN: web.RequestKey[str] = web.RequestKey("origin")
