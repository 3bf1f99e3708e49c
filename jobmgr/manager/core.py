"""What all verbs stand on: the database, the dispatcher of this service, the event feed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jobmgr.dispatch.dispatcher import Dispatcher
from jobmgr.domain.once import Once
from jobmgr.domain.site import Site
from jobmgr.manager.feed import Feed
from jobmgr.manager.recall import Recall
from jobmgr.store.engine import Batch, Database
from jobmgr.transports.transport import Transport

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class Parts:
    """The running parts a manager works with; the composition root makes them."""

    database: Database
    dispatcher: Dispatcher
    feed: Feed
    runs: Path
    service: str
    user: str
    # Commands of this machine, the way to a site, and what schedulers told lately.
    here: Transport
    way_to: Callable[[Site], Transport]
    recall: Recall = field(default_factory=Recall)


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
    def user(self) -> str:
        """Whom jobs belong to when nobody else is named."""
        return self.parts.user

    async def _write(self, batch: Batch[Item, Result], item: Item) -> Result:
        # The one change of a verb: what is made under a key is made, and answered, by a single transaction.
        assert self.once is None or not self._is_spent
        self._is_spent = True
        return await self.database.write(batch, item, self.once)
