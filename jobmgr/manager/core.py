"""What all verbs stand on: the database, the dispatcher of this service, the event feed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jobmgr.dispatch.dispatcher import Dispatcher
from jobmgr.domain.once import Once
from jobmgr.domain.site import Site
from jobmgr.hfss.program import Programs
from jobmgr.manager.feed import Feed
from jobmgr.manager.reading import Readings
from jobmgr.manager.recall import Recall
from jobmgr.monitor import ResourceMonitor
from jobmgr.store.engine import Batch, Database
from jobmgr.transports.transport import Transport

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class Parts:
    """The running parts a manager works with; the composition root makes them.

    `service` is its host; its limits are stored under `limits_name`.
    """

    database: Database
    dispatcher: Dispatcher
    feed: Feed
    runs: Path
    service: str
    limits_name: str
    user: str
    # Commands of this machine, the way to a site, the state of this machine, what clients may name as ansysedt, what
    # schedulers told lately, and what logs of simulations said.
    here: Transport
    way_to: Callable[[Site], Transport]
    monitor: ResourceMonitor
    programs: Programs
    recall: Recall = field(default_factory=Recall)
    readings: Readings = field(default_factory=Readings)


class Core:
    """Access to the parts. `parts` is set while the manager runs; `once` if its next change is asked for by a key."""

    parts: Parts
    once: Once | None = None
    _is_spent = False

    @property
    def database(self) -> Database:
        """The job database."""
        return self.parts.database

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of this service."""
        return self.parts.dispatcher

    @property
    def feed(self) -> Feed:
        """The event stream."""
        return self.parts.feed

    @property
    def programs(self) -> Programs:
        """Which programs clients may name as ansysedt."""
        return self.parts.programs

    @property
    def user(self) -> str:
        """Whom jobs belong to when nobody else is named."""
        return self.parts.user

    async def _write(self, batch: Batch[Item, Result], item: Item) -> Result:
        # The one change of a verb: what is made under a key is made, and answered, by a single transaction.
        assert self.once is None or not self._is_spent
        self._is_spent = True
        return await self.database.write(batch, item, self.once)
