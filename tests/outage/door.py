"""The front door during an outage: every kind of request, and what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.crash.ledger import Plan

_JOBS = "/api/v1/jobs"
_PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to one request."""

    status: int
    media_type: str
    retry_after: str | None
    body: Any

    @property
    def is_refusal(self) -> bool:
        """Whether it says that the database is away, and when to come again."""
        return (
            (self.status, self.media_type) == (503, _PROBLEM)
            and self.body["code"] == "store_unavailable"
            and int(self.retry_after or 0) > 0
        )


def _requests(known: str, new: Plan) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Reads and changes about a job that is stored, and the submission of one that is not."""
    yield "submit", "POST", _JOBS, {"json": new.submission()}
    yield "list", "GET", _JOBS, {}
    yield "get", "GET", f"{_JOBS}/{known}", {}
    yield "cancel", "POST", f"{_JOBS}/{known}/cancel", {"json": {}}
    yield "events", "GET", "/api/v1/events", {}
    yield "stream", "GET", "/api/v1/events", {"headers": {"Accept": "text/event-stream"}}
    yield "readyz", "GET", "/readyz", {}


def changes(known: str, new: Plan) -> list[str]:
    """The requests that need the writer."""
    return [name for name, method, *_ in _requests(known, new) if method == "POST"]


async def knock(url: str, known: str, new: Plan, *, only: list[str] | None = None) -> dict[str, Answer]:
    """Send each request once; the answers by name."""
    timeout = aiohttp.ClientTimeout(total=100.0)
    async with aiohttp.ClientSession(url, timeout=timeout) as session:
        return {
            name: await _ask(session, method, path, options)
            for name, method, path, options in _requests(known, new)
            if only is None or name in only
        }


async def is_alive(url: str) -> bool:
    """Whether the service says that it lives."""
    async with aiohttp.ClientSession(url) as session:
        answer = await _ask(session, "GET", "/healthz", {})
        return bool(answer.body == {"status": "ok"})


async def _ask(session: aiohttp.ClientSession, method: str, path: str, options: dict[str, Any]) -> Answer:
    async with session.request(method, path, **options) as response:
        is_stream = response.content_type == "text/event-stream"
        return Answer(
            response.status,
            response.content_type,
            response.headers.get("Retry-After"),
            None if is_stream else await response.json(content_type=None),
        )
