"""What all verbs stand on: the database, the dispatcher of this service, the event feed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from jobmgr.dispatch.dispatcher import Dispatcher
from jobmgr.domain import access
from jobmgr.domain.access import Caller, Hearing, Owned, Principal, Sight
from jobmgr.domain.once import Once
from jobmgr.domain.site import Site
from jobmgr.errors import JobNotFound
from jobmgr.hfss.program import Programs
from jobmgr.manager.feed import Feed
from jobmgr.manager.identity import Identity
from jobmgr.manager.job_tokens import PREFIX, JobTokens
from jobmgr.manager.reading import Readings
from jobmgr.manager.recall import Recall
from jobmgr.manager.turns import Turns
from jobmgr.monitor import ResourceMonitor
from jobmgr.store import listing
from jobmgr.store.engine import Batch, Database
from jobmgr.transports.transport import Transport

P = ParamSpec("P")
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
    identity: Identity
    runs: Path
    service: str
    limits_name: str
    user: str
    # Commands of this machine, the way to a site, the state of this machine, what clients may name as ansysedt, what
    # schedulers told lately, what logs of simulations said, and whose turn it is to read.
    here: Transport
    way_to: Callable[[Site], Transport]
    monitor: ResourceMonitor
    programs: Programs
    # The tokens of running jobs, once a service answers.
    job_tokens: JobTokens | None = None
    recall: Recall = field(default_factory=Recall)
    readings: Readings = field(default_factory=Readings)
    turns: Turns = field(default_factory=Turns)


class Core:
    """Access to the parts, for whoever asks. `parts` is set while the manager runs.

    `caller` is who asks, None for the program itself that the manager is part of, which may do everything; `once` is
    set if its next change is asked for by a key.
    """

    parts: Parts
    caller: Caller | None = None
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
    def identity(self) -> Identity:
        """Who shows which API token."""
        return self.parts.identity

    @property
    def programs(self) -> Programs:
        """Which programs clients may name as ansysedt."""
        return self.parts.programs

    @property
    def user(self) -> str:
        """Whom jobs belong to when nobody else is named."""
        return self.parts.user if self.caller is None else self.caller.principal.name

    @property
    def hearing(self) -> Hearing:
        """What whoever asks is told of all that happens."""
        return Hearing(everything=True) if self.caller is None else Hearing.of(self.caller.principal)

    @property
    def sight(self) -> Sight:
        """Which jobs whoever asks sees."""
        return Sight() if self.caller is None else access.sight(self.caller.principal)

    async def principal(self, shown: str) -> Principal | None:
        """Whom this token lets in: an API token, or that of a running job; None: nobody. Raises StoreUnavailable."""
        if shown.startswith(PREFIX):
            tokens = self.parts.job_tokens
            return None if tokens is None else await tokens.principal(shown)
        return await self.identity.principal(shown)

    async def is_known(self, shown: str) -> bool:
        """Whether this is a token that was given out, as far as can be told with little; it may have ended since.

        Raises StoreUnavailable.
        """
        if shown.startswith(PREFIX):
            tokens = self.parts.job_tokens
            return tokens is not None and tokens.is_ours(shown)
        return await self.identity.is_known(shown)

    def waiting(self, principal: Principal) -> int:
        """How many of the reads that `principal` asked for wait for their turn."""
        return self.parts.turns.waiting(principal.bearer)

    async def is_current(self) -> bool:
        """Whether who asked may go on listening: still known by the same token, in the same role and groups.

        Raises StoreUnavailable if that may be otherwise by now and cannot be read.
        """
        if self.caller is None:
            return True
        principal, tokens = self.caller.principal, self.parts.job_tokens
        if principal.job_id is not None and tokens is not None:
            return await tokens.is_current(principal)
        await self.identity.refresh()
        return self.identity.is_current(principal)

    def _check(self, job: Owned) -> None:
        """Raise JobNotFound for a job that whoever asks does not see; what it takes to look is the route's to check."""
        if self.caller is not None and not access.sees(self.caller.principal, job):
            raise JobNotFound(job.job_id)

    async def _see(self, *job_ids: str) -> None:
        """The same for jobs by their ids, before anything is read of them. Raises JobNotFound."""
        if self.caller is None or self.caller.principal.sees_all:
            return
        for owned in await self._read(listing.owners, job_ids):
            self._check(owned)

    async def _read(
        self, statements: Callable[Concatenate[Any, P], Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """`Database.read`, in turn for all but the service's own user: the others may be many, or one who floods."""
        if self.caller is None or self.caller.principal.shows_nothing:
            return await self.database.read(statements, *args, **kwargs)
        async with self.parts.turns.turn(self.caller.principal.bearer):
            return await self.database.read(statements, *args, **kwargs)

    async def _ask(
        self, statement: Callable[Concatenate[Any, P], Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """`Database.ask`, in turn as well."""
        if self.caller is None or self.caller.principal.shows_nothing:
            return await self.database.ask(statement, *args, **kwargs)
        async with self.parts.turns.turn(self.caller.principal.bearer):
            return await self.database.ask(statement, *args, **kwargs)

    async def _write(self, batch: Batch[Item, Result], item: Item) -> Result:
        # The one change of a verb: what is made under a key is made, and answered, by a single transaction.
        assert self.once is None or not self._is_spent
        self._is_spent = True
        return await self.database.write(batch, item, self.once, self.caller)
