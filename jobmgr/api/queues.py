"""Queues and the limits of the service."""

from __future__ import annotations

import msgspec
from aiohttp import web

from jobmgr.api.body import changes_in
from jobmgr.api.idempotency import manager_of
from jobmgr.api.reply import reply
from jobmgr.wire.answers import QueuesAnswer
from jobmgr.wire.requests import LimitsChange, QueueChange
from jobmgr.wire.translation import limits_answer, queue_answer


async def queues(request: web.Request) -> web.Response:
    """All queues."""
    manager = manager_of(request)
    # Read first: a reader who applies newer events may see one again, but misses none.
    position = await manager.event_position()
    found = [queue_answer(queue) for queue in await manager.queues()]
    return reply(QueuesAnswer(found, position.epoch, position.seq))


async def change_queue(request: web.Request, body: QueueChange) -> web.Response:
    """Pause or resume a queue or limit it; a new name makes a queue."""
    name = request.match_info["name"]
    paused = None if body.paused is msgspec.UNSET else body.paused
    return reply(
        queue_answer(
            await manager_of(request).update_queue(name, paused=paused, max_running=body.max_running)
        )
    )


async def limits(request: web.Request) -> web.Response:
    """What the service may use of its machine."""
    return reply(limits_answer(await manager_of(request).limits()))


async def change_limits(request: web.Request, body: LimitsChange) -> web.Response:
    """Change limits; they are stored, so they survive a restart."""
    return reply(limits_answer(await manager_of(request).update_limits(**changes_in(body))))
