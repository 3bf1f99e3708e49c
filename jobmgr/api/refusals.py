"""What was refused, for the log: who tried what, from where, and no more lines than a log can hold."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Callable

from aiohttp import web

from jobmgr.api.guard import origin
from jobmgr.api.keys import CALLER
from jobmgr.api.problems import describe
from jobmgr.api.rates import Rates
from jobmgr.api.throttle import network
from jobmgr.domain.user import TOKEN_ID
from jobmgr.errors import JobmgrError
from jobmgr.manager.job_tokens import PREFIX

logger = logging.getLogger(__name__)

# Nobody known, no right or another site's page, a name that is not the service's, too often.
_STATUSES = frozenset({401, 403, 421, 429})
# A line has some 150 bytes: of one address a megabyte a day, of all together ten.
_PER_S, _BURST = 0.1, 10
_PER_S_OF_ALL, _BURST_OF_ALL = 1, 100
SUMMARY_S = 60.0
_MOST_COUNTED = 1000
_MOST_NAMED = 5
_LONGEST = 200
# Whoever revokes a token may have taken it for its id.
_TOKEN = re.compile(rf"(jm_{TOKEN_ID}_|{PREFIX})[A-Za-z0-9_.\-]+")


class Refusals:
    """Tells the log of requests that were refused for who sent them, or for which page.

    Of many from one address, or of very many together, some get a line each; the others are counted, and one line
    every `summary_s` says how many those were.
    """

    def __init__(self, summary_s: float = SUMMARY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._summary_s = summary_s
        self._of_one = Rates(_PER_S, _BURST, clock)
        self._of_all = Rates(_PER_S_OF_ALL, _BURST_OF_ALL, clock)
        self._untold: Counter[str] = Counter()
        self._summary: asyncio.TimerHandle | None = None

    def note(self, request: web.Request, wrong: JobmgrError) -> None:
        """Tell of this request, unless what was `wrong` is its content."""
        document = describe(wrong)
        if document.status not in _STATUSES:
            return
        if self._may_tell(network(origin(request))):
            logger.warning(
                "refused %d %s: %s from %s", document.status, document.code, _what(request), _whom(request)
            )
        else:
            self._count(network(origin(request)))

    async def close(self, _app: web.Application) -> None:
        """Tell what was only counted until now."""
        if self._summary is not None:
            self._summary.cancel()
            self._sum_up()

    def _may_tell(self, address: str) -> bool:
        if self._of_one.wait_s(address) or self._of_all.wait_s("all"):
            return False
        self._of_one.spend(address)
        self._of_all.spend("all")
        return True

    def _count(self, address: str) -> None:
        # Whoever has many addresses must not make this grow without end.
        known = address in self._untold or len(self._untold) < _MOST_COUNTED
        self._untold[address if known else "addresses not counted singly"] += 1
        if self._summary is None:
            self._summary = asyncio.get_running_loop().call_later(self._summary_s, self._sum_up)

    def _sum_up(self) -> None:
        untold, self._untold, self._summary = self._untold, Counter(), None
        named = [f"{count} from {address}" for address, count in untold.most_common(_MOST_NAMED)]
        if others := len(untold) - len(named):
            named.append(f"the rest from {others} others")
        logger.warning("refused %d more, not told singly: %s", untold.total(), ", ".join(named))


def _what(request: web.Request) -> str:
    # Queries may hold what is not for a log, such as a session; the path is as it was sent, percent-encoded.
    said = f"{request.method} {request.rel_url.raw_path}"[:_LONGEST]
    return _TOKEN.sub(r"\1...", said).encode("ascii", "backslashreplace").decode()


def _whom(request: web.Request) -> str:
    caller = request.get(CALLER)
    return origin(request) if caller is None else f"{caller.origin} by {caller.principal.name}"
