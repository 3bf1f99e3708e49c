"""What all verbs stand on: the database, the dispatcher of this service, the event feed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jobmgr.dispatch.dispatcher import Dispatcher
from jobmgr.manager.feed import Feed
from jobmgr.store.engine import Database


@dataclass(slots=True)
class Parts:
    """The running parts a manager works with; the composition root makes them."""

    database: Database
    dispatcher: Dispatcher
    feed: Feed
    runs: Path
    service: str
    user: str


class Core:
    """Access to the parts. `parts` is set while the manager runs."""

    parts: Parts

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
