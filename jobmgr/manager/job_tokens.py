"""Tokens of running jobs: each opens what its own job may do, for as long as that attempt is live and its user is
not disabled.

Nothing is stored. A token is made of an attempt's names and a code that only who has the key can make; whenever it is
shown, the database says whether the attempt is live. The attempt's own token goes into the code, so that none is good
for another job that gets the same id. It is no secret itself: schedulers show it as the name of a job.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from hmac import compare_digest, digest

from jobmgr.domain.access import Principal, Role, Scope
from jobmgr.store import attempts
from jobmgr.store.engine import Database
from jobmgr.wire.submission import JOB_ID

PREFIX = "jmj_"
_TOKEN = re.compile(
    rf"{PREFIX}(?P<job_id>{JOB_ID})\.(?P<number>[0-9]{{1,9}})\.(?P<attempt>[0-9a-f]{{32}})"
    r"\.[A-Za-z0-9_\-]{43}"
)
_SCOPES = frozenset({Scope.READ, Scope.SUBMIT})


class JobTokens:
    """The tokens that one key makes. Services that share the key honour each other's."""

    def __init__(self, database: Database, key: bytes) -> None:
        assert key, "with an empty key everybody can make tokens"
        self._database = database
        self._key = key

    def of(self, job_id: str, number: int, attempt_token: str) -> str:
        """The token of this attempt."""
        # No part of it can have a line break.
        message = f"{job_id}\n{number}\n{attempt_token}".encode()
        code = urlsafe_b64encode(digest(self._key, message, "sha256")).rstrip(b"=").decode()
        return f"{PREFIX}{job_id}.{number}.{attempt_token}.{code}"

    def is_ours(self, shown: str) -> bool:
        """Whether the key made this token, for an attempt that may have ended since. Nothing is read."""
        match = _TOKEN.fullmatch(shown)
        return match is not None and compare_digest(
            self.of(match["job_id"], int(match["number"]), match["attempt"]), shown
        )

    async def principal(self, shown: str) -> Principal | None:
        """Whom this token lets in; None if it is none, or not that of a live attempt."""
        match = _TOKEN.fullmatch(shown)
        if match is None:
            return None
        job_id, number = match["job_id"], int(match["number"])
        live = await self._database.ask(attempts.live, job_id, number)
        if live is None or not compare_digest(self.of(job_id, number, live.token), shown):
            return None
        return Principal(
            live.user, Role.USER, _SCOPES, job_id=job_id, token_id=_id(job_id, number, live.token)
        )

    async def is_current(self, principal: Principal) -> bool:
        """Whether its token still lets it in: the very attempt that had it is live."""
        assert principal.job_id is not None
        assert principal.token_id is not None
        number = int(principal.token_id.removeprefix(f"{PREFIX}{principal.job_id}.").partition(".")[0])
        live = await self._database.ask(attempts.live, principal.job_id, number)
        return live is not None and _id(principal.job_id, number, live.token) == principal.token_id


def _id(job_id: str, number: int, attempt_token: str) -> str:
    """What a token is called: another one if a job is deleted and its id used anew."""
    return f"{PREFIX}{job_id}.{number}.{attempt_token[-12:]}"
