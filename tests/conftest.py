"""The two real databases, empty for each test, and what stands on them."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from jobmgr.service import JobManager, ResourceLimits
from jobmgr.store.engine import Database
from tests import chromium as browsers
from tests import remnant
from tests.nginx import find_program as find_nginx
from tests.patience import eventually
from tests.postgresql import Cluster, find_binaries, running_cluster
from tests.slurm import Slurm, running_slurm, why_not

_TEMPLATE = "jobmgr_template"
_NUMBERS = itertools.count(1)


def pytest_configure() -> None:
    # A run in the background is started with SIGINT ignored, and so would be every command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Always the same examples, but in long campaigns. How long one takes says how busy the machine is.
    hypothesis.settings.register_profile(
        "jobmgr",
        deadline=None,
        derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("jobmgr")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the long campaigns (marker `slow`)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="a long campaign; runs with --long")
    for item in items:
        if item.get_closest_marker("slow") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """A running PostgreSQL server of our own."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (no initdb on the PATH or below /usr/lib/postgresql)")
    with running_cluster(binaries) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A running SLURM of our own, with accounting."""
    yield from _slurm(has_accounting=True)


@pytest.fixture(scope="session")
def slurm_without_accounting() -> Iterator[Slurm]:
    """A running SLURM of our own that forgets what has ended."""
    yield from _slurm(has_accounting=False)


@pytest.fixture(scope="session")
def chromium() -> Iterator[browsers.Chromium]:
    """A running browser of our own."""
    program = browsers.find_program()
    if program is None:
        pytest.skip(f"Chromium is not installed (none of {', '.join(browsers.PROGRAMS)} is on the PATH)")
    with browsers.running_chromium(program) as running:
        yield running


@pytest.fixture(scope="session")
def nginx() -> str:
    """The program of nginx."""
    program = find_nginx()
    if program is None:
        pytest.skip("nginx, or openssl, which makes a certificate for it, is not installed")
    return program


def _slurm(*, has_accounting: bool) -> Iterator[Slurm]:
    reason = why_not(has_accounting=has_accounting)
    if reason is not None:
        pytest.skip(reason)
    with running_slurm(has_accounting=has_accounting) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgresql_template(postgresql: Cluster) -> str:
    """The name of a database with the schema in it, to make others from."""
    postgresql.execute(f"CREATE DATABASE {_TEMPLATE}")
    _upgrade(postgresql.url(_TEMPLATE))
    return _TEMPLATE


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the schema in it, to make others from."""
    file = tmp_path_factory.mktemp("template") / "jobs.db"
    _upgrade(f"sqlite:///{file}")
    return file


def _upgrade(url: str) -> None:
    async def upgrade() -> None:
        database = Database(url)
        await database.upgrade()
        await database.close()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(upgrade())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Both databases, one after the other."""
    return str(request.param)


@pytest.fixture
def empty_database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    yield from _fresh(database_kind, request, tmp_path, is_empty=True)


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database with the schema and no jobs; fails the test that leaves a connection to it open."""
    yield from _fresh(database_kind, request, tmp_path, is_empty=False)


@pytest.fixture
def postgresql_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Like `database_url`, for what only PostgreSQL has."""
    yield from _fresh("postgresql", request, tmp_path, is_empty=False)


@pytest.fixture
def sqlite_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Like `database_url`, for what only SQLite has."""
    yield from _fresh("sqlite", request, tmp_path, is_empty=False)


def _fresh(kind: str, request: pytest.FixtureRequest, folder: Path, *, is_empty: bool) -> Iterator[str]:
    if kind == "sqlite":
        yield from _fresh_sqlite(
            folder / "jobs.db", None if is_empty else request.getfixturevalue("sqlite_template")
        )
        return
    template = "template0" if is_empty else request.getfixturevalue("postgresql_template")
    cluster: Cluster = request.getfixturevalue("postgresql")
    name = f"jobmgr_{next(_NUMBERS)}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield cluster.url(name)
    # Fails while anybody is connected, so a leaked connection fails its own test.
    sessions = "SELECT application_name, state, query FROM pg_stat_activity WHERE datname"
    # The server's own workers, such as that of autovacuum, come and go.
    left = cluster.execute(f"{sessions} = '{name}' AND backend_type = 'client backend'")
    cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert left == "", f"the test left connections open: {left}"


def _fresh_sqlite(file: Path, template: Path | None) -> Iterator[str]:
    if template is not None:
        shutil.copyfile(template, file)
    yield f"sqlite:///{file}"
    assert _open_files(file) == [], "the test left connections open"


def _open_files(database: Path) -> list[str]:
    """What this process has open of the database: the file itself, its log, its shared memory."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith(str(database)):
            found.append(target)
    return found


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A started database with the schema; that its connections all close is checked by its URL's fixture."""
    database = Database(database_url)
    await database.start()
    yield database
    await database.close()


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started after this finds two GPUs on this machine, whether there are any or not."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")


@pytest_asyncio.fixture
async def manager(database_url: str, tmp_path: Path) -> AsyncIterator[JobManager]:
    """A running service with two slots; a job that a test leaves running fails that test."""
    work = tmp_path / "work"
    limits = ResourceLimits(max_concurrent_jobs=2)
    async with JobManager(limits, database=database_url, work_dir=work) as manager:
        yield manager
    left = remnant.commands(work)
    remnant.kill(left)
    await eventually(lambda: not remnant.keepers(work))
    assert left == [], "the test left jobs running"
