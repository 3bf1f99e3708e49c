"""The first thing every request meets: who is asking, and does a browser ask for somebody else."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from aiohttp import web

from jobmgr.api import peer
from jobmgr.api.browser import Browsers
from jobmgr.api.keys import CALLER, ORIGIN
from jobmgr.api.problems import Refusal
from jobmgr.api.throttle import Throttle
from jobmgr.domain.access import Caller, Principal

CHANGES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
JSON_TYPE = "application/json"
NDJSON_TYPE = "application/x-ndjson"
OPEN_PATH = "/healthz"
OWN_ROUTES = "/api/v1/"
_UNTOLD_TYPES = frozenset({"application/x-www-form-urlencoded", "text/plain", "application/octet-stream"})
SOCKET_PATH = "/socket.io/"
# What `admit` refuses wherever it is asked, with the code that says why.
REFUSALS: tuple[tuple[int, str], ...] = (
    (401, "token_required"),
    (401, "token_unknown"),
    (403, "wrong_origin"),
    (415, "wrong_content_encoding"),
    (421, "wrong_host"),
    (429, "too_many_requests"),
)


async def _nobody(_shown: str) -> Principal | None:
    return None


async def _none_known(_shown: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Guard:
    """Lets a request in, and says who asks, or raises Refusal.

    Connections of the user `uid` are the `owner`'s over a Unix socket and, with `loopback`, over the port (None: nobody
    is let in so, because it is not wanted, or this system cannot tell users apart); all others show `token`, which is
    the owner's, or one that `by_token` knows, as `Authorization: Bearer`. Of which `is_known` tells that it is no
    guess is looked up however many wrong ones came. What browsers send is judged by `browsers`.
    """

    token: str
    uid: int | None
    loopback: bool
    browsers: Browsers
    owner: Principal
    by_token: Callable[[str], Awaitable[Principal | None]] = _nobody
    is_known: Callable[[str], Awaitable[bool]] = _none_known
    throttle: Throttle = field(default_factory=Throttle)
    _trusted: WeakKeyDictionary[asyncio.BaseTransport, bool] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )
    _admitted: WeakKeyDictionary[asyncio.BaseTransport, Principal] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )
    _owners: peer.Owners = field(init=False, repr=False, compare=False, default_factory=peer.Owners)

    def admitted(self, transport: asyncio.BaseTransport) -> Principal | None:
        """Who sent the last request of this connection that was let in; None: none was."""
        return self._admitted.get(transport)

    async def admit(self, request: web.Request) -> None:
        """Raise Refusal unless this request may be answered; who asks stands in it then."""
        if request.path == OPEN_PATH:
            return
        self.browsers.check(request)
        _check_content_type(request)
        _check_content_encoding(request)
        principal = await self._principal(request)
        request[CALLER] = Caller(principal, _through(origin(request), principal))
        self.throttle.check_rate(principal)
        if request.transport is not None:
            self._admitted[request.transport] = principal

    async def _principal(self, request: web.Request) -> Principal:
        """Who asks. A token that is shown is what counts: it may be good for less than its bearer."""
        shown = _shown_token(request)
        if shown is None:
            if await self._is_own_user(request):
                return self.owner
            raise _unknown(
                "token_required",
                "this is not a direct connection of the service's own user on its machine; "
                "send an API token as `Authorization: Bearer TOKEN` (or set JOBMGR_TOKEN)",
            )
        if self._is_owners(shown):
            return self.owner
        await self._check_guess(request, shown)
        principal = await self.by_token(shown)
        if principal is None:
            self.throttle.note_wrong(origin(request))
            raise not_known()
        return principal

    async def _check_guess(self, request: web.Request, shown: str) -> None:
        try:
            self.throttle.check_guess(origin(request))
        except Refusal:
            # Anybody on this machine, or behind the same proxy, can send wrong ones: they must not keep right ones out.
            if not await self.is_known(shown):
                raise

    def _is_owners(self, shown: str) -> bool:
        given = shown.encode(errors="surrogateescape")
        return bool(self.token) and hmac.compare_digest(given, self.token.encode())

    async def _is_own_user(self, request: web.Request) -> bool:
        transport = request.transport
        if self.uid is None or transport is None or _is_forwarded(request):
            return False
        trusted = self._trusted.get(transport)
        if trusted is None:
            owner = await self._owner(transport)
            trusted = owner == self.uid
            if owner is not None:
                # Who was not found, with no descriptor left to look, say, may be found next time.
                self._trusted[transport] = trusted
        return trusted

    async def _owner(self, transport: asyncio.BaseTransport) -> int | None:
        if peer.is_unix(transport):
            return peer.unix_owner(transport)
        ends = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not self.loopback or not all(ends):
            return None
        return await self._owners.of(ends[0][:2], ends[1][:2])


def _shown_token(request: web.Request) -> str | None:
    told = request.headers.getall("Authorization", [])
    if not told:
        return None
    scheme, _, shown = told[0].partition(" ")
    # Whoever means to be somebody else, and writes it wrongly, is not the owner for that.
    return shown.strip() if scheme.lower() == "bearer" and len(told) == 1 else ""


def not_known() -> Refusal:
    """The answer to an API token that lets nobody in."""
    return _unknown(
        "token_unknown", "this API token is unknown here, has expired or was revoked; ask for a new one"
    )


def _unknown(code: str, detail: str) -> Refusal:
    return Refusal(401, code, detail, headers={"WWW-Authenticate": 'Bearer realm="jobmgr"'})


def origin(request: web.Request) -> str:
    """Where a request comes from: an address, or `unix`; also when the connection that brought it is over."""
    known = request.get(ORIGIN)
    if known is None:
        end = None if request.transport is None else request.transport.get_extra_info("peername")
        known = request[ORIGIN] = str(end[0]) if isinstance(end, tuple) else "unix"
    return known


def _through(origin: str, principal: Principal) -> str:
    # A user may have many tokens; if one was stolen, what was done with it has to be told from the rest.
    return origin if principal.token_id is None else f"{origin} token {principal.token_id}"


def own_uid() -> int | None:
    """The user whose loopback connections are let in; None where connections' owners cannot be looked up."""
    return os.getuid() if sys.platform == "linux" else None


def is_loopback(host: str) -> bool:
    """Whether a service bound to `host` can be reached from its own machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def own_hosts(host: str, port: int, allowed: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names of a service bound to `host`:`port`, and those that it has elsewhere.

    Empty, for any name, where others can reach it by names of their own and none are `allowed`.
    """
    if not (allowed or is_loopback(host)):
        return frozenset()
    bare = host.strip("[]").lower()
    names = {"127.0.0.1", "localhost", "[::1]", f"[{bare}]" if ":" in bare else bare} - {""}
    return allowed | {f"{name}:{port}" for name in names} | (names if port == 80 else set())


# What proxies and their clouds add; some write underscores.
_PROXIED = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-client-ip",
        b"client-ip",
        b"true-client-ip",
        b"x-cluster-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        b"cdn-loop",
        b"x-original-host",
        b"x-original-url",
        b"x-original-forwarded-for",
    }
)


def _is_forwarded(request: web.Request) -> bool:
    # A proxy's connection is the proxy's user's, whoever is behind it.
    for name, _ in request.raw_headers:
        lowered = name.lower().replace(b"_", b"-")
        if lowered.startswith(b"x-forwarded") or lowered in _PROXIED:
            return True
    return False


def _check_content_type(request: web.Request) -> None:
    # A form or plain text is what a page of another site can send without asking. Engine.IO's own posts are
    # plain text; they carry a session id that such a page cannot know.
    if request.method not in CHANGES or not request.body_exists or request.path == SOCKET_PATH:
        return
    if _is_let_off(request) and not _is_of_a_browser(request):
        return
    if request.content_type not in (JSON_TYPE, NDJSON_TYPE):
        raise Refusal(
            415,
            "wrong_content_type",
            f"the body is {request.content_type}; send {JSON_TYPE} or {NDJSON_TYPE}",
        )


def _is_let_off(request: web.Request) -> bool:
    """Whether the body may be JSON without saying so: `curl -d @cfg.json` calls it a form.

    That is how pyedb's documents post to its routes; ours are new, and nobody has to be let off.
    """
    return request.content_type in _UNTOLD_TYPES and not request.path.startswith(OWN_ROUTES)


def _is_of_a_browser(request: web.Request) -> bool:
    # Of what a page can post without asking, browsers tell where it comes from: in `Origin` all of today's, in
    # `Referer` older ones too.
    return any(
        name.lower() in (b"origin", b"referer") or name.lower().startswith(b"sec-fetch-")
        for name, _ in request.raw_headers
    )


def _check_content_encoding(request: web.Request) -> None:
    # A megabyte can be compressed to a kilobyte; how large a body is must be known before it is read.
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise Refusal(415, "wrong_content_encoding", f"the body is encoded as {encoding}; send it as it is")
