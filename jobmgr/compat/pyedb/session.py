"""A service as long as a manager is started, for all threads and loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from jobmgr.compat.pyedb.desk import Desk, Work
from jobmgr.errors import NotRunning
from jobmgr.settings import Settings
from jobmgr.sync import LoopThread

T = TypeVar("T")


class Session:
    """From `start` to `stop` there is a service, in this process if its database has none yet.

    It listens also for others: programs of this user that are started meanwhile, and the command line, find it.
    """

    def __init__(self, choose: Callable[[], Settings]) -> None:
        self._thread = LoopThread(lambda: Desk(choose), "jobmgr-pyedb")
        # Whether it was started before, and is stopped; a forked process is not told of either.
        self.is_closed = False

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._thread.is_running

    @property
    def url(self) -> str:
        """Where the service answers. Raises NotRunning."""
        return self._thread.call(_url)

    def start(self) -> None:
        """Return when the service answers. Raises what is wrong: AddressUnavailable, DatabaseInUse, StoreError, …"""
        self._thread.start()
        self.is_closed = False

    def stop(self, *, wait: bool = False) -> None:
        """Let go: what runs runs on, what waits is stored. With `wait` start nothing more and wait for what runs."""
        self.is_closed = self.is_closed or self.is_running
        try:
            if wait and self.is_running:
                self._thread.call(_drained)
        finally:
            # Also if somebody does not want to wait any longer: what claims no more is to be started anew.
            self._thread.stop()

    def call(self, work: Work[T], timeout_s: float | None = None) -> T:
        """What `work` answers of the service, for those who have no loop. Raises NotRunning, TimeoutError."""
        if self.is_closed:
            raise NotRunning(
                "the manager is closed; ask before close(), or start() it again: nothing is lost"
            )
        return self._thread.call(lambda desk: desk.do(work), timeout_s)

    async def ask(self, work: Work[T]) -> T:
        """The same for those who have one. Raises NotRunning."""
        return await self._thread.ask(lambda desk: desk.do(work))


async def _url(desk: Desk) -> str:
    return desk.url


async def _drained(desk: Desk) -> None:
    if desk.own is not None:
        await desk.own.dispatcher.drain()
