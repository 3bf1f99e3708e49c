"""One HTTP session with a service: requests out, answers and problem documents in."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar
from urllib.parse import quote, unquote

import aiohttp
import msgspec
from yarl import URL

from jobmgr.client import bulk, simulation
from jobmgr.client.address import OVER_SOCKET, Locate
from jobmgr.client.patience import TRANSIENT, Patience
from jobmgr.client.problem import to_error
from jobmgr.errors import (
    AnswerLost,
    DatabaseMoved,
    JobmgrError,
    NobodyListens,
    RemoteError,
    ServiceUnreachable,
    StoreError,
    StoreUnavailable,
    TooManyRequests,
)
from jobmgr.wire.answers import ProblemAnswer
from jobmgr.wire.mismatch import NOT_JSON

T = TypeVar("T")
PREFIX = "/api/v1"
# The service sends a comment well within this time when there is nothing to tell.
SILENCE_S = 60.0


def path(*parts: str) -> str:
    """A path below the API's prefix; `parts` are names, so a slash in one is escaped."""
    return PREFIX + "".join(f"/{quote(part, safe='')}" for part in parts)


def _subject(where: str) -> str:
    # Only there a path names first what it is about.
    name = where.removeprefix(PREFIX).split("/")[2:3] if where.startswith(PREFIX) else []
    return unquote(name[0]) if name else ""


class Connection:
    """Speaks HTTP with the service that `locate` finds. Open it before use, close it after.

    `timeout_s` is how long one answer may take, `patience_s` how long a change is sent again whose answer was lost.
    """

    def __init__(self, locate: Locate, timeout_s: float, patience_s: float = 0.0) -> None:
        self.url = ""  # where the last request went
        self._locate = locate
        self._timeout_s = timeout_s
        self._patience_s = patience_s
        self._is_open = False
        # One for each Unix socket that was spoken to, and one, None, for all else.
        self._sessions: dict[str | None, aiohttp.ClientSession] = {}

    async def open(self) -> Self:
        """Allow requests; nothing is sent yet."""
        self._is_open = True
        return self

    async def close(self) -> None:
        """End the sessions and their sockets."""
        self._is_open = False
        while self._sessions:
            await self._sessions.popitem()[1].close()

    def _session(self, socket: str | None) -> aiohttp.ClientSession:
        if not self._is_open:
            raise RuntimeError("the client is not open; use it as `async with Client() as client:`")
        if socket not in self._sessions:
            self._sessions[socket] = aiohttp.ClientSession(
                timeout=self._waits(self._timeout_s),
                connector=aiohttp.TCPConnector(limit=0)
                if socket is None
                else aiohttp.UnixConnector(socket, limit=0),
                raise_for_status=False,
            )
        return self._sessions[socket]

    async def read(self, where: str, answer: type[T], query: Mapping[str, str] | None = None) -> T:
        """GET `where`, decoded as `answer`."""
        async with self._exchange("GET", where, query=query) as response:
            return self._decoded(await response.read(), answer)

    async def change(
        self,
        method: str,
        where: str,
        answer: type[T],
        body: Mapping[str, Any] | bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        *,
        look: str,
        key: str | None = None,
    ) -> T:
        """Send `body` (values, JSON, or what gives NDJSON in pieces) and decode the answer.

        When the answer is lost it is sent again, under the same idempotency key, as long as `patience_s` says; what was
        not sent at all is not; `key` is for those who may call again with the same. If no answer comes then either,
        raises AnswerLost, whose sentence ends with `look`.
        """
        headers = {"Idempotency-Key": secrets.token_hex(16) if key is None else key}
        patience = Patience(self._patience_s)
        lost: _Broken | StoreUnavailable | None = None
        while True:
            options = self._body(body)
            try:
                async with self._exchange(method, where, headers=headers, **options) as response:
                    return self._decoded(await response.read(), answer)
            except (DatabaseMoved, RemoteError, StoreError) as error:
                # Nothing that passes by itself, and nothing about the change, which may have been made the first time.
                if lost is None:
                    raise
                raise self._lost(lost, look) from error
            except TRANSIENT as error:
                # A service says that its database is away also if it does not know how a commit has ended.
                lost = error if isinstance(error, _Broken | StoreUnavailable) else lost
                if lost is None:
                    raise
                try:
                    await patience.wait_after(error)
                except TRANSIENT:
                    raise self._lost(lost, look) from error

    def _lost(self, error: _Broken | StoreUnavailable, look: str) -> AnswerLost:
        return AnswerLost(self.url, error.reason if isinstance(error, _Broken) else str(error), look)

    def _body(
        self, body: Mapping[str, Any] | bytes | Callable[[], AsyncIterator[bytes]] | None
    ) -> dict[str, Any]:
        if callable(body):
            return {
                "data": body,
                "content_type": "application/x-ndjson",
                "timeout_s": 10 * self._timeout_s,
            }
        return {"data": body if isinstance(body, bytes) else bulk.encode(body or {}, "the request")}

    @asynccontextmanager
    async def fetch(
        self, where: str, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET `where`; the body is read inside the context, in pieces if it is large."""
        async with self._exchange("GET", where, query=query, headers=headers) as response:
            yield response

    @asynccontextmanager
    async def stream(self, where: str, query: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET `where` as a stream of events, which breaks when nothing at all came for SILENCE_S."""
        headers = {"Accept": "text/event-stream"}
        async with self._exchange(
            "GET", where, query=query, headers=headers, timeout_s=SILENCE_S
        ) as response:
            yield response

    @asynccontextmanager
    async def _exchange(self, method: str, where: str, **sent: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send it, again when the service says that this was too often: then it has done nothing."""
        patience = Patience(self._patience_s)
        async with contextlib.AsyncExitStack() as stack:
            while True:
                try:
                    response = await stack.enter_async_context(self._send(method, where, **sent))
                    break
                except TooManyRequests as error:
                    await patience.wait_after(error)
            yield response

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        where: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        content_type: str = "application/json",
        timeout_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        address = self._locate()
        session = self._session(address.socket)
        self.url = address.url
        sent = dict(headers or {})
        if address.token:
            sent["Authorization"] = f"Bearer {address.token}"
        if data is not None:
            sent["Content-Type"] = content_type
        base = address.url if address.socket is None else f"http://{OVER_SOCKET}"
        url = URL(base + where, encoded=True).update_query(query or {})
        try:
            async with session.request(
                method,
                url,
                headers=sent,
                data=data() if callable(data) else data,
                timeout=self._waits(timeout_s or self._timeout_s),
                # The service redirects nobody, and its token is for nobody else.
                allow_redirects=False,
            ) as response:
                if not response.ok:
                    raise await self._refusal(response, where)
                yield response
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise _no_tls(address.url, error) from error
        except aiohttp.ClientConnectorError as error:
            # A port that is closed, or a socket that is not there.
            refused = error.os_error.errno in (errno.ECONNREFUSED, errno.ENOENT)
            kind = NobodyListens if refused else ServiceUnreachable
            remedy = "start one with `jobmgr serve`" if address.is_here else ""
            raise kind(address.url, _reason(error.os_error), remedy) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise ServiceUnreachable(address.url, f"no connection within {self._timeout_s:g} s") from error
        except aiohttp.ServerTimeoutError as error:
            raise _Broken(address.url, f"no answer within {timeout_s or self._timeout_s:g} s") from error
        except aiohttp.ClientError as error:
            raise _Broken(address.url, f"the connection broke: {_reason(error)}") from error

    def _waits(self, silence_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, connect=self._timeout_s, sock_read=silence_s)

    async def _refusal(self, response: aiohttp.ClientResponse, where: str) -> JobmgrError:
        body = await response.read()
        if response.status == 429:
            # Also a proxy may say so.
            return TooManyRequests(
                f"{self.url} is asked too often", _seconds(response.headers.get("Retry-After", ""))
            )
        if response.content_type == "application/problem+json":
            with contextlib.suppress(*NOT_JSON):
                return to_error(msgspec.json.decode(body, type=ProblemAnswer), _subject(where))
        if (problem := simulation.problem_of(response.status, body)) is not None:
            return to_error(problem, _subject(where))
        if response.status in (404, 405, 501):
            return ServiceUnreachable(self.url, "what answers there is no jobmgr")
        if response.status in (502, 503, 504):
            # A gateway speaks for a service that it cannot reach, or not in time.
            return _Broken(self.url, f"a gateway answered {response.status} {response.reason}")
        return RemoteError(response.status, "", f"{self.url} answered {response.status} {response.reason}")

    def _decoded(self, body: bytes, answer: type[T]) -> T:
        try:
            return msgspec.json.decode(body or b"null", type=answer)
        except NOT_JSON as error:
            raise ServiceUnreachable(
                self.url, f"what answers there is no jobmgr of this version: {error}"
            ) from error


class _Broken(ServiceUnreachable):
    """The request was sent, or partly; its answer did not come. What a read makes of it is its base class."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.reason = reason


def _no_tls(url: str, error: aiohttp.ClientSSLError) -> ServiceUnreachable:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        found = error.certificate_error
        said = getattr(found, "verify_message", "") or str(found)
        return ServiceUnreachable(
            url,
            f"its certificate is not trusted: {said}",
            "if it is of an authority of your own, name the file with that one's certificate in SSL_CERT_FILE",
        )
    found = error.os_error
    # OpenSSL calls so what does not begin as TLS does.
    if getattr(found, "reason", None) in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return ServiceUnreachable(
            url, "what listens there speaks no TLS", "write http:// if that is the service"
        )
    return ServiceUnreachable(url, f"TLS failed: {found.strerror or found}")


def _seconds(text: str) -> float | None:
    # A date, which HTTP allows too, would need clocks that agree.
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its answer was cut off"
    # asyncio writes the address into strerror, which the sentence around this holds already.
    number = getattr(error, "errno", None)
    text = os.strerror(number) if isinstance(number, int) and number > 0 else str(error)
    return text[:1].lower() + text[1:] or type(error).__name__
