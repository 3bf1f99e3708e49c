"""Sites that outlive a test: starting a service for each of hundreds of cases would take most of the time."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import Callable, Generator, Iterator

import pytest

from tests.crash.site import Site
from tests.postgresql import Cluster

_NUMBERS = itertools.count(1)
_FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Makes databases with the schema, `sqlite` or `postgresql`; answers the URL."""

    def make(kind: str) -> str:
        number = next(_NUMBERS)
        if kind == "sqlite":
            file = tmp_path_factory.mktemp("database") / "jobs.db"
            shutil.copyfile(request.getfixturevalue("sqlite_template"), file)
            return f"sqlite:///{file}"
        cluster: Cluster = request.getfixturevalue("postgresql")
        template = request.getfixturevalue("postgresql_template")
        cluster.execute(f"CREATE DATABASE crash_{number} TEMPLATE {template}")
        return cluster.url(f"crash_{number}")

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.session.stash[_FAILED] = True
    return report


@pytest.fixture(scope="module")
def standing_site(
    request: pytest.FixtureRequest,
    new_database: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Site]]:
    """The site of a kind of database that the tests of a module share; a new one after a test that failed."""
    sites: dict[str, Site] = {}

    def standing(kind: str) -> Site:
        if request.session.stash.get(_FAILED, False):
            request.session.stash[_FAILED] = False
            for site in sites.values():
                site.destroy()
            sites.clear()
        if kind not in sites:
            sites[kind] = Site(tmp_path_factory.mktemp("site"), new_database(kind), faults=True)
        return sites[kind]

    yield standing
    for site in sites.values():
        with asyncio.Runner() as runner:
            runner.run(site.close())
