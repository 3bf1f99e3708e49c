"""A stage on each of the two real databases, and what a long campaign begins with."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.stage import Stage, open_stage
from tests.postgresql import fast_directory


@pytest.fixture
def stage(database_kind: str, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Two services' connections to an empty database; SQLite's file lies in memory, as PostgreSQL's do."""
    if database_kind == "postgresql":
        yield request.getfixturevalue("postgresql_stage")
        return
    with tempfile.TemporaryDirectory(prefix="jobmgr-model-", dir=fast_directory()) as folder:
        file = Path(folder) / "jobs.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), file)
        with open_stage(f"sqlite:///{file}") as stage:
            yield stage


@pytest.fixture
def postgresql_stage(postgresql_url: str) -> Iterator[Stage]:
    """Like `stage`, for what only PostgreSQL has."""
    with open_stage(postgresql_url) as stage:
        yield stage


@pytest.fixture
def first_seed(request: pytest.FixtureRequest) -> int:
    """What `--hypothesis-seed` says, or another one in each run."""
    given = request.config.getoption("--hypothesis-seed")
    return random.SystemRandom().randrange(2**32) if given is None else int(given)
