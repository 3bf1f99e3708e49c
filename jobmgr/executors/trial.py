"""A trial of a site: the way there, its scheduler, its work directory."""

from __future__ import annotations

from collections.abc import Sequence

from jobmgr.dialects.answers import plain
from jobmgr.dialects.dialect import Command, NotUnderstood
from jobmgr.domain.site import Step
from jobmgr.errors import SiteUnreachable
from jobmgr.executors.cluster import Cluster
from jobmgr.executors.parcel import longest
from jobmgr.executors.place import Place
from jobmgr.executors.scheduler import Scheduler
from jobmgr.transports.transport import Transport

_ANSWER_S = 20.0


class Trial:
    """Whatever attempts need at a site, step by step."""

    def __init__(self, scheduler: Scheduler, transport: Transport, place: Place, cluster: Cluster) -> None:
        self._scheduler = scheduler
        self._transport = transport
        self._place = place
        self._cluster = cluster

    async def run(self) -> Sequence[Step]:
        """Try it, until something is wrong."""
        steps: list[Step] = []
        for name, attempt in (
            ("connection", self._try_connection),
            ("scheduler", self._cluster.version),
            ("installation", self._try_installation),
            ("work directory", self._try_directory),
            ("partitions", self._try_partitions),
        ):
            try:
                steps.append(Step(name, is_well=True, said=await attempt()))
            except (SiteUnreachable, NotUnderstood) as error:
                steps.append(Step(name, is_well=False, said=plain(str(error))))
                break
        return steps

    async def _try_connection(self) -> str:
        answer = await self._transport.run(Command(("uname", "-n")), _ANSWER_S)
        if answer.exit_code != 0:
            raise NotUnderstood(plain(answer.stderr) or f"`uname -n` ended with {answer.exit_code}")
        return f"commands run on {answer.stdout.strip()}"

    async def _try_installation(self) -> str:
        dialect = await self._scheduler.fit()
        size = longest(dialect.array_cap)
        arrays = f"arrays up to {size}" if size > 1 else "no arrays"
        return ", ".join(filter(None, (dialect.installation(), arrays)))

    async def _try_directory(self) -> str:
        work_id = await self._place.make_roots()
        return f"{self._place.root}, whose name is {work_id}"

    async def _try_partitions(self) -> str:
        found = await self._cluster.partitions()
        return ", ".join(f"{one.name}{'' if one.is_up else ' (down)'}" for one in found) or "none"
