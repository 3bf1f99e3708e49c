"""One installation under fire: its service, work directory, database and ledger, and what was done to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jobmgr.client import Client
from jobmgr.domain.job import Job, JobPage
from jobmgr.errors import AnswerLost, IllegalTransition, JobExists, ServiceUnreachable, StoreUnavailable
from jobmgr.executors import process
from jobmgr.executors.process import ProcessStat
from tests import remnant
from tests.crash.holder import Casualties, Role, control_file, holders, holding
from tests.crash.ledger import Ledger, Plan
from tests.crash.service import Service
from tests.patience import eventually

T = TypeVar("T")
# The answer did not come, so nobody knows whether the change was made.
DOUBT = (AnswerLost, ServiceUnreachable, StoreUnavailable)


class Site:
    """All that one campaign needs. `faults` switches the fault points on."""

    def __init__(self, folder: Path, database: str, *, slots: int = 4, faults: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.database = database
        self.work = folder / "work"
        self.faults = folder / "faults"
        self.faults.mkdir()
        self.service = Service(folder, database, slots=slots, faults=self.faults if faults else None)
        self.ledger = Ledger(folder)
        self.plans: dict[str, Plan] = {}
        self.casualties = Casualties()
        self._numbers = itertools.count(1)

    def next_id(self, what: str) -> str:
        """A job id that no job of this site has."""
        return f"{what}-{next(self._numbers)}"

    async def call(self, verb: str, *arguments: Any, **fields: Any) -> Any:
        """One verb of the client. Raises what it raises."""
        if not self.service.url:
            raise ServiceUnreachable("its URL", "it was killed")
        # What is repeated is repeated by the test, which knows what was killed meanwhile.
        async with Client(self.service.url, timeout_s=30.0, patience_s=0.0) as client:
            return await getattr(client, verb)(*arguments, **fields)

    def in_background(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Do something whose answer may not come before the service is killed; the caller awaits it."""
        return asyncio.get_running_loop().create_task(work)

    async def stored(self) -> set[str]:
        """The ids of all jobs there are; the service runs."""
        async with Client(self.service.url) as client:
            return {job.job_id async for job in client.list()}

    async def submit(self, *plans: Plan) -> bool:
        """Store these jobs, all or none; False: the answer was lost. Known ids are no error: that is a second try."""
        for plan in plans:
            self.plans[plan.job_id] = plan
        try:
            await self.call("submit_many", [plan.submission() for plan in plans])
        except JobExists:
            pass
        except DOUBT:
            return False
        for plan in plans:
            plan.is_answered = True
        return True

    async def cancel(self, plan: Plan) -> bool:
        """Ask for the job's end; False: the answer was lost."""
        plan.cancel_asked = True
        return await self._try("cancel", plan)

    async def retry(self, plan: Plan) -> bool:
        """Ask for another run of an ended job; False: the answer was lost, or it has not ended."""
        plan.retries_asked += 1
        try:
            await self.call("retry", plan.job_id)
        except IllegalTransition:
            plan.retries_asked -= 1
            return False
        except DOUBT:
            return False
        return True

    async def pause(self, plan: Plan) -> bool:
        """Ask for a pause; False: the answer was lost, or the job does not run."""
        return await self._try("pause", plan)

    async def resume(self, plan: Plan) -> bool:
        """Take a pause back; False: the answer was lost."""
        return await self._try("resume", plan)

    async def _try(self, verb: str, plan: Plan) -> bool:
        try:
            await self.call(verb, plan.job_id)
        except (IllegalTransition, *DOUBT):
            return False
        return True

    async def until(self, plan: Plan, *statuses: str) -> Job:
        """The job once it is in one of these statuses."""

        async def look() -> Job | None:
            job: Job = await self.call("get", plan.job_id)
            return job if job.status in statuses else None

        found = await eventually(look)
        assert isinstance(found, Job)
        return found

    async def signed(self, plan: Plan) -> None:
        """Wait until the job's command has signed the ledger."""
        await eventually(lambda: any(line.job_id == plan.job_id for line in self.ledger.lines()))

    async def any_running(self) -> Plan | None:
        """A job that runs; None if there is none, or nobody tells."""
        with contextlib.suppress(*DOUBT):
            page: JobPage = await self.call("list_page", status=["running"], limit=1)
            return self.plans[page.jobs[0].job_id] if page.jobs else None
        return None

    async def keeper_of(self, plan: Plan) -> ProcessStat:
        """The living process that passed the gate of the job's last attempt."""
        job: Job = await self.call("get", plan.job_id)
        held = holding(control_file(self.work, plan.job_id, job.attempt, "gate"))
        assert held is not None
        stat = process.read_stat(held.keeper[0])
        assert stat is not None
        return stat

    # Processes

    def holders(self) -> dict[Role, list[ProcessStat]]:
        """The living keepers and wardens."""
        return holders(self.work)

    def kill(self, role: Role, stats: Sequence[ProcessStat]) -> None:
        """Kill processes of ours, and note that it was us."""
        self.casualties.kill(role, stats)

    def kill_service(self) -> None:
        """Kill the service, and take it out of the process table."""
        if self.service.is_running:
            self.kill(Role.SERVICE, [self.service.stat])
            self.service.wait()
            self.service.url = ""

    def arm(self, step: str) -> None:
        """Let the next process that reaches the step stop there."""
        (self.faults / step).touch()

    def disarm(self) -> None:
        """Forget all steps that nobody reached."""
        for path in self.faults.iterdir():
            path.unlink()

    async def reached(self, step: str) -> ProcessStat:
        """The process that stands still at the step, once one does."""

        def look() -> ProcessStat | None:
            for path in self.faults.glob(f"{step}.*"):
                stat = process.read_stat(int(path.suffix[1:]))
                if stat is not None and stat.is_stopped:
                    path.unlink()
                    return stat
            return None

        found = await eventually(look, timeout_s=20.0)
        assert isinstance(found, ProcessStat)
        return found

    def let_go_on(self, stat: ProcessStat) -> None:
        """Continue a stopped process, if it still is there."""
        process.send_signals([stat], signal.SIGCONT)

    def are_dying(self) -> bool:
        """Whether a process that was killed has not ended yet."""
        return any(process.is_alive(*who) for who in self.casualties.killed)

    async def close(self) -> None:
        """Stop the service and wait for its holders, so that nothing is left; kills what does not go."""
        if self.service.is_running:
            process.send_signals([self.service.stat], signal.SIGCONT)
            self.service.stop()
        with contextlib.suppress(AssertionError):
            await eventually(lambda: not remnant.keepers(self.work), timeout_s=10.0)
        self.destroy()

    def destroy(self) -> None:
        """End all processes of this site at once."""
        if self.service.is_running:
            process.send_signals([self.service.stat], signal.SIGKILL)
            self.service.wait()
        left = [stat for pid in remnant.keepers(self.work) if (stat := process.read_stat(pid))]
        process.send_signals([*left, *remnant.commands(self.work)], signal.SIGKILL)

    def role_of(self, stat: ProcessStat) -> Role:
        """Which of this site's processes it is."""
        if stat.pid == self.service.pid:
            return Role.SERVICE
        found = [role for role, stats in self.holders().items() if stat.pid in [one.pid for one in stats]]
        assert found, f"process {stat.pid} is none of ours"
        return found[0]
