"""The blows of a campaign: which of our processes are killed or stopped for a moment, and when. Seeded."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Sequence

from jobmgr.executors import process
from jobmgr.executors.process import ProcessStat
from tests.crash.holder import Role
from tests.crash.site import Site
from tests.postgresql import Cluster

_SERVICE, _KEEPER, _WARDEN = Role.SERVICE, Role.KEEPER, Role.WARDEN
_KILLS: dict[tuple[Role, ...], int] = {
    (_SERVICE,): 8,
    (_KEEPER,): 7,
    (_WARDEN,): 4,
    (_SERVICE, _KEEPER): 3,
    (_SERVICE, _WARDEN): 2,
    (_KEEPER, _WARDEN): 2,
    (_SERVICE, _KEEPER, _WARDEN): 2,
}
_KEEPERS_ALONE: dict[tuple[Role, ...], int] = {(_KEEPER,): 1}
_STOPS = (_SERVICE, _KEEPER, _WARDEN)


class Blows:
    """Strikes a site, one blow at a time; the service runs again after each.

    With `keepers_alone` only keepers are killed, more often all at once, and sometimes while their warden stands still.
    """

    def __init__(
        self, site: Site, seed: str, cluster: Cluster | None, *, keepers_alone: bool = False
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.kills = 0
        self._site = site
        self._random = random.Random(f"{seed} blows")
        self._cluster = cluster
        self._kills = _KEEPERS_ALONE if keepers_alone else _KILLS
        self._all_at_once = 0.8 if keepers_alone else 0.2

    async def strike(self) -> None:
        """One blow of a random kind, after a random pause."""
        await asyncio.sleep(self._random.uniform(0.02, 0.6))
        draw = self._random.random()
        if self._cluster is not None and draw < 0.07:
            await self._stop_database(self._cluster)
        elif draw < 0.2:
            await self._stop_for_a_moment()
        else:
            await self._kill()
        if not self._site.service.is_running:
            await asyncio.sleep(self._random.choice((0.0, 0.0, 0.3)))
            await self._start()

    async def _kill(self) -> None:
        (roles,) = self._random.choices(list(self._kills), list(self._kills.values()))
        holders = self._site.holders()
        victims = {role: self._some(holders[role]) for role in roles if role is not _SERVICE}
        # A keeper and a warden that have nothing to do with each other are two blows, not this one.
        if _KEEPER in victims and _WARDEN in victims:
            victims[_WARDEN] = holders[_WARDEN]
        if not all(victims.values()):
            return
        self.kills += 1
        self.counts["killed " + " and ".join(roles)] += 1
        order = list(roles)
        self._random.shuffle(order)
        for role in order:
            if role is _SERVICE:
                self._site.kill_service()
            else:
                self._site.kill(role, victims[role])

    def _some(self, stats: Sequence[ProcessStat]) -> Sequence[ProcessStat]:
        """One of them, or all."""
        if not stats or self._random.random() < self._all_at_once:
            return stats
        return [self._random.choice(stats)]

    async def _start(self) -> None:
        """Start the service, which sometimes is killed once more on its way."""
        self._site.service.spawn()
        if self._random.random() < 0.2:
            await asyncio.sleep(self._random.uniform(0.0, 1.5))
            self._site.kill_service()
            self.kills += 1
            self.counts["killed service while it started"] += 1
            self._site.service.spawn()
        await self._site.service.answers()

    async def _stop_for_a_moment(self) -> None:
        role = self._random.choice(_STOPS)
        found = [self._site.service.stat] if role is _SERVICE else self._some(self._site.holders()[role])
        if not found:
            return
        self.counts[f"stopped {role} for a moment"] += 1
        process.send_signals(found, signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(0.05, 1.2))
        process.send_signals(found, signal.SIGCONT)

    async def _stop_database(self, cluster: Cluster) -> None:
        is_immediate = self._random.random() < 0.7
        self.counts["stopped the database" + (" as in a crash" if is_immediate else "")] += 1
        await asyncio.to_thread(cluster.stop, is_immediate=is_immediate)
        if self._random.random() < 0.3:
            self._site.kill_service()
            self.counts["killed service without a database"] += 1
            self.kills += 1
        await asyncio.sleep(self._random.uniform(0.1, 3.0))
        await asyncio.to_thread(cluster.start)
