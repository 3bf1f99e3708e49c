"""A campaign: many jobs, many kills, and the judgement. `scripts/chaos` runs it as long as one likes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jobmgr.domain import queue
from jobmgr.store.engine import Database
from tests.crash.blow import Blows
from tests.crash.judgement import Verdict, judge
from tests.crash.reader import Reader
from tests.crash.site import DOUBT, Site
from tests.crash.wishes import Wishes
from tests.crash.workload import Workload
from tests.patience import eventually
from tests.postgresql import Cluster, find_binaries, running_cluster

SLOTS = 6
_BACKLOG = 40
_BATCH_MAX = 20
_ALL_ENDED_WITHIN_S = 180.0
# Through several lives of the service, each of which may take its time to start.
_SUBMITTED_WITHIN_S = 180.0
_NOT_ENDED = (queue.Tally.PENDING, queue.Tally.QUEUED, queue.Tally.LIVE)


@dataclass(frozen=True, slots=True)
class Order:
    """How much of what: `kills` blows that kill, `jobs` jobs spread evenly over them. `keepers_alone` as in Blows."""

    seed: str
    jobs: int
    kills: int
    keepers_alone: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """How a campaign went."""

    verdict: Verdict
    blows: Counter[str]
    processes: Counter[str]
    wishes: Counter[str]
    kills: int
    duration_s: float

    def lines(self) -> Iterator[str]:
        """For people to read."""
        for title, counts in (
            (f"{self.kills} kills and other blows", self.blows),
            ("processes killed", self.processes),
            ("wishes", self.wishes),
            ("at the end", self.verdict.counts),
        ):
            yield f"{title}: " + ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
        yield f"{self.duration_s:.0f} s, {len(self.verdict.breaches)} promises broken"


class Campaign:
    """One site under blows. `cluster` is its PostgreSQL server, if that is to be stopped too."""

    def __init__(self, site: Site, order: Order, cluster: Cluster | None = None) -> None:
        self._site = site
        self._order = order
        self._random = random.Random(f"{order.seed} batches")
        self._workload = Workload(site.ledger, order.seed)
        self._blows = Blows(site, order.seed, cluster, keepers_alone=order.keepers_alone)
        self._wishes = Wishes(site, order.seed)
        self._reader = Reader(site.service)

    async def run(self) -> Tally:
        """Start, strike, let everything end, judge."""
        began = time.monotonic()
        await self._site.service.start()
        async with asyncio.TaskGroup() as group:
            others = [
                group.create_task(self._wishes.ask_forever()),
                group.create_task(self._reader.read_forever()),
            ]
            submitting = group.create_task(self._submit_all())
            await self._strike_all()
            await submitting
            for task in others:
                task.cancel()
        await self._wishes.settle()
        # Whatever has not ended then is found by the judgement.
        with contextlib.suppress(AssertionError):
            await eventually(self._has_ended, timeout_s=_ALL_ENDED_WITHIN_S)
        return Tally(
            await judge(self._site, self._reader),
            self._blows.counts,
            self._site.casualties.by_role,
            self._wishes.counts,
            self._blows.kills,
            time.monotonic() - began,
        )

    async def _strike_all(self) -> None:
        while self._blows.kills < self._order.kills:
            # The jobs keep pace, so that the last kills still hit some.
            if len(self._site.plans) * self._order.kills < self._order.jobs * self._blows.kills:
                await asyncio.sleep(0.05)
                continue
            await self._blows.strike()

    async def _submit_all(self) -> None:
        left = self._order.jobs
        while left:
            if not self._site.service.url or await self._backlog() > _BACKLOG:
                await asyncio.sleep(0.1)
                continue
            plans = [self._workload.draw() for _ in range(min(left, self._random.randint(1, _BATCH_MAX)))]
            # As a careful client does: after a lost answer the same jobs once more, under the same ids.
            await eventually(partial(self._site.submit, *plans), timeout_s=_SUBMITTED_WITHIN_S)
            left -= len(plans)

    async def _backlog(self) -> int:
        """How many jobs have not ended; many if nobody can tell now."""
        try:
            queues: Sequence[queue.Queue] = await self._site.call("queues")
        except DOUBT:
            return sys.maxsize
        return sum(one.counts[tally] for one in queues for tally in _NOT_ENDED)

    async def _has_ended(self) -> bool:
        return await self._backlog() == 0


def main() -> int:
    """Run the campaign of the command line; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Kill jobmgr's processes, then count.")
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="how often is killed (100)")
    parser.add_argument("--jobs", type=int, metavar="N", help="how many jobs (5 per round)")
    parser.add_argument("--seed", default=None, help="repeat an earlier campaign's choices (random)")
    parser.add_argument(
        "--database",
        default="sqlite",
        help="sqlite, postgresql (a server of its own), or an empty database's URL",
    )
    parser.add_argument("--keepers-alone", action="store_true", help="kill keepers only, mostly all at once")
    parser.add_argument("--stop-database", action="store_true", help="stop and start that server as well")
    asked = parser.parse_args()
    if asked.stop_database and asked.database != "postgresql":
        parser.error("--stop-database needs --database postgresql")
    seed = asked.seed or f"{random.SystemRandom().getrandbits(32):08x}"
    order = Order(seed, asked.jobs or 5 * asked.rounds, asked.rounds, asked.keepers_alone)
    folder = Path(tempfile.mkdtemp(prefix="jobmgr-chaos-"))
    _say(f"seed {seed}, {order.kills} kills, {order.jobs} jobs, in {folder}")
    with _database(asked.database, folder) as (url, cluster):
        tally = asyncio.run(
            _run(Site(folder / "site", url, slots=SLOTS), order, cluster if asked.stop_database else None)
        )
    for line in tally.lines():
        _say(line)
    if tally.verdict.breaches:
        _say("\n".join(tally.verdict.breaches[:50]))
        _say(f"seed {seed}; the files are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


async def _run(site: Site, order: Order, cluster: Cluster | None) -> Tally:
    database = Database(site.database)
    await database.start()
    await database.upgrade()
    await database.close()
    try:
        return await Campaign(site, order, cluster).run()
    finally:
        await site.close()


@contextlib.contextmanager
def _database(asked: str, folder: Path) -> Iterator[tuple[str, Cluster | None]]:
    if asked == "sqlite":
        yield f"sqlite:///{folder / 'jobs.db'}", None
    elif asked == "postgresql":
        binaries = find_binaries()
        if binaries is None:
            raise SystemExit("PostgreSQL is not installed (no initdb)")
        with running_cluster(binaries) as cluster:
            yield cluster.url("postgres"), cluster
    else:
        yield asked, None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
