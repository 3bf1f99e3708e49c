"""A service with one site, whose scheduler is pretended and can be reached as long as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from jobmgr.dialects import registry
from jobmgr.dialects.dialect import Answer, Command
from jobmgr.dispatch.admission import Admission
from jobmgr.dispatch.dispatcher import Dispatcher
from jobmgr.dispatch.sites import Serving
from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.site import Site
from jobmgr.domain.status import Status
from jobmgr.errors import SiteUnreachable
from jobmgr.executors import process
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.local import LocalExecutor
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Report
from jobmgr.hfss.program import Programs
from jobmgr.manager.core import Parts
from jobmgr.manager.feed import Feed
from jobmgr.manager.identity import Identity as Callers
from jobmgr.manager.manager import Manager
from jobmgr.monitor import ResourceMonitor, machine
from jobmgr.store import sites
from jobmgr.store.dispatchers import Identity
from jobmgr.store.engine import Database
from jobmgr.transports.local import LocalTransport
from jobmgr.transports.local_directory import LocalDirectory
from tests import pretenders
from tests.dialects.shell import install
from tests.patience import eventually

PACE = Pace(
    files_s=0.1,
    ask_first_s=0.2,
    ask_max_s=0.4,
    gather_s=0.05,
    again_first_s=0.1,
    again_max_s=0.3,
    in_doubt_s=0.9,
    record_comes_s=1.0,
)
_AWAY = "echo 'Connection refused' >&2; exit 162"


class Way(LocalTransport):
    """The way to the site."""

    is_open = True

    async def run(self, command: Command, timeout_s: float) -> Answer:
        """As any transport does."""
        if not self.is_open:
            raise SiteUnreachable("the login node", "no route to it")
        return await super().run(command, timeout_s)


class Yard:
    """The site `lab`, and who serves it."""

    def __init__(self, folder: Path) -> None:
        self.manager = Manager()
        self.executor: BatchExecutor
        self._work = folder / "there"
        self._scheduler = folder / "scheduler"
        self._front = folder / "front"
        self._front.mkdir()
        self._ledger = folder / "ledger"
        self._ledger.mkdir()
        for name in ("control", "runs"):
            (self._work / name).mkdir(parents=True)
        self._programs = pretenders.install(self._scheduler, "openpbs", "history")
        path = f"{self._front}:{self._programs}:{os.environ['PATH']}"
        self.way = Way({**os.environ, "PATH": path})

    def report(self, report: Report) -> None:
        """The way to the dispatcher, which is made after the executors."""
        self.manager.dispatcher.report(report)

    def make(self, site: Site) -> Serving:
        """Make what serves the site."""
        dialect = registry.dialect("pbs")
        self.executor = BatchExecutor(site.name, dialect, self.way, str(self._work), self.report, pace=PACE)
        return Serving(self.executor, LocalDirectory)

    async def submit(self, number: int, queue: str) -> str:
        """A job that is like no other, notes each of its attempts, and ends with 3 once it may."""
        script = f"echo $JOBMGR_ATTEMPT >>{self._ledger}/$JOBMGR_JOB_ID; {self._until_told}; exit 3"
        return await self.manager.submit(
            ["sh", "-c", script], site="lab", priority=number, resources={"partition": queue}
        )

    @property
    def _until_told(self) -> str:
        return f"while [ ! -e {self._ledger}/go ]; do sleep 0.05; done"

    def go(self) -> None:
        """Let all that runs end."""
        (self._ledger / "go").touch()

    def ran(self, job_id: str) -> list[int]:
        """Which attempts of a job ran, each as often as it did."""
        ledger = self._ledger / job_id
        return sorted(map(int, ledger.read_text().split())) if ledger.exists() else []

    def loses_answers(self) -> None:
        """The scheduler takes jobs, nobody hears of it, and it does not answer when it is asked for their names."""
        self._stands_before("qsub", f'{self._programs}/qsub "$@" >/dev/null; kill -9 $$')
        self._stands_before("qselect", _AWAY)

    def finds_late(self) -> None:
        """It can be asked for names once, and then only when it may."""
        self.loses_nothing()
        waits = f"while [ ! -e {self._scheduler}/may-find ]; do sleep 0.05; done"
        first = f"mkdir {self._scheduler}/found 2>/dev/null || {waits}"
        self._stands_before("qselect", f'{first}; exec {self._programs}/qselect "$@"')

    def may_find(self) -> None:
        """It is found."""
        (self._scheduler / "may-find").touch()

    def loses_nothing(self) -> None:
        """Its programs answer."""
        for path in self._front.iterdir():
            path.unlink()

    def _stands_before(self, program: str, script: str) -> None:
        version = f'[ "$1" = --version ] && exec {self._programs}/{program} "$@"'
        install(self._front, program, f"{version}\n{script}")

    def is_sound(self) -> None:
        """The site can be reached, and its scheduler answers."""
        self.way.is_open = True
        self.loses_nothing()

    def falls_silent(self) -> None:
        """The scheduler answers nobody; what runs runs on."""
        (self._scheduler / "down").touch()

    def speaks(self) -> None:
        """It answers again."""
        (self._scheduler / "down").unlink()

    @property
    def held(self) -> Sequence[bool]:
        """Of each job that the scheduler was handed in, whether it is held there."""
        return [job["is_held"] for job in json.loads((self._scheduler / "jobs").read_text())]

    def control(self, job_id: str) -> Path:
        """The control directory of a job's first attempt."""
        return self._work / "control" / job_id / "1"

    @property
    def handles(self) -> Sequence[str]:
        """What the scheduler was handed in and has not ended."""
        path = self._scheduler / "jobs"
        jobs = json.loads(path.read_text()) if path.exists() else []
        return [f"{job['number']}.pbsvm" for job in jobs if job["state"] != "ended"]

    async def say(self, program: str, *arguments: str) -> None:
        """Be a user of the scheduler."""
        quiet = asyncio.subprocess.DEVNULL
        asking = await asyncio.create_subprocess_exec(
            self._programs / program, *arguments, stdout=quiet, stderr=quiet
        )
        await asking.wait()

    async def is_now(self, job_id: str, status: Status) -> bool:
        """Whether a job has this status."""
        return (await self.manager.get(job_id)).status is status

    async def why(self, job_id: str) -> set[str]:
        """The codes of why a job is where it is."""
        return {reason.code for reason in await self.manager.why(job_id)}

    def tidy(self) -> None:
        """End the processes beside running jobs, and those themselves."""
        self.go()
        mark = os.fsencode(self._scheduler)
        for stat in process.living_processes():
            with contextlib.suppress(ProcessLookupError):
                if mark in process.arguments_of(stat.pid):
                    os.kill(stat.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def opened(folder: Path, database_url: str, *, max_submitted: int = 100) -> AsyncIterator[Yard]:
    """A yard with a service that serves its site."""
    yard = Yard(folder)
    work = folder / "here"
    work.mkdir()
    database = Database(database_url)
    await database.start()
    here = LocalExecutor(work, yard.report, base_env={})
    await here.start()
    identity = Identity("me", "host", "boot", "namespace", 1, 1)
    monitor = ResourceMonitor(work)
    dispatcher = Dispatcher(
        database,
        identity,
        Admission(machine(), ResourceLimits()),
        monitor,
        1.0,
        here,
        yard.make,
    )
    feed = Feed(database)
    database.on_commit(feed.notice)
    local = LocalTransport({})
    yard.manager.parts = Parts(
        database,
        dispatcher,
        feed,
        Callers(database, "somebody"),
        work / "runs",
        service="host",
        limits_name="host",
        user="somebody",
        here=local,
        way_to=lambda _: local,
        monitor=monitor,
        programs=Programs(),
    )
    await database.write(
        sites.put, Site("lab", dialect="pbs", work_dir="/there", max_submitted=max_submitted)
    )
    await dispatcher.start()
    following = asyncio.create_task(feed.run())
    try:
        # Before that it gets no claims.
        await eventually(lambda: not dispatcher.trouble("lab"))
        yield yard
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await dispatcher.stop()
        await here.stop()
        await yard.manager.parts.here.close()
        await database.close()
        yard.tidy()
