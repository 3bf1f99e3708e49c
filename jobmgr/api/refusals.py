"""What was refused, for the log: who tried what, from where."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable

from aiohttp import web

from jobmgr.api.digest import SUMMARY_S, Digest
from jobmgr.api.guard import origin
from jobmgr.api.keys import CALLER
from jobmgr.api.problems import describe
from jobmgr.api.throttle import network
from jobmgr.domain.user import TOKEN_ID
from jobmgr.errors import JobmgrError
from jobmgr.manager.job_tokens import PREFIX

logger = logging.getLogger(__name__)

# Nobody known, no right or another site's page, a name that is not the service's, too often.
_STATUSES = frozenset({401, 403, 421, 429})
_LONGEST = 200
# Whoever revokes a token may have taken it for its id.
_TOKEN = re.compile(rf"(jm_{TOKEN_ID}_|{PREFIX})[A-Za-z0-9_.\-]+")


class Refusals:
    """Tells the log of requests that were refused for who sent them, or for which page; of very many as a digest."""

    def __init__(self, summary_s: float = SUMMARY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._digest = Digest(logger, "refused %d more, not told singly: %s", summary_s, clock)

    def note(self, request: web.Request, wrong: JobmgrError) -> None:
        """Tell of this request, unless what was `wrong` is its content."""
        document = describe(wrong)
        if document.status in _STATUSES and self._digest.may_tell(network(origin(request))):
            logger.warning(
                "refused %d %s: %s from %s", document.status, document.code, _what(request), _whom(request)
            )

    async def close(self, _app: web.Application) -> None:
        """Tell what was only counted until now."""
        self._digest.close()


def _what(request: web.Request) -> str:
    # Queries may hold what is not for a log, such as a session; the path is as it was sent, percent-encoded.
    said = f"{request.method} {request.rel_url.raw_path}"[:_LONGEST]
    return _TOKEN.sub(r"\1...", said).encode("ascii", "backslashreplace").decode()


def _whom(request: web.Request) -> str:
    caller = request.get(CALLER)
    return origin(request) if caller is None else f"{caller.origin} by {caller.principal.name}"
