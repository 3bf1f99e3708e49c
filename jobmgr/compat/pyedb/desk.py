"""The service that a manager's verbs go to: one in this process, or the one that has the database already."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

from jobmgr import service
from jobmgr.client.client import PATIENCE_S, Client
from jobmgr.client.patience import Patience
from jobmgr.compat.pyedb.shelf import Shelf
from jobmgr.errors import AnswerLost, DatabaseInUse, JobmgrError, ServiceUnreachable
from jobmgr.settings import Settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[["Desk"], Awaitable[T]]

# How long a service of others may be away, as it is when it is started again, before this process has one of its own.
_OTHERS_PATIENCE_S = 30.0


class Desk:
    """A service that answers, to be used in one loop: `own` is it if it runs in this process, as `choose` says then.

    When that of others ends, jobs would be left waiting: then there is one in this process.
    """

    url: str
    client: Client
    shelf: Shelf
    own: service.JobManager | None

    def __init__(self, choose: Callable[[], Settings], others_patience_s: float = _OTHERS_PATIENCE_S) -> None:
        self._choose = choose
        self._others_patience_s = others_patience_s
        self._stack = AsyncExitStack()
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._open_patiently()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
        await self._stack.aclose()

    async def do(self, work: Work[T]) -> T:
        """What `work` answers; done again at the next service, if that of others is gone. It may be: each verb is of
        the kind that comes to the same when it is said twice."""
        client = self.client
        try:
            return await work(self)
        except (ServiceUnreachable, AnswerLost) as error:
            if self.client is client and self.own is not None:
                raise
            logger.warning("%s; looking for another service", error)
            await self._renew(client)
        return await work(self)

    async def _watch(self) -> None:
        # What was handed over waits, also if nobody asks for it any more.
        while self.own is None:
            lost = self.client
            await self.shelf.lost.wait()
            try:
                await self._renew(lost)
            except JobmgrError as error:
                logger.warning("%s; looking for another service again", error)
                await asyncio.sleep(self._others_patience_s)

    async def _renew(self, lost: Client) -> None:
        async with self._renewing:
            if self.client is lost:
                await self.shelf.close()
                # What others still wait for on the old client is answered there; it is closed at the end.
                await self._open_patiently()

    async def _open_patiently(self) -> None:
        patience = Patience(self._others_patience_s)
        while True:
            try:
                return await self._open()
            except DatabaseInUse as error:
                # A service has the database before it answers, and still has it when it answers no more.
                await patience.wait_after(error)

    async def _open(self) -> None:
        async with AsyncExitStack() as stack:
            own: service.JobManager | None = None
            patience_s = PATIENCE_S
            chosen = self._choose()
            try:
                # Under a name of their own: these limits are not meant for `jobmgr serve`.
                limits_name = f"{socket.gethostname()} pyedb"
                own = await stack.enter_async_context(service.serving(chosen, limits_name=limits_name))
                url = own.url or ""
            except DatabaseInUse as error:
                if error.url is None:
                    raise
                url, patience_s = error.url, self._others_patience_s
                logger.warning(
                    "the service at %s has the database already: it takes what is submitted here, and its limits hold",
                    url,
                )
            client = await stack.enter_async_context(Client(url, chosen.token, patience_s=patience_s))
            shelf = await stack.enter_async_context(Shelf(client))
            self._stack.push_async_exit(stack.pop_all())
        self.url, self.client, self.shelf, self.own = url, client, shelf, own
