"""Campaigns of random kills over many jobs: a short one each time, the long ones with `--long`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.chaos import SLOTS, Campaign, Order, Tally
from tests.crash.site import Site
from tests.postgresql import Cluster


@pytest.fixture
def campaign_site(database_kind: str, new_database: Callable[[str], str], tmp_path: Path) -> Site:
    """A site of its own; its service does not run yet."""
    return Site(tmp_path / "site", new_database(database_kind), slots=SLOTS)


@pytest.fixture
def cluster(database_kind: str, request: pytest.FixtureRequest) -> Cluster | None:
    """The server that may be stopped, if there is one."""
    found: Cluster | None = request.getfixturevalue("postgresql") if database_kind == "postgresql" else None
    return found


async def run(site: Site, order: Order, cluster: Cluster | None) -> Tally:
    """The whole campaign; prints its tally for who looks at it."""
    try:
        tally = await Campaign(site, order, cluster).run()
    finally:
        await site.close()
    print(f"\nseed {order.seed}", *tally.lines(), sep="\n")  # noqa: T201 -- shown by -s, and when it fails
    return tally


def _order(*, kills: int, jobs: int) -> Order:
    return Order(seed="ledger", jobs=jobs, kills=kills)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("database_kind", "order"),
    [("sqlite", _order(kills=30, jobs=150)), ("postgresql", _order(kills=20, jobs=100))],
    indirect=["database_kind"],
    ids=["sqlite", "postgresql"],
)
async def test_random_kills_double_nothing_and_lose_nothing(
    campaign_site: Site, cluster: Cluster | None, order: Order
) -> None:
    tally = await run(campaign_site, order, cluster)

    assert tally.verdict.breaches == []
    assert tally.kills >= order.kills
    assert tally.verdict.counts["jobs"] == order.jobs


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
@pytest.mark.parametrize(
    ("database_kind", "order"),
    [("sqlite", _order(kills=600, jobs=3000)), ("postgresql", _order(kills=400, jobs=2000))],
    indirect=["database_kind"],
    ids=["sqlite", "postgresql"],
)
async def test_a_thousand_random_kills_double_nothing_and_lose_nothing(
    campaign_site: Site, cluster: Cluster | None, order: Order
) -> None:
    tally = await run(campaign_site, order, cluster)

    assert tally.verdict.breaches == []
    assert tally.kills >= order.kills
    assert tally.verdict.counts["jobs"] == order.jobs
