"""Arrays as schedulers get them: programs answer as sbatch, qsub and bsub do, and shells run the elements."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.dialects import holder
from jobmgr.dialects.dialect import Dialect
from jobmgr.dialects.lsf import Lsf
from jobmgr.dialects.pbs import Pbs
from jobmgr.dialects.slurm import Slurm
from jobmgr.domain.resources import Resources
from jobmgr.executors import gate, parcel
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Ended, Launch, NeverRan, Report, Scheduled
from jobmgr.failure import Failure
from jobmgr.transports.local import LocalTransport
from tests.dialects.shell import insist_on_syntax, install
from tests.patience import eventually

QUICK = Pace(files_s=0.1, again_first_s=0.1, again_max_s=0.2, gather_s=0.05)
SHELLS = [name for name in ("dash", "bash") if shutil.which(name)]

_FAILED = "sbatch: error: Batch job submission failed: "


@dataclass(frozen=True)
class Kind:
    """A scheduler: what its programs say, and what it lets element `index` of an array know."""

    dialect: Callable[[], Dialect]
    programs: Mapping[str, str]
    submit: str
    answer: str
    directive: str
    element: Callable[[int], str]
    environment: Callable[[int], Mapping[str, str]]
    # What it says, and with which exit code, if it has too many jobs of this user.
    full: tuple[str, int]
    # And if it cannot take any job now.
    away: tuple[str, int]


KINDS = {
    "slurm": Kind(
        Slurm,
        {"scontrol": "echo 'MaxArraySize            = 3'"},
        "sbatch",
        "12",
        "#SBATCH --array=0-2",
        lambda index: f"12_{index}",
        lambda index: {
            "SLURM_JOB_ID": str(13 + index),
            "SLURM_ARRAY_JOB_ID": "12",
            "SLURM_ARRAY_TASK_ID": str(index),
        },
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{_FAILED}Job violates accounting/QOS policy", 1),
        (f"{_FAILED}Resource temporarily unavailable", 1),
    ),
    "pbs": Kind(
        Pbs,
        {"qstat": "printf 'Server: pbs\\n    job_history_enable = True\\n    max_array_size = 3\\n'"},
        "qsub",
        "65[].pbs",
        "#PBS -J 0-2",
        lambda index: f"65[{index}].pbs",
        lambda index: {"PBS_JOBID": f"65[{index}].pbs", "PBS_ARRAY_INDEX": str(index)},
        ("qsub: would exceed complex's per-user limit of jobs in 'Q' state", 38),
        ("qsub: cannot connect to server pbs (errno=15010)", 162),
    ),
    "lsf": Kind(
        Lsf,
        {
            "bjobs": "[ $1 = -V ] && echo 'IBM Spectrum LSF Standard 10.1.0.9, Sep 01 2026' >&2",
            "bparams": "printf 'DEFAULT_QUEUE = normal\\nMAX_JOB_ARRAY_SIZE = 3\\n'",
        },
        "bsub",
        "Job <77> is submitted to default queue <normal>.",
        '#BSUB -J "jm-{token}[1-3]"',
        lambda index: f"77[{index + 1}]",
        lambda index: {"LSB_JOBID": "77", "LSB_JOBINDEX": str(index + 1)},
        ("User <root>: Pending job threshold reached. Job not submitted.", 255),
        ("Connection refused. Job not submitted.", 255),
    ),
}


@dataclass
class Site:
    """A work directory, a scheduler that runs nothing by itself, and what an executor reported."""

    root: Path
    shell: str
    kind: Kind
    reports: dict[str, list[Report]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("control", "runs"):
            (self.root / name).mkdir(parents=True)
        self.programs = self.root / "bin"
        for name, script in self.kind.programs.items():
            install(self.programs, name, script)
        (self.programs / "sh").symlink_to(str(shutil.which(self.shell)))
        self.answers(f"echo '{self.kind.answer}'")

    def answers(self, script: str) -> None:
        """Let the submitting program do this, after counting that it was run."""
        version = "[ \"$1\" = --version ] && echo 'pbs_version = 23.06.06' && exit"
        install(self.programs, self.kind.submit, f"{version}; echo >>'{self.root}/asked'; {script}")

    def takes_at_most(self, most: int, then: str) -> None:
        """Let the submitting program refuse arrays of more elements, and do `then` for others."""
        words, code = self.kind.full
        # An array is handed in where its elements lie.
        self.answers(
            f"""[ "$(ls | grep -c '^[0-9]*$')" -le {most} ] || {{ echo "{words}" >&2; exit {code}; }}; {then}"""
        )

    @property
    def asked(self) -> int:
        path = self.root / "asked"
        return len(path.read_text()) if path.exists() else 0

    def executor(self, pace: Pace = QUICK) -> BatchExecutor:
        transport = LocalTransport({**os.environ, "PATH": f"{self.programs}:/usr/bin:/bin"})
        return BatchExecutor(
            "lab", self.kind.dialect(), transport, str(self.root), self.reports_to, pace=pace
        )

    def reports_to(self, report: Report) -> None:
        self.reports.setdefault(report.token, []).append(report)

    async def said(self, launch: Launch, kind: type[Report]) -> Report:
        found = await eventually(
            lambda: next((one for one in self.reports.get(launch.token, []) if isinstance(one, kind)), None)
        )
        assert isinstance(found, kind)
        return found

    def script_homes(self) -> list[Path]:
        return [*(self.root / "control" / ".arrays").iterdir()]

    def script(self) -> Path:
        (home,) = (self.root / "control" / ".arrays").iterdir()
        return home / "script"

    def handed_in_as(self, launch: Launch) -> tuple[Path, str]:
        """The directory of the array that an attempt is in, and its index there."""
        name, index = (self.root / "control" / launch.place / "submission").read_text().split()
        return self.root / "control" / ".arrays" / name.removeprefix("jm-"), index

    def run(self, index: int, script: Path | None = None) -> int:
        """Run an element as a node would; its exit code."""
        return subprocess.run(
            [str(self.programs / "sh"), str(script or self.script())],
            env={"PATH": os.environ["PATH"], **self.kind.environment(index)},
            check=False,
            timeout=60,
        ).returncode


@pytest_asyncio.fixture(params=[(kind, shell) for kind in KINDS for shell in SHELLS], ids="-".join)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    kind, shell = request.param
    return Site(tmp_path / "work", shell, KINDS[kind])


@pytest_asyncio.fixture
async def executor(site: Site) -> AsyncIterator[BatchExecutor]:
    executor = site.executor()
    await executor.start()
    yield executor
    await executor.stop()


def launches(*scripts: str, **asked: object) -> list[Launch]:
    return [
        Launch(f"job-{index}", 1, f"{index:032x}", ("sh", "-c", script), **asked)  # type: ignore[arg-type]
        for index, script in enumerate(scripts)
    ]


async def test_each_element_is_an_attempt_of_its_own(site: Site, executor: BatchExecutor) -> None:
    scripts = [f'echo "$VALUE it\'s {code}"; exit {code}' for code in range(3)]
    wanted = [replace(one, env={"VALUE": f"$({index})\n'\""}) for index, one in enumerate(launches(*scripts))]
    await executor.launch(wanted[:1])
    await executor.launch(wanted[1:])
    handles = [await site.said(launch, Scheduled) for launch in wanted]
    codes = [site.run(index) for index in range(3)]
    ends = [await site.said(launch, Ended) for launch in wanted]

    assert (site.asked, executor.asked["submit"]) == (1, 1)
    assert [one.handle for one in handles if isinstance(one, Scheduled)] == [
        *map(site.kind.element, range(3))
    ]
    assert codes == [0, 1, 2]
    assert [one.record.exit_code for one in ends if isinstance(one, Ended)] == [0, 1, 2]
    for index, launch in enumerate(wanted):
        run = Path(executor.run_directory(launch))
        assert (run / "stdout").read_text() == f"$({index})\n'\" it's {index}\n"
        content = gate.read(str(site.root / "control" / launch.place))
        assert content is not None
        assert content["holder"]["id"] == site.kind.element(index)


async def test_script_of_an_array_holds_to_the_syntax(site: Site, executor: BatchExecutor) -> None:
    wanted = launches("true", "true", "true", resources=Resources(cpus=2, walltime_s=90.0))
    await executor.launch(wanted)
    await site.said(wanted[0], Scheduled)
    script = site.script().read_text()
    insist_on_syntax(script)
    token = site.script().parent.name
    assert site.kind.directive.format(token=token) in script.splitlines()
    assert len(token) == len(wanted[0].token)
    assert f"jm-{token}" in script


async def test_element_that_is_run_again_is_refused(site: Site, executor: BatchExecutor) -> None:
    wanted = launches(*["echo ran; exit 4"] * 3)
    await executor.launch(wanted)
    await site.said(wanted[0], Scheduled)
    assert [site.run(1), site.run(1)] == [4, holder.REFUSED]
    assert (Path(executor.run_directory(wanted[1])) / "stdout").read_text() == "ran\n"


async def test_element_that_there_is_not_starts_nothing(site: Site, executor: BatchExecutor) -> None:
    wanted = launches("true", "true", "true")
    await executor.launch(wanted)
    await site.said(wanted[0], Scheduled)
    assert site.run(3) != 0
    assert not list((site.root / "control").glob("job-*/1/gate"))


async def test_longer_campaigns_are_several_arrays(site: Site, executor: BatchExecutor) -> None:
    wanted = launches(*["true"] * 7)
    await executor.launch(wanted)
    for launch in wanted:
        await site.said(launch, Scheduled)
    assert site.asked == 3  # of three, three and one
    homes = list((site.root / "control" / ".arrays").iterdir())
    assert sorted(len(list(home.iterdir())) for home in homes) == [4, 4]


async def test_array_that_is_too_large_for_now_is_parted(site: Site, executor: BatchExecutor) -> None:
    site.takes_at_most(2, f"echo '{site.kind.answer}'")
    wanted = launches("exit 3", "exit 4", "exit 5")
    await executor.launch(wanted)
    for launch in wanted:
        await site.said(launch, Scheduled)

    assert site.asked == executor.asked["submit"] == 3  # of three, two and one
    homes = [site.handed_in_as(launch) for launch in wanted]
    assert [index for _, index in homes] == ["0", "1", "-"]
    assert homes[0][0] == homes[1][0]
    assert [site.run(index, homes[0][0] / "script") for index in range(2)] == [3, 4]
    # What was refused starts nothing, should anybody run it.
    (refused,) = set(site.script_homes()) - {homes[0][0]}
    assert [site.run(index, refused / "script") for index in range(2)] == [holder.REFUSED] * 2


async def test_parts_wait_for_one_another_while_there_is_no_room(site: Site, executor: BatchExecutor) -> None:
    """One job asks for all."""
    words, code = site.kind.full
    site.answers(f'echo "{words}" >&2; exit {code}')
    wanted = launches("true", "true", "true")
    await executor.launch(wanted)
    await eventually(lambda: executor.asked["submit"] >= 7)

    assert [site.handed_in_as(launch)[1] for launch in wanted] == ["-", "1", "2"]
    assert all(executor.reason(launch.token).startswith("it was not taken: ") for launch in wanted)
    await executor.cancel(wanted[1].token, 1.0)
    assert await site.said(wanted[1], NeverRan) == NeverRan(wanted[1].token, None)
    site.answers(f"echo '{site.kind.answer}'")
    for launch in (wanted[0], wanted[2]):
        await site.said(launch, Scheduled)


async def test_array_is_not_parted_for_other_reasons(site: Site, executor: BatchExecutor) -> None:
    words, code = site.kind.away
    site.answers(f'echo "{words}" >&2; exit {code}')
    wanted = launches("true", "true", "true")
    await executor.launch(wanted)
    await eventually(lambda: executor.asked["submit"] >= 1 and executor.reason(wanted[0].token))
    site.answers(f"echo '{site.kind.answer}'")
    for launch in wanted:
        await site.said(launch, Scheduled)

    assert [site.handed_in_as(launch)[1] for launch in wanted] == ["0", "1", "2"]


async def test_while_many_wait_there_who_comes_later_goes_together_too(tmp_path: Path) -> None:
    site = Site(tmp_path, SHELLS[0], KINDS["slurm"])
    executor = site.executor(replace(QUICK, plenty=3, gather_more_s=3.0))
    await executor.start()
    wanted = launches(*["true"] * 5)
    await executor.launch(wanted[:3])
    for launch in wanted[:3]:
        await site.said(launch, Scheduled)
    await executor.launch(wanted[3:4])
    await asyncio.sleep(3 * QUICK.gather_s)  # it would have gone alone by now
    await executor.launch(wanted[4:])
    for launch in wanted[3:]:
        await site.said(launch, Scheduled)
    assert site.asked == 2
    await executor.stop()


async def test_what_cannot_be_said_of_one_attempt_fails_it_alone(site: Site, executor: BatchExecutor) -> None:
    good, bad, other = launches("true", "true", "true")
    odd = replace(bad, env={"A-B": "1"})
    await executor.launch([good, odd, other])
    for launch in (good, other):
        await site.said(launch, Scheduled)
    ended = await site.said(odd, NeverRan)
    assert isinstance(ended, NeverRan)
    assert ended.error is not None
    assert ended.error.code == Failure.SUBMIT_REFUSED
    assert "A-B" in ended.error.message


async def test_array_that_was_stored_by_halves_is_not_handed_in(site: Site, executor: BatchExecutor) -> None:
    """The way to the site broke while its elements were written."""
    short = site.programs / "awk"
    short.write_text('#!/bin/sh\nhead -c -200 | /usr/bin/awk "$@"\n')
    short.chmod(0o755)
    wanted = launches("exit 3", "exit 4")
    await executor.launch(wanted)
    await eventually(lambda: executor.asked["submit"] > 1)
    assert site.asked == 0
    # Not written in place: it may be read by a shell at this moment.
    short.unlink()
    for launch in wanted:
        await site.said(launch, Scheduled)
    assert [site.run(index) for index in range(2)] == [3, 4]


async def test_cancelled_element_never_starts(site: Site, executor: BatchExecutor) -> None:
    wanted = launches("true", "true", "true")
    await executor.launch(wanted)
    await site.said(wanted[0], Scheduled)
    await executor.cancel(wanted[1].token, 1.0)
    assert await site.said(wanted[1], NeverRan) == NeverRan(wanted[1].token, None)
    assert [site.run(index) for index in range(3)] == [0, holder.REFUSED, 0]


async def test_installation_that_does_not_answer_is_waited_for(site: Site, executor: BatchExecutor) -> None:
    program, script = next(iter(site.kind.programs.items()))
    install(site.programs, program, "exit 1")
    wanted = launches("true", "true", "true")
    await executor.launch(wanted)
    await eventually(lambda: executor.asked["fit"] > 1)
    assert site.asked == 0
    assert "cannot be handed in now" in executor.reason(wanted[0].token)
    install(site.programs, program, script)
    for launch in wanted:
        await site.said(launch, Scheduled)
    assert site.asked == 1


async def test_trial_tells_how_long_arrays_get(tmp_path: Path) -> None:
    site = Site(tmp_path, SHELLS[0], KINDS["slurm"])
    install(site.programs, "sbatch", "echo slurm 22.05.8")
    install(site.programs, "scontrol", "echo 'MaxArraySize            = 1001'")
    executor = site.executor()

    told = {step.name: step for step in await executor.trial()}

    assert told["installation"].said == f"arrays up to {parcel.MOST}"
    await executor.stop()


async def test_trial_tells_what_the_installation_allows(tmp_path: Path) -> None:
    site = Site(tmp_path, SHELLS[0], KINDS["pbs"])
    executor = site.executor()
    told = {step.name: step for step in await executor.trial()}
    assert told["scheduler"].said == "PBS 23.06.06"
    assert told["installation"].said == "keeps history, arrays up to 3"
    install(site.programs, "qstat", "echo 'qstat: cannot connect to server' >&2; exit 255")
    last = (await executor.trial())[-1]
    assert (last.name, last.is_well) == ("installation", False)
    assert "cannot connect" in last.said
    await executor.stop()


@pytest.mark.parametrize("is_parted", [False, True])
async def test_next_service_releases_elements_of_an_array_that_was_never_handed_in(
    site: Site, executor: BatchExecutor, *, is_parted: bool
) -> None:
    """It died after all was stored, or a part of what was refused as a whole. Should the array appear after all, no
    element of it starts.
    """
    site.takes_at_most(2 if is_parted else 3, "exec sleep 600")
    wanted = launches("true", "true", "true")
    await executor.launch(wanted)
    await eventually(lambda: site.asked == 1 + is_parted)
    await executor.stop()
    assert not site.reports
    looked = {"qselect": "exit 0", "bhist": "echo 'No matching job found' >&2", "squeue": "", "sacct": ""}
    for program, script in looked.items():
        install(site.programs, program, script)
    if site.kind.submit == "bsub":
        install(site.programs, "bjobs", f"{site.kind.programs['bjobs']} || echo 'No job found'")
    second = site.executor(replace(QUICK, in_doubt_s=0.3))
    await second.start()
    try:
        await second.recover(wanted)
        for launch in wanted:
            assert await site.said(launch, NeverRan) == NeverRan(launch.token, None)
        assert second.asked["find"] <= (3 + 12) * (1 + is_parted)
        assert second.asked["submit"] == 0
        for home in site.script_homes():
            elements = sum(file.name.isdecimal() for file in home.iterdir())
            codes = [site.run(index, home / "script") for index in range(elements)]
            assert codes == [holder.REFUSED] * elements
    finally:
        await second.stop()


async def test_claims_that_never_came_to_the_site_are_handed_in_as_an_array(
    site: Site, executor: BatchExecutor
) -> None:
    wanted = launches("true", "true", "true")
    await executor.recover(wanted)
    for launch in wanted:
        await site.said(launch, Scheduled)
    assert site.asked == 1


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_thousand_elements_are_stored_by_one_command(shell: str, tmp_path: Path) -> None:
    site = Site(tmp_path, shell, KINDS["slurm"])
    install(site.programs, "scontrol", "echo 'MaxArraySize = 1001'")
    executor = site.executor()
    await executor.start()
    environment = {f"NAME_{number}": "x" * 50 for number in range(40)}
    wanted = [replace(one, env=environment) for one in launches(*["exit 5"] * 1000)]
    await executor.launch(wanted)
    await site.said(wanted[-1], Scheduled)
    assert site.asked == 1
    assert [site.run(index) for index in (0, 999)] == [5, 5]
    await executor.stop()
