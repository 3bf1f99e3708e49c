"""How far simulations are, by the logs of their own runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from jobmgr.domain.job import Job
from jobmgr.domain.site import LOCAL
from jobmgr.errors import FileMissing
from jobmgr.hfss.log import LogReader
from jobmgr.manager.reading import JobKey, Reading
from jobmgr.manager.simulations import Simulation, Simulations
from jobmgr.store import listing
from jobmgr.transports.directory import RunDirectory, Written

# ansysedt opens an .aedt as the .aedb beside it; what follows is a time.
_FOLDER = re.compile(r"\.aed[bt]\.batchinfo.*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Progress:
    """What the log of a run says: all that is known, as `LogReader.state` has it, and in one line for people."""

    state: Mapping[str, Any]
    line: str
    log: str


class Progresses(Simulations):
    """Simulations while they run."""

    async def progress(self, job_id: str) -> Progress | None:
        """What the log of a simulation's last run says; None if there is none yet, or nothing in it.

        Its log is the newest in the project's `STEM.aedb.batchinfo…` that was written to since its gate was passed and
        whose command line has its id; if ansysedt was told of no id, one that was not written to after its end. Without
        any its standard output is read. Raises JobNotFound, NotASimulation, and of one that ran elsewhere
        ExecutorUnavailable, SiteUnreachable, SiteSilent, SiteRefused.
        """
        simulation = await self.simulation(job_id)
        job = simulation.job
        if job.started_at is None:
            return None
        # What its callers read waits for their own turn; in a look that others share it would be all of them that wait.
        try:
            directory = await self._run_directory(job_id, None)
        except FileMissing:
            return None
        # Where it was when it was submitted.
        folder = (await self._read(listing.spec, job_id, self.sight)).cwd or "/"
        look = partial(self._look, simulation, directory, folder)
        return await (look() if job.site == LOCAL else self.parts.readings.lately(_key(job), job.v, look))

    async def _look(self, simulation: Simulation, directory: RunDirectory, folder: str) -> Progress | None:
        try:
            path, reader = await self._project_log(simulation, directory, folder) or await self._stdout(
                simulation.job, directory
            )
        except FileMissing:
            return None
        state = reader.state()
        if not (reader.progress() or reader.project.name):
            return None
        return Progress(state, reader.progress(), path)

    async def _project_log(
        self, simulation: Simulation, directory: RunDirectory, folder: str
    ) -> tuple[str, LogReader] | None:
        job, config = simulation.job, simulation.config
        stem = PurePosixPath(config.project_path.replace("\\", "/")).stem
        for file in await directory.written(folder, f"{stem}.aed", ".log"):
            if _FOLDER.fullmatch(PurePosixPath(file.folder).name.removeprefix(stem)) is None:
                continue
            path = f"{file.folder}/{file.name}"
            reading = self.parts.readings.of(_key(job), job.attempt, path)
            try:
                async with aclosing(await directory.open_written(file)) as opened:
                    # That of another job is not read to its end.
                    await reading.read_on(opened, windows=1)
                    if _is_of(reading, file, config.jobid):
                        await reading.read_on(opened)
                        return path, reading.reader
            except FileMissing:
                continue
        return None

    async def _stdout(self, job: Job, directory: RunDirectory) -> tuple[str, LogReader]:
        reading = self.parts.readings.of(_key(job), job.attempt, "stdout")
        async with aclosing(await directory.open("stdout")) as opened:
            await reading.read_on(opened)
        return "stdout", reading.reader


def _key(job: Job) -> JobKey:
    return job.job_id, job.created_at


def _is_of(reading: Reading, file: Written, job_id: str) -> bool:
    return reading.job == job_id or (reading.job is None and not file.is_later)
