"""The web application: guard, routes, streams and sockets in one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from jobmgr.api import problems
from jobmgr.api.body import MAX_BODY_BYTES, expect_later
from jobmgr.api.guard import Guard
from jobmgr.api.headers import harden
from jobmgr.api.keys import DOCUMENTS, LIMITS, MANAGER, STREAMS
from jobmgr.api.limits import Limits
from jobmgr.api.manner import PROBLEMS, Manner, part_of
from jobmgr.api.openapi import describe
from jobmgr.api.refusals import Refusals
from jobmgr.api.route import Route
from jobmgr.api.routes import ROUTES
from jobmgr.api.sockets import Sockets
from jobmgr.api.stream import Streams
from jobmgr.errors import JobmgrError
from jobmgr.manager.manager import Manager

logger = logging.getLogger(__name__)


def make_app(
    manager: Manager, guard: Guard, *, streams: Streams | None = None, limits: Limits | None = None
) -> web.Application:
    """The API of a running `manager` behind `guard`.

    Shutting the application down ends its streams and sockets, so it never waits for their clients.
    """
    refusals = Refusals()
    front = _front(guard, refusals, _manners(ROUTES))
    app = web.Application(middlewares=[front], client_max_size=MAX_BODY_BYTES)
    app[MANAGER] = manager
    app[STREAMS] = streams or Streams()
    app[DOCUMENTS] = describe(ROUTES, asks_always=guard.uid is None)
    app[LIMITS] = limits or Limits()
    for route in ROUTES:
        if route.method == "GET":
            # A stream has no length that HEAD could tell.
            app.router.add_get(
                route.path, route.endpoint(), allow_head=not route.streams, expect_handler=expect_later
            )
        else:
            app.router.add_route(route.method, route.path, route.endpoint(), expect_handler=expect_later)
    app.on_response_prepare.append(_finish(guard))
    app.on_shutdown.append(app[STREAMS].close)
    app.on_cleanup.append(refusals.close)
    Sockets(manager, guard.throttle, refusals).attach(app)
    return app


def _manners(routes: Sequence[Route]) -> Mapping[str, Manner]:
    return {part_of(route.path): route.manner for route in routes}


def _front(guard: Guard, refusals: Refusals, manners: Mapping[str, Manner]) -> Middleware:
    """The one middleware: the guard before, and after it what is wrong, as the family of the path tells it."""

    @web.middleware
    async def front(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if (answer := guard.browsers.preflight(request)) is not None:
                return answer
            await guard.admit(request)
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            wrong: JobmgrError = problems.of_http(error, request)
        except JobmgrError as error:
            wrong = error
        except ConnectionError:
            wrong = problems.of_loss()
        except Exception:  # boundary: a bug is answered and logged, the service goes on
            logger.exception("%s %s failed", request.method, _route_of(request))
            wrong = problems.of_bug()
        refusals.note(request, wrong)
        # Also to who was not let in, and where no route is: nobody knows more of the caller than the path it took.
        return manners.get(part_of(request.path), PROBLEMS).answer(wrong)

    return front


def _route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return request.path if resource is None else resource.canonical


def _finish(guard: Guard) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def finish(request: web.Request, response: web.StreamResponse) -> None:
        harden(response)
        guard.browsers.allow(request, response)

    return finish
