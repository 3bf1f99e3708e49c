"""Who shows an API token: read once, remembered until a commit says that it may be otherwise."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobmgr.domain import user
from jobmgr.domain.access import Principal, Role
from jobmgr.domain.user import ApiToken, User
from jobmgr.errors import StoreUnavailable
from jobmgr.manager.register import Register
from jobmgr.store import api_tokens
from jobmgr.store.api_tokens import Use
from jobmgr.store.engine import Database
from jobmgr.store.transaction import Topic

# So rarely it is written down that a token is in use.
_USE_WRITTEN = timedelta(minutes=1)
# On PostgreSQL each commit of another service may be one about users. For open streams that is looked at no more often.
_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that is not revoked: its hash, who shows it, and how many changes were told when this was read."""

    hash: str
    principal: Principal
    told: int


class Identity:
    """Principals by their API tokens. `owner` is the user whose process this is: an admin, whatever is stored.

    Nothing is read or written while nobody shows a token. What is remembered are tokens that exist, so strangers cannot
    make it grow.
    """

    def __init__(self, database: Database, owner: str) -> None:
        self.owner = owner
        self._database = database
        self._register = Register(database)
        self._known: dict[str, _Known] = {}
        self._used: dict[str, datetime] = {}
        self._unwritten: dict[str, datetime] = {}
        # How often it was told that users or tokens have changed, and since which of these times all that is known
        # was read. On PostgreSQL that may be with each commit of others, so a request reads its own token only.
        self._told = 0
        self._read = 0
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()

    def notice(self, topics: frozenset[Topic]) -> None:
        """Take note of a commit, our own or another service's."""
        if Topic.IDENTITY in topics:
            self._told += 1
            self._wake.set()

    async def principal(self, shown: str) -> Principal | None:
        """Whose API token this is; None for one that is unknown, expired, revoked, or of a user who is disabled.

        Raises StoreUnavailable if that is not known and cannot be read.
        """
        token_id = user.id_of(shown)
        known = None if token_id is None else await self._find(token_id)
        if known is None or not hmac.compare_digest(known.hash, user.digest(shown)):
            return None
        now = datetime.now(UTC)
        if not _is_valid(known.principal, now):
            return None
        self._note_use(known.principal, now)
        return known.principal

    async def is_known(self, shown: str) -> bool:
        """Whether this is an API token, as of a moment ago, or was one when it was shown before.

        What is read for that is little, however often it is asked. Raises StoreUnavailable.
        """
        known = self._known.get(user.id_of(shown) or "")
        if known is not None and hmac.compare_digest(known.hash, user.digest(shown)):
            return True
        return await self._register.holds(shown)

    def is_current(self, principal: Principal) -> bool:
        """Whether what a stream was opened with still holds: its token is valid, its role and groups are the same."""
        if not _is_valid(principal, datetime.now(UTC)):
            return False
        if principal.token_id is None:
            return True
        known = self._known.get(principal.token_id)
        return known is not None and known.principal == principal

    async def refresh(self) -> None:
        """Read anew what is remembered, if it may be otherwise by now. Raises StoreUnavailable."""
        if self._read == self._told:
            return
        async with self._reading:
            if self._read == self._told:
                return
            told = self._told
            await self._look([token_id for token_id, known in self._known.items() if known.told != told])
            # Others may have been read meanwhile, by requests that began before.
            self._read = min((known.told for known in self._known.values()), default=told)

    async def run(self) -> None:
        """For ever: write down which tokens were used, and read anew what open streams are judged by."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write_uses()
                await self.refresh()
            except StoreUnavailable:
                self._wake.set()
                await self._database.pause()
            else:
                await asyncio.sleep(_PAUSE_S)

    async def _find(self, token_id: str) -> _Known | None:
        known = self._known.get(token_id)
        if known is not None and known.told == self._told:
            return known
        return (await self._look([token_id])).get(token_id)

    async def _look(self, token_ids: Sequence[str]) -> dict[str, _Known]:
        """Read these tokens, and remember what they are by now. Raises StoreUnavailable."""
        if not token_ids:
            return {}
        told, now = self._told, datetime.now(UTC)
        read = await self._database.read(api_tokens.known, token_ids)
        # Tokens of users who are disabled are revoked, so they are not among these.
        users = {each.name: each for each in read.users}
        found = {
            token.id: _Known(token_hash, self._principal(token, users[token.user], read.users), told)
            for token, token_hash in read.tokens
        }
        for token_id in token_ids:
            known = self._known.pop(token_id, None)
            if known is not None and known.told > told:
                # What others have read since is newer; this is good enough for a request that came before.
                self._known[token_id] = known
            elif token_id in found and _is_valid(found[token_id].principal, now):
                self._known[token_id] = found[token_id]
                self._read = min(self._read, told)
            else:
                self._used.pop(token_id, None)
        return found

    def _principal(self, token: ApiToken, holder: User, users: Sequence[User]) -> Principal:
        return Principal(
            name=holder.name,
            role=Role.ADMIN if holder.name == self.owner else holder.role,
            scopes=frozenset(token.scopes),
            mates=user.mates(holder.name, users),
            job_id=None,
            token_id=token.id,
            expires_at=token.expires_at,
            since=holder.created_at,
        )

    def _note_use(self, principal: Principal, now: datetime) -> None:
        assert principal.token_id is not None
        last = self._used.get(principal.token_id)
        if last is None or now - last >= _USE_WRITTEN:
            self._used[principal.token_id] = self._unwritten[principal.token_id] = now
            self._wake.set()

    async def _write_uses(self) -> None:
        unwritten, self._unwritten = self._unwritten, {}
        uses = [Use(token_id, at) for token_id, at in unwritten.items()]
        if uses:
            await self._database.write_all(api_tokens.touch, uses)


def _is_valid(principal: Principal, now: datetime) -> bool:
    return principal.expires_at is None or now < principal.expires_at
