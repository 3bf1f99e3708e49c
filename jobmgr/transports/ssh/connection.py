"""The way to a host, shared by all who name it alike."""

from __future__ import annotations

import asyncio
import logging

from jobmgr.errors import SiteUnreachable
from jobmgr.transports.host import SshHost
from jobmgr.transports.ssh.lanes import Lanes
from jobmgr.transports.ssh.login import Login, log_in
from jobmgr.transports.ssh.pauses import Pauses

logger = logging.getLogger(__name__)


class Connection:
    """One login, opened when it is needed, and closed when the last of those who took it lets it go.

    It may be taken again after that.
    """

    def __init__(self, host: SshHost) -> None:
        self.host = host.name
        self.lanes = Lanes(host.sessions)
        self._settings = host
        self._pauses = Pauses()
        self._trouble: SiteUnreachable | None = None  # Why it could not be reached the last time.
        self._login: Login | None = None
        self._logging_in: asyncio.Task[Login] | None = None
        self._takers = 0

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent over it."""
        return self._login is not None and self._login.is_open

    def take(self) -> None:
        """Have a part in it."""
        self._takers += 1

    async def let_go(self) -> None:
        """Have no more part in it."""
        self._takers -= 1
        if self._takers > 0:
            return
        if self._logging_in is not None:
            self._logging_in.cancel()
            await asyncio.wait([self._logging_in])
        self._pauses.end()
        await self._close()

    async def opened(self) -> Login:
        """The open login; whoever comes while it is being opened waits for the same one. Raises SiteUnreachable."""
        if self._login is not None and self._login.is_open:
            return self._login
        if self._logging_in is None:
            left_s = self._pauses.left_s
            if left_s > 0 and self._trouble is not None:
                raise self._trouble.again_in(left_s)
            # Of its own, so that the first to lose patience does not take it away from the others.
            self._logging_in = asyncio.create_task(self._log_in())
            self._logging_in.add_done_callback(self._logged_in)
        logging_in = self._logging_in
        await asyncio.wait([logging_in])
        if logging_in.cancelled():
            raise SiteUnreachable(self.host, "it was closed")
        return logging_in.result()

    async def _log_in(self) -> Login:
        await self._close()
        return await log_in(self._settings)

    async def _close(self) -> None:
        login, self._login = self._login, None
        if login is not None:
            await login.close()

    def _logged_in(self, task: asyncio.Task[Login]) -> None:
        self._logging_in = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            logger.info("connected to %s", self.host)
            self._login = task.result()
            self._pauses.end()
            self.lanes.widen()
        elif isinstance(error, SiteUnreachable):
            self._trouble = error
            self._pauses.begin()
            logger.warning("%s; not tried again for %.0f s", error, self._pauses.left_s)
