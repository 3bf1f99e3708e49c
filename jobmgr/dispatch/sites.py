"""The executors of this service, by site: `local`, and one for each foreign queue that is stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobmgr.domain.site import LOCAL, Site
from jobmgr.errors import InvalidRequest
from jobmgr.executors.protocol import Executor, ForeignExecutor, Launch
from jobmgr.store.claims import Claimed
from jobmgr.transports.directory import RunDirectory

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves a foreign queue: what runs attempts there, and the way to their run directories by path."""

    executor: ForeignExecutor
    directory: Callable[[str], RunDirectory]


# Makes what serves a foreign queue. Raises InvalidRequest for a site that this version cannot serve.
Maker = Callable[[Site], Serving]


class Sites:
    """A cache of the stored sites, each with its executor."""

    def __init__(self, local: Executor, make: Maker) -> None:
        self._make = make
        self._rows: Mapping[str, Site] = {}
        self._local = local
        self._refused: dict[str, str] = {}
        self._foreign: dict[str, Serving] = {}
        self._looked_at: set[str] = set()

    def executor(self, name: str) -> Executor | None:
        """What runs attempts there; None if this service does not serve that site."""
        return self._local if name == LOCAL else self.foreign(name)

    def foreign(self, name: str) -> ForeignExecutor | None:
        """What runs attempts in this foreign queue; None if there is none that this service serves."""
        serving = self._foreign.get(name)
        return None if serving is None else serving.executor

    def run_directory(self, name: str, path: str) -> RunDirectory | None:
        """A run directory at a foreign queue; None if there is none that this service serves."""
        serving = self._foreign.get(name)
        return None if serving is None else serving.directory(path)

    @property
    def served(self) -> Sequence[str]:
        """The foreign queues that this service can watch: it knows that their work directories are the right ones."""
        return [name for name, serving in self._foreign.items() if not serving.executor.trouble]

    @property
    def unrecognised(self) -> Mapping[str, ForeignExecutor]:
        """The foreign queues whose work directories are not known to be the right ones."""
        found = ((name, serving.executor) for name, serving in self._foreign.items())
        return {name: executor for name, executor in found if executor.trouble}

    def note_look(self, name: str) -> bool:
        """The work directory of this site was looked at; whether for the first time."""
        is_first = name not in self._looked_at
        self._looked_at.add(name)
        return is_first

    @property
    def are_looked_at(self) -> bool:
        """Whether each was looked at: who is not served now is not served in a moment either."""
        return self._foreign.keys() <= self._looked_at

    def row(self, name: str) -> Site | None:
        """The stored site; None if there is none of this name."""
        return self._rows.get(name)

    @property
    def open(self) -> Sequence[Site]:
        """The foreign queues that get jobs now."""
        return [row for name in self.served if (row := self._rows[name]).is_enabled]

    def launch_of(self, claimed: Claimed) -> Launch:
        """What an executor needs of a claimed attempt: at a foreign queue with what its site asks for by default."""
        row = self._rows.get(claimed.site)
        resources = claimed.resources if row is None else claimed.resources.over(row.defaults)
        return Launch(
            job_id=claimed.job_id,
            number=claimed.number,
            token=claimed.token,
            command=claimed.command,
            env=claimed.env,
            cwd=claimed.cwd,
            walltime_s=claimed.walltime_s,
            origin=claimed.origin,
            gpus=claimed.gpus,
            resources=resources,
            handle=claimed.handle,
            priority=claimed.priority,
            heeds_memory=claimed.heeds_memory,
        )

    async def refresh(self, rows: Iterable[Site]) -> Sequence[str]:
        """Serve these sites; answers those whose executors are new, which know of no attempt yet."""
        wanted = {row.name: row for row in rows if not row.is_local}
        for name in list(self._foreign):
            old = self._rows[name]
            if name not in wanted or _connection_of(old) != _connection_of(wanted[name]):
                self._looked_at.discard(name)
                await self._foreign.pop(name).executor.stop()
        self._rows = wanted
        return [name for name in wanted if name not in self._foreign and await self._open(wanted[name])]

    def trouble(self, name: str) -> str:
        """Why this service does not serve a foreign queue, in a sentence; empty if it does."""
        serving = self._foreign.get(name)
        if serving is not None and not serving.executor.trouble:
            return ""
        reason = self._refused.get(name) if serving is None else serving.executor.trouble
        return f"this service does not serve the site {name}{'' if reason is None else f': {reason}'}"

    async def stop(self) -> None:
        """Stop all executors."""
        for executor in (self._local, *(serving.executor for serving in self._foreign.values())):
            await executor.stop()

    async def _open(self, site: Site) -> bool:
        try:
            serving = self._make(site)
        except InvalidRequest as error:
            logger.warning("the site %s is not served: %s", site.name, error)
            self._refused[site.name] = str(error)
            return False
        self._refused.pop(site.name, None)
        await serving.executor.start()
        self._foreign[site.name] = serving
        return True


def _connection_of(site: Site) -> tuple[object, ...]:
    return site.dialect, site.way, site.host, site.work_dir, dict(site.ssh)
