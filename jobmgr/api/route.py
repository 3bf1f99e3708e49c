"""What a route is: everything the router and the OpenAPI document need to know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from jobmgr.api import idempotency
from jobmgr.api.body import expect_nothing, read_struct
from jobmgr.api.guard import CHANGES
from jobmgr.api.keys import CALLER
from jobmgr.api.manner import PROBLEMS, Manner
from jobmgr.api.query import parse_query
from jobmgr.domain import access
from jobmgr.domain.access import Verb
from jobmgr.errors import JobmgrError
from jobmgr.wire.requests import NoQuery

Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    The handler is called with the request, and with `query` and `body` if the route declares them, decoded.
    `own_bodies` are the alternatives that a handler reads by itself. `answer` is a struct, a media type, or None
    for an answer without a body; `is_array` says that there may be many, `may_be_empty` that there
    may be nothing to tell yet (204), `is_ranged` that `Range` may ask for a part, `has_csv` that it may also be asked
    for as CSV. `gives` names what stands in the paths of other routes, as `queues/{name}`, and where the answer says
    it, as a JSON pointer. `errors` are those of this route beside what every route may answer, told in its `manner`.
    `verb` is what whoever asks must be allowed to do: unless it is given, to read or to change; nothing at all where
    it `is_open` to everybody.
    """

    method: str
    path: str
    handler: Callable[..., Awaitable[web.StreamResponse]]
    summary: str
    answer: type[msgspec.Struct] | tuple[type[msgspec.Struct], ...] | str | None
    status: int = 200
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    own_bodies: tuple[type[msgspec.Struct], ...] = ()
    errors: tuple[type[JobmgrError], ...] = ()
    verb: Verb | None = None
    is_open: bool = False
    streams: bool = False
    is_array: bool = False
    has_csv: bool = False
    may_be_empty: bool = False
    is_ranged: bool = False
    gives: tuple[tuple[str, str], ...] = ()
    manner: Manner = PROBLEMS

    @property
    def takes(self) -> Verb | None:
        """What whoever asks must be allowed to do; None: it is open to everybody."""
        if self.is_open:
            return None
        return self.verb or (Verb.CHANGE if self.method in CHANGES else Verb.READ)

    def endpoint(self) -> Endpoint:
        """The aiohttp handler: decode what is declared, refuse what is not, call the handler."""
        handler, query, body = self.handler, self.query, self.body
        decoder = None if body is None else msgspec.json.Decoder(body)
        changes = self.method in CHANGES
        takes_nothing = changes and body is None and not self.own_bodies
        verb = self.takes

        async def handle(request: web.Request) -> web.StreamResponse:
            if verb is not None:
                access.check(request[CALLER].principal, verb)
            if changes:
                idempotency.begin(request)
            arguments: dict[str, Any] = {}
            if query is not None:
                arguments["query"] = parse_query(request, query)
            elif request.query_string:
                parse_query(request, NoQuery)
            if decoder is not None:
                arguments["body"] = await read_struct(request, decoder)
            elif takes_nothing:
                await expect_nothing(request)
            return await handler(request, **arguments)

        return handle
