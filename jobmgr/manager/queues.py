"""The verbs on queues and on the limits of this service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.queue import Backlog, Queue
from jobmgr.domain.site import LOCAL
from jobmgr.errors import InvalidRequest
from jobmgr.manager.core import Core
from jobmgr.monitor import Sample
from jobmgr.store import events, queues
from jobmgr.store.queues import LimitsChange, QueueChange
from jobmgr.wire.submission import check_queue_name


class Queues(Core):
    """Queues, limits, readiness, and the machine under them."""

    async def queues(self) -> Sequence[Queue]:
        """All queues with their tallies."""
        return await self._read(queues.listing)

    async def backlog(self) -> Backlog:
        """What waits in all queues, by priority, and what runs on this machine."""
        by_priority = await self._read(queues.backlog)
        return Backlog(by_priority, self.dispatcher.roster.count(LOCAL), self.dispatcher.admission.slots)

    def resources(self) -> Sample:
        """This machine as it is now, or was a second ago."""
        return self.parts.monitor.recent()

    async def update_queue(
        self,
        name: str,
        *,
        paused: bool | None = None,
        max_running: int | msgspec.UnsetType | None = msgspec.UNSET,
    ) -> Queue:
        """Pause, resume or limit a queue; made if it is new. `max_running` None removes its limit.

        Raises InvalidRequest.
        """
        check_queue_name(name, "name")
        values: dict[str, Any] = {} if paused is None else {"paused": paused}
        if max_running is not msgspec.UNSET:
            if max_running is not None and not 0 <= max_running < 2**31:
                raise InvalidRequest("max_running", f"{max_running} is not a number of jobs")
            values["max_running"] = max_running
        return await self._write(queues.change, QueueChange(name, values))

    async def limits(self) -> ResourceLimits:
        """The limits of this service; `max_concurrent_jobs` is the effective number."""
        admission = self.dispatcher.admission
        return admission.effective(admission.limits)

    async def update_limits(self, **changes: Any) -> ResourceLimits:
        """Change limits, by name; stored, so they survive a restart. Raises InvalidRequest; nothing changes then."""
        stored = await self._write(queues.set_limits, LimitsChange(self.parts.limits_name, changes))
        # What was stored may be long ago, if the change was asked for again. The writer's answers come in the order of
        # commits, so the last one stands here too.
        present = await self.database.write(queues.present_limits, self.parts.limits_name)
        await self.dispatcher.keep_to(present)
        return self.dispatcher.admission.effective(stored)

    async def check_ready(self) -> None:
        """Raise StoreUnavailable if the database does not answer."""
        await self._read(events.position)
