"""Programs that answer as PBS and LSF: as was recorded; and what dialects say of arrays, from submission to end."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.dialects import registry
from jobmgr.dialects.dialect import Dialect, Listing, Order, Phase, Standing, Submitted, Wish
from jobmgr.domain.resources import Resources
from jobmgr.transports.local import LocalTransport
from tests import pretenders
from tests.dialects import recording
from tests.patience import eventually

# What was recorded, and what to say for the same answer. What is asked about a job that is there, or about one that
# has ended, finds one (number 1); daemons are away where the name says so.
RECORDED = [
    ("pbs", "openpbs history", "qsub_version", "qsub --version"),
    ("pbs", "openpbs history", "qdel_unknown", "qdel 99999.pbsvm"),
    ("pbs", "openpbs history", "qsig_queued", "qsig -s suspend 1.pbsvm"),
    ("pbs", "openpbs history", "hist_qstat_unknown", "qstat -f 99999.pbsvm"),
    ("pbs", "openpbs history", "qselect_x_N_unknown", "qselect -x -N nosuchname"),
    ("pbs", "openpbs none", "nohist_qselect_x_N", "qselect -x -N findme"),
    ("pbs", "openpbs none", "nohist_qstat_x", "qstat -x -f 0.pbsvm"),
    ("pbs", "openpbs history", "qdel_queued", "qdel 1.pbsvm"),
    ("pbs", "openpbs history", "down_qdel", "qdel 90.pbsvm"),
    ("pbs", "openpbs history", "down_qselect", "qselect -x -N restart_run"),
    ("pbs", "openpbs history", "down_qstat", "qstat -f"),
    ("pbs", "openpbs history", "down_qsub_f", "qsub -f script"),
    ("lsf", "lsf classic", "bjobs_V", "bjobs -V"),
    ("lsf", "lsf classic", "bjobs_unknown", "bjobs -w -a 999"),
    ("lsf", "lsf classic", "bjobs_J_unknown", "bjobs -w -a -J nosuchname"),
    ("lsf", "lsf classic", "bhist_JOBNAME", "bhist -a -w -n 0 -J ambig1"),
    ("lsf", "lsf classic", "bkill_unknown", "bkill 999"),
    ("lsf", "lsf ibm", "bjobs_o_json_unknown", "bjobs -o 'jobid stat' -json -a 999"),
    ("lsf", "lsf classic", "bjobs_ntries1_down", "bjobs -w -a 1"),
    ("lsf", "lsf classic", "bsub_ntries1_down", "bsub"),
    ("lsf", "lsf classic", "bkill_ntries1_down", "bkill 1"),
]


@pytest.mark.parametrize(
    ("system", "kind", "name", "line"), RECORDED, ids=[f"{each[1]}: {each[3]}" for each in RECORDED]
)
def test_programs_answer_as_was_recorded(
    system: str, kind: str, name: str, line: str, tmp_path: Path
) -> None:
    directory = tmp_path / "scheduler"
    programs = pretenders.install(directory, *kind.split())
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n#PBS -N jm\n#PBS -q stopq\n#PBS -o /dev/null\n#PBS -e /dev/null\n")
    if system == "pbs":
        subprocess.run([programs / "qsub", "-f", script], check=True, capture_output=True)
    if "down" in name:
        (directory / "down").touch()

    program, *arguments = shlex.split(line)
    done = subprocess.run(
        [programs / program, *arguments],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LSB_NTRIES": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    recorded = recording.answer(system, name)
    assert (done.returncode, said(done.stdout), said(done.stderr)) == (
        recorded.exit_code,
        said(recorded.stdout),
        said(recorded.stderr),
    )


def said(text: str) -> str:
    """Without the number of a job of PBS, and without the empty lines around it that a recording may have."""
    return re.sub(r"\b\d+\.pbsvm", "N.pbsvm", text.strip("\n"))


@dataclass
class Site:
    """A scheduler, spoken to in its dialect; `closed` is a queue that starts nothing."""

    folder: Path
    dialect: Dialect
    transport: LocalTransport
    closed: str

    def order(self, body: str, **fields: object) -> Order:
        values: dict[str, object] = {
            "name": "jm-0123",
            "body": body,
            "stdout": f"{self.folder}/out",
            "stderr": f"{self.folder}/err",
            "cwd": str(self.folder),
            **fields,
        }
        return Order(**values)  # type: ignore[arg-type]

    async def submit(self, order: Order) -> str:
        script = self.folder / "script"
        script.write_text(self.dialect.script(order))
        answer = await self.transport.run(self.dialect.submit(str(script), order), 30.0)
        submission = self.dialect.submitted(answer)
        assert isinstance(submission, Submitted), answer
        return submission.id

    async def seen(self, id_: str) -> Mapping[int | None, Standing]:
        """What is said of the elements, by index."""
        answers = [await self.transport.run(command, 30.0) for command in self.dialect.look([id_])]
        listing = self.dialect.seen(answers)
        assert listing.complete, listing.why
        return {one.index: one for one in listing.jobs if one.index is not None}

    async def found(self) -> Listing:
        answers = [await self.transport.run(command, 30.0) for command in self.dialect.find(["jm-0123"])]
        return self.dialect.found(["jm-0123"], answers)

    async def ask(self, wish: Wish, id_: str) -> None:
        command = self.dialect.ask(wish, [id_])
        assert command is not None
        answer = await self.transport.run(command, 30.0)
        assert answer.exit_code == 0, answer

    async def ended(self, id_: str) -> Mapping[int | None, Standing]:
        """What is said of the elements once all have ended."""

        async def all_ended() -> Mapping[int | None, Standing] | None:
            seen = await self.seen(id_)
            return seen if all(one.phase is Phase.ENDED for one in seen.values()) else None

        found: Mapping[int | None, Standing] = await eventually(all_ended)
        return found


@pytest_asyncio.fixture(params=[("openpbs", "history", "pbs", "stopq"), ("lsf", "ibm", "lsf", "onejob")])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    scheduler, kind, dialect, closed = request.param
    programs = pretenders.install(tmp_path / "scheduler", scheduler, kind)
    transport = LocalTransport({**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
    spoken = registry.dialect(dialect)
    fitted = spoken.fitted([await transport.run(command, 30.0) for command in spoken.probe()])
    yield Site(tmp_path, fitted, transport, closed)
    await transport.close()


async def test_each_element_runs_with_its_index_and_is_told_of(site: Site) -> None:
    words = f'echo "{site.dialect.id_word} {site.dialect.index_word}"; exit {site.dialect.index_word}'

    id_ = await site.submit(site.order(f"{words}\n", elements=3))

    ended = await site.ended(id_)
    assert {index: one.exit_code or 0 for index, one in ended.items()} == {0: 0, 1: 1, 2: 2}
    assert [one.id for one in ended.values()] == [site.dialect.element(id_, index) for index in range(3)]
    said = sorted("".join(file.read_text() for file in site.folder.glob("out*")).splitlines())
    assert said == [f"{site.dialect.element(id_, index)} {index}" for index in range(3)]
    assert {site.dialect.element(id_, 0), id_} & {one.id for one in (await site.found()).jobs}


async def test_waiting_element_is_cancelled_and_no_other(site: Site) -> None:
    closed = Resources(partition=site.closed)
    id_ = await site.submit(site.order("exit 0\n", elements=3, resources=closed))

    await site.ask(Wish.CANCEL, site.dialect.element(id_, 1))

    seen = await site.seen(id_)
    assert {index: one.phase for index, one in seen.items()} == {
        0: Phase.PENDING,
        1: Phase.ENDED,
        2: Phase.PENDING,
    }
