"""The seam between the two databases: how a transaction runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec
import sqlalchemy as sa

T = TypeVar("T")

READERS = 4
STATEMENT_TIMEOUT_S = 30.0
# Until when (monotonic clock) a statement on an SQLite connection may take; stands in the connection's `info`.
DEADLINE = "jobmgr_deadline"
# How long each of its statements may take; stands beside.
STATEMENT_S = "jobmgr_statement_s"
# The execution option of a connection whose statements may take this many seconds instead.
MAY_TAKE = "jobmgr_may_take_s"
# The execution option of a connection whose transaction is begun: the driver's own may be asked.
DIRECT = "jobmgr_direct"
# What is called then with how many seconds the answer may take; stands in the connection's `info`.
LIMIT = "jobmgr_limit_answer"
TOO_SLOW = (
    "the database was at this for longer than it may, and gave it up ({}). Ask again later, or for less: jobs are "
    "found by `ids`, `id_prefix`, `status`, `user`, `queue` or `tag`; `name`, `site` and `executor` look through all"
)
UNSTORABLE = "text with NUL characters or unpaired surrogates can neither be stored nor found"


class Backend(Protocol):
    """How transactions run on one kind of database."""

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a read-only transaction: one consistent state. Raises QueryTooSlow."""
        ...

    async def ask(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work`, which sends one statement: a consistent state without a transaction. Raises QueryTooSlow."""
        ...

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a write transaction and commit it durably."""
        ...

    async def was_changed(self) -> bool:
        """Whether another process may have committed since the last call."""
        ...

    async def listen(self, own_id: str, changed: Callable[[], None]) -> None:
        """Call `changed` when another process has committed, for as long as this runs. May return at once."""
        ...

    async def close(self) -> None:
        """Release every connection and thread."""
        ...


def json_text(value: Any) -> str:
    """How values of JSON columns are written."""
    return msgspec.json.encode(value).decode()
