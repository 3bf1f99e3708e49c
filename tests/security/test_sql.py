"""What is looked for is a value, in every filter and on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from jobmgr.domain.job import JobFilter
from jobmgr.service import JobManager
from tests.security.guards import BOUND_VALUES, PLAIN_PATTERN, rests_on

TRAPS = (
    "x' OR '1'='1",
    "x'; DELETE FROM jobs; --",
    "'",
    '"',
    "x\\' OR 1=1 --",
    "$1",
    "?",
    ":name",
    "%s",
    "x')) OR 1=1 --",
)
FIELDS = ("user", "queue", "site", "executor", "tag", "name", "id_prefix")


@pytest_asyncio.fixture
async def stored(database_url: str, tmp_path: Path) -> AsyncIterator[JobManager]:
    """A database with one job that nothing below is to find."""
    async with JobManager(database=database_url, work_dir=tmp_path / "work") as manager:
        await manager.submit(["true"], name="ours", tags=["ours"], draft=True)
        yield manager


@rests_on(BOUND_VALUES)
@pytest.mark.parametrize("field", FIELDS)
async def test_a_filter_is_no_statement(stored: JobManager, field: str) -> None:
    for trap in TRAPS:
        wanted: dict[str, Any] = {field: trap}
        assert (await stored.list(JobFilter(**wanted))).jobs == [], trap

    assert [job.name for job in (await stored.list()).jobs] == ["ours"]


@rests_on(PLAIN_PATTERN)
async def test_a_name_has_one_wildcard(stored: JobManager) -> None:
    patterns = ["[o]*", "?urs*", "_urs*", "our%*", "[!x]*", "o[a-z]*"]

    found = [(await stored.list(JobFilter(name=one))).jobs for one in patterns]

    assert found == [[]] * len(patterns)
