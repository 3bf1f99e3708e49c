"""The verbs on users and their API tokens, and the audit.

Who may call which is checked by the routes, unless it depends on whose token it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from jobmgr.domain import user
from jobmgr.domain.access import Principal, Role, Verb, check, may
from jobmgr.domain.audit import AuditFilter, AuditPage
from jobmgr.domain.user import ApiToken, User
from jobmgr.errors import AccessDenied, ApiTokenNotFound, Conflict, UserNotFound
from jobmgr.manager.core import Core
from jobmgr.store import api_tokens, audit, users
from jobmgr.store.api_tokens import NewApiToken, Revocation
from jobmgr.store.users import UserChange
from jobmgr.wire.requests import TokenAsked, UserAsked
from jobmgr.wire.text import check_text


@dataclass(frozen=True, slots=True)
class Me:
    """Who asks, and the groups they are in."""

    principal: Principal
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """An API token that was made, and what its user is to show, which nobody is told again."""

    token: ApiToken
    shown: str


class Users(Core):
    """Users, API tokens, and who did what.

    The service's own user is an admin, whatever is stored, and nobody can change that: it has the database.
    """

    async def me(self) -> Me:
        """Who asks."""
        try:
            groups = (await self._read(users.get, self._principal.name)).groups
        except UserNotFound:
            groups = ()
        return Me(self._principal, groups)

    async def users(self) -> Sequence[User]:
        """All users by name, the service's own among them."""
        known = {each.name: each for each in await self._read(users.listing)}
        owner = known.get(self.parts.user, User(self.parts.user))
        known[owner.name] = replace(owner, role=Role.ADMIN, is_disabled=False)
        return [known[name] for name in sorted(known)]

    async def put_user(self, name: str, asked: UserAsked) -> User:
        """Make a user, or change one to this unless it has to be `new`.

        Raises InvalidRequest, Conflict for the service's own, and for one who is there although it has to be `new`.
        """
        if name != self.parts.user:
            user.check_name(name, "name")
        self._spare_owner(name, asked.role, is_disabled=asked.disabled)
        if asked.new:
            await self._ensure_owner(name)
        groups = user.check_groups(asked.groups, "groups")
        batch = users.add if asked.new else users.put
        return await self._write(batch, User(name, asked.role, groups, asked.disabled))

    async def change_user(
        self,
        name: str,
        *,
        role: Role | None = None,
        groups: Sequence[str] | None = None,
        is_disabled: bool | None = None,
    ) -> User:
        """Change a user; who is disabled is let in no more, and loses all API tokens. What is None stays.

        Raises UserNotFound, InvalidRequest, Conflict for the service's own.
        """
        self._check_possible(name)
        self._spare_owner(name, role, is_disabled=is_disabled)
        await self._ensure_owner(name)
        checked = None if groups is None else user.check_groups(groups, "groups")
        return await self._write(users.change, UserChange(name, role, checked, is_disabled))

    async def remove_user(self, name: str) -> None:
        """Forget a user without jobs, and all their API tokens. Raises UserNotFound, Conflict."""
        self._check_possible(name)
        if name == self.parts.user:
            raise Conflict(f"{name} is the user of this service")
        await self._write(users.remove, name)

    async def api_tokens(self, name: str | None = None) -> Sequence[ApiToken]:
        """The API tokens of a user, newest first; None: all that who asks may see. Raises AccessDenied for others'."""
        if not self._governs:
            own = self._own("see")
            if name not in (None, own):
                check(self._principal, Verb.GOVERN)
            name = own
        return await self._read(api_tokens.listing, name)

    async def make_api_token(self, asked: TokenAsked) -> Made:
        """Make an API token. Raises UserNotFound, InvalidRequest, Conflict for a user who is disabled, and for one that
        was made before under the same key: its secret is nowhere any more.
        """
        name = self.user if asked.user is None else asked.user
        self._check_possible(name)
        check_text(asked.label, "label")
        expires_at = user.expiry(asked.expires, datetime.now(UTC), "expires")
        await self._ensure_owner(name)
        token_id = secrets.token_hex(6)
        shown = user.write_api_token(token_id, secrets.token_urlsafe(32))
        new = NewApiToken(
            token_id, name, user.digest(shown), asked.label, frozenset(asked.scopes), self.user, expires_at
        )
        token = await self._write(api_tokens.make, new)
        if token.id != token_id:
            raise Conflict(
                f"this was asked before, and the API token {token.id} was made, which is shown only once;"
                f" if nobody has it, `jobmgr token revoke {token.id}` and make another one"
            )
        return Made(token, shown)

    async def revoke_api_token(self, token_id: str) -> ApiToken:
        """Let an API token be valid no more, from the next request on.

        Raises ApiTokenNotFound, for who is no admin also if it is another user's.
        """
        of = None if self._governs else self._own("revoke")
        if not user.is_token_id(token_id):
            raise ApiTokenNotFound(token_id)
        return await self._write(api_tokens.revoke, Revocation(token_id, of))

    async def audit(
        self, wanted: AuditFilter | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> AuditPage:
        """A page of what users did, newest first. Raises InvalidRequest for a cursor that is none."""
        return await self._read(audit.page, wanted or AuditFilter(), limit, cursor)

    @property
    def _principal(self) -> Principal:
        return Principal.owner(self.user) if self.caller is None else self.caller.principal

    @property
    def _governs(self) -> bool:
        return may(self._principal, Verb.GOVERN)

    def _own(self, verb: str) -> str:
        """The name of who asks, as long as it is not a job that does. Raises AccessDenied."""
        if self._principal.job_id is not None:
            raise AccessDenied(f"this API token is of job {self._principal.job_id}, which may not {verb} any")
        return self._principal.name

    def _check_possible(self, name: str) -> None:
        """Raise UserNotFound for what is no user's name: a database need not be able to look for it."""
        if name != self.parts.user and not user.is_name(name):
            raise UserNotFound(name)

    def _spare_owner(self, name: str, role: Role | None, *, is_disabled: bool | None) -> None:
        if name == self.parts.user and (is_disabled or role not in (None, Role.ADMIN)):
            raise Conflict(f"{name} is the user of this service, and stays its admin")

    async def _ensure_owner(self, name: str) -> None:
        # The service's own user needs a row only for what is stored about it.
        if name == self.parts.user:
            await self.database.write(users.ensure, User(name, Role.ADMIN), caller=self.caller)
