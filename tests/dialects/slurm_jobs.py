"""Jobs of a real SLURM that meet everything that can happen to one, for tests and for recordings."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobmgr.dialects.dialect import Doubtful, Listing, Order, Standing, Submission, Submitted
from jobmgr.dialects.slurm import Slurm as Dialect
from jobmgr.domain.resources import Resources
from tests.slurm import Slurm

DIALECT = Dialect()
SLEEP = "sleep 600\n"
_NUMBERS = itertools.count(1)


def order(slurm: Slurm, body: str = "true\n", **fields: object) -> Order:
    """A submission with a name of its own, in a directory of the cluster."""
    name = f"jm-{secrets.token_hex(8)}"
    values = {"name": name, "body": body, "stdout": f"{slurm.directory}/{name}.out",
              "stderr": f"{slurm.directory}/{name}.err", "cwd": str(slurm.directory)}  # fmt: skip
    return Order(**{**values, **fields})  # type: ignore[arg-type]


def write(slurm: Slurm, wanted: Order, *, may_requeue: bool = False, at_once: int | None = None) -> Path:
    """The script, in a file. With `may_requeue` SLURM may do what the dialect tells it not to.

    Of an array only `at_once` elements run together, so that others wait.
    """
    script = DIALECT.script(wanted)
    if may_requeue:
        script = script.replace("#SBATCH --no-requeue\n", "#SBATCH --requeue\n")
    if at_once is not None:
        script = re.sub("(?m)^#SBATCH --array=.*", rf"\g<0>%{at_once}", script)
    path = slurm.directory / f"script-{next(_NUMBERS)}.sh"
    path.write_text(script)
    return path


def submit(
    slurm: Slurm, wanted: Order, *, may_requeue: bool = False, at_once: int | None = None
) -> Submission:
    """Hand it in and understand the answer."""
    path = write(slurm, wanted, may_requeue=may_requeue, at_once=at_once)
    return DIALECT.submitted(slurm.answer(DIALECT.submit(str(path), wanted)))


def accepted(slurm: Slurm, wanted: Order, *, may_requeue: bool = False, at_once: int | None = None) -> str:
    """The id of a job that SLURM has to take."""
    submission = submit(slurm, wanted, may_requeue=may_requeue, at_once=at_once)
    assert isinstance(submission, Submitted), submission
    return submission.id


def look(slurm: Slurm, ids: Sequence[str]) -> Listing:
    """What SLURM says about jobs, and about others of the same user."""
    return DIALECT.seen([slurm.answer(command) for command in DIALECT.look(ids)])


def find(slurm: Slurm, *names: str) -> Listing:
    """What SLURM has under these names."""
    return DIALECT.found(names, [slurm.answer(command) for command in DIALECT.find(names)])


def runs(slurm: Slurm, id_: str) -> list[Standing]:
    """What is said about one job or element, oldest run first."""
    return [job for job in look(slurm, [id_]).jobs if job.id == id_]


@dataclass(frozen=True, slots=True)
class Zoo:
    """Ids of jobs, submitted all at once; those that end by a limit need a minute for it."""

    timeout: str
    deadline: str
    completed: str
    failed: str
    killed: str
    cancelled: str
    cancelled_waiting: str
    held: str
    later: str
    no_output: str
    array: str
    unfit: str


def fill_zoo(slurm: Slurm) -> Zoo:
    """Submit them; `unfit` is the name of a submission that is refused, and leaves a job all the same."""
    late = {"resources": Resources(walltime_s=60)}
    deadline = ("--deadline=now+1minute", "--begin=now+50")
    unfit = order(slurm, resources=Resources(memory_bytes=2**40))
    zoo = Zoo(
        timeout=accepted(slurm, order(slurm, SLEEP, **late)),
        deadline=accepted(slurm, order(slurm, SLEEP, directives=deadline, **late)),
        completed=accepted(slurm, order(slurm, "true\n")),
        failed=accepted(slurm, order(slurm, "exit 7\n")),
        killed=accepted(slurm, order(slurm, "kill -9 $$\n")),
        cancelled=accepted(slurm, order(slurm, SLEEP, resources=Resources(partition="debug"))),
        cancelled_waiting=accepted(slurm, order(slurm, is_held=True)),
        held=accepted(slurm, order(slurm, is_held=True)),
        later=accepted(slurm, order(slurm, directives=("--begin=now+1hour",))),
        no_output=accepted(slurm, order(slurm, stdout=f"{slurm.directory}/nowhere/out")),
        array=accepted(slurm, order(slurm, SLEEP, elements=6), at_once=1),
        unfit=unfit.name,
    )
    assert not isinstance(submit(slurm, unfit), Submitted | Doubtful)
    return zoo
