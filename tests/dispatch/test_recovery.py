"""What an attempt's executor fails to take over says nothing of the attempts of others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest

from jobmgr.dispatch.admission import choose
from jobmgr.dispatch.recovery import Recovery
from jobmgr.dispatch.roster import Roster
from jobmgr.dispatch.sites import Sites
from jobmgr.domain.site import Site
from jobmgr.store import claims, sites
from jobmgr.store.claims import Claim, Claimed, Room
from jobmgr.store.dispatchers import Identity
from jobmgr.store.engine import Database
from tests.store.worker import Worker, new_job


class Taker:
    """An executor that takes attempts up, or has no thread for it."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.taken: list[str] = []

    async def recover(self, launches: Sequence[str]) -> None:
        if self.fails:
            raise RuntimeError("can't start new thread")
        self.taken += launches


class Takers:
    """Both sites' executors; an attempt is launched by its token."""

    served: Sequence[str] = ("lab",)
    are_looked_at = True

    def __init__(self) -> None:
        self.takers = {"lab": Taker(fails=True), "local": Taker(fails=False)}

    def executor(self, name: str) -> Any:
        return self.takers[name]

    def launch_of(self, claimed: Claimed) -> str:
        return claimed.token


@pytest.mark.parametrize("first", ["local", "lab"])
async def test_a_site_that_cannot_be_taken_over_takes_no_attempt_of_others_along(
    database: Database, first: str
) -> None:
    me = await Worker.register(database, "me")
    await database.write(sites.put, Site("lab", dialect="shell", work_dir="/there"))
    at = {"local": ["here"], "lab": ["there"]}
    for site in (first, *(at.keys() - {first})):
        await me.insert(*(new_job(name, site=site) for name in at[site]))
        await database.write(claims.claim, Claim(me.id, site, Room.elsewhere(5), choose))
    roster, there = Roster(), Takers()
    told: list[str] = []

    def recovered(tokens: Iterable[str]) -> None:
        told.extend(tokens)

    identity = Identity(me.id, "host", "boot", "namespace", 1, 1)
    recovery = Recovery(database, identity, roster, cast(Sites, there), recovered)

    for _ in range(2):
        with pytest.raises(RuntimeError):
            await recovery.reconcile()
    held = [claimed.job_id for claimed in roster]
    taken = there.takers["local"].taken
    there.takers["lab"].fails = False
    await recovery.reconcile()

    assert held == ["here"]
    assert len(taken) == 1
    assert {claimed.job_id for claimed in roster} == {"here", "there"}
    assert sorted(told) == sorted(claimed.token for claimed in roster)
