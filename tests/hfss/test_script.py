"""Batch scripts: all that is asked for reaches the scheduler, and nothing else becomes a directive or a command."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from jobmgr.errors import InvalidConfig
from jobmgr.hfss import HFSSSimulationConfig, SchedulerOptions, SchedulerType, command, script
from tests.hfss.recorded import CONFIGS, EDT

POSIX = (SchedulerType.SLURM, SchedulerType.LSF, SchedulerType.PBS, SchedulerType.WINDOWS_HPC)
TEXTS = (
    "queue", "time", "memory", "account", "reservation", "qos", "constraints", "gpu_type", "email_notification",
)  # fmt: skip
hostile = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from([
    "a\n#SBATCH --uid=0", "a\n#BSUB -q x", "$(id)", "`id`", "a;b", "a'b", 'a"b', "a b", "-x", "a\\", "%j", "a#b",
    "a\x85b", "a\u2028b", "a\rb",
])  # fmt: skip


def config(scheduler: SchedulerType, **options: Any) -> HFSSSimulationConfig:
    return HFSSSimulationConfig(
        project_path="/p/a.aedt",
        ansys_edt_path=EDT,
        jobid="patch_1",
        scheduler_type=scheduler,
        scheduler_options=SchedulerOptions(**options),
    )


def directives(text: str) -> list[str]:
    """What follows the prefix, of the lines of directives: SLURM and PBS stop reading at the first command."""
    head = itertools.takewhile(lambda line: line.startswith("#"), text.split("\n")[1:])
    return [line.partition(" ")[2] for line in head]


def names(text: str) -> list[str]:
    return [re.split(r"[= ]", line)[0] for line in directives(text)]


def for_a_shell(made: HFSSSimulationConfig) -> str:
    """The script that its job runs."""
    return script.text(made, script.dialect(made.scheduler_type))


def check_syntax(text: str) -> None:
    for shell in ("bash", "dash"):
        checked = subprocess.run([shell, "-n"], input=text, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), text


@pytest.mark.parametrize(
    ("scheduler", "options", "said"),
    [
        (SchedulerType.SLURM, {"time": "1-02:00:00"}, ["--time=1-02:00:00"]),
        (SchedulerType.SLURM, {"memory": "64GB"}, ["--mem=65536M"]),
        (SchedulerType.SLURM, {"queue": "compute"}, ["--partition=compute"]),
        (SchedulerType.SLURM, {"nodes": 3, "cores_per_node": 8}, ["--nodes=3", "--ntasks=24", "--cpus-per-task=1"]),
        (SchedulerType.SLURM, {"nodes": 2, "tasks_per_node": 4}, ["--nodes=2", "--ntasks=8"]),
        (SchedulerType.SLURM, {"account": "lab", "qos": "fast"}, ["--account=lab", "--qos=fast"]),
        (SchedulerType.SLURM, {"reservation": "r1"}, ["--reservation=r1"]),
        (SchedulerType.SLURM, {"constraints": "a100&ib"}, ["--constraint=a100&ib"]),
        (SchedulerType.SLURM, {"exclusive": True}, ["--exclusive"]),
        (SchedulerType.SLURM, {"email_notification": "a@x.org"}, ["--mail-user=a@x.org", "--mail-type=END,FAIL"]),
        (SchedulerType.SLURM, {"priority": "Low"}, ["--nice=1000"]),
        (SchedulerType.LSF, {}, ["-W 24:00"]),
        (SchedulerType.LSF, {"time": "1-00:30:00"}, ["-W 24:30"]),
        (SchedulerType.LSF, {"memory": "8GB"}, ['-R "rusage[mem=8192MB] span[hosts=1]"', "-M 8192MB"]),
        (SchedulerType.LSF, {"queue": "compute", "account": "lab"}, ["-q compute", "-P lab"]),
        (SchedulerType.LSF, {"nodes": 2, "cores_per_node": 4}, ["-n 8", '-R "rusage[mem=4096MB] span[ptile=4]"']),
        (SchedulerType.LSF, {"gpus": 4, "nodes": 2, "gpu_type": "a100"}, ['-gpu "num=2:gmodel=a100"']),
        (SchedulerType.LSF, {"exclusive": True, "reservation": "r1"}, ["-x", "-U r1"]),
        (SchedulerType.LSF, {"email_notification": "a@x.org"}, ["-u a@x.org", "-N"]),
        (SchedulerType.PBS, {}, ["-l walltime=24:00:00"]),
        (SchedulerType.PBS, {"queue": "compute", "account": "lab"}, ["-q compute", "-A lab"]),
        (
            SchedulerType.PBS,
            {"nodes": 2, "cores_per_node": 4, "gpus": 2, "memory": "1GB", "constraints": "gpu_model=a100"},
            ["-l select=2:ncpus=4:mpiprocs=4:mem=1048576kb:ngpus=1:gpu_model=a100"],
        ),
        (SchedulerType.PBS, {"exclusive": True, "priority": "High"}, ["-l place=excl", "-p 512"]),
        (SchedulerType.PBS, {"email_notification": "a@x.org"}, ["-m ea", "-M a@x.org"]),
    ],
)  # fmt: skip
def test_what_is_asked_for_reaches_the_scheduler(
    scheduler: SchedulerType, options: dict[str, Any], said: list[str]
) -> None:
    text = config(scheduler, **options).generate_scheduler_script()

    assert set(said) <= set(directives(text)), text
    check_syntax(text)


def test_gpus_of_the_job_are_spread_over_its_nodes_with_their_type() -> None:
    one = config(SchedulerType.SLURM, gpus=2, gpu_type="a100").generate_scheduler_script()

    assert re.search(r"^#SBATCH --gpus(-per-node)?=a100:2$", one, re.MULTILINE)
    with pytest.raises(
        InvalidConfig, match=r"^scheduler_options\.gpus: 3 cannot be spread evenly over 2 nodes"
    ):
        config(SchedulerType.SLURM, gpus=3, nodes=2).generate_scheduler_script()


@pytest.mark.parametrize("time", ["unlimited", "0"])
@pytest.mark.parametrize("scheduler", POSIX)
def test_what_is_not_asked_for_is_left_to_the_scheduler(scheduler: SchedulerType, time: str) -> None:
    options = {
        "queue": "default",
        "time": time,
        "memory": "",
        "gpu_type": "a100",
        "priority": "Normal",
    }
    text = config(scheduler, **options).generate_scheduler_script()

    unsaid = {
        "--partition",
        "--time",
        "--mem",
        "--gpus",
        "--nice",
        "-q",
        "-W",
        "-M",
        "-gpu",
        "-p",
        "--mail-user",
    }
    assert not unsaid & set(names(text))
    assert not re.search(r"mem=|ngpus|walltime|RuntimeSeconds|MinMemory|NodeGroups", text)


@pytest.mark.parametrize("scheduler", POSIX)
def test_a_job_starts_and_writes_in_the_directory_of_its_project(
    scheduler: SchedulerType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = structs.replace(config(scheduler), project_path="sub/a.aedt")
    order = script.order(relative, scheduler)

    assert order.cwd == str(tmp_path / "sub")
    assert (order.stdout, order.stderr) == (f"{tmp_path}/sub/patch_1.out", f"{tmp_path}/sub/patch_1.err")
    assert shlex.split(order.body.splitlines()[-1])[-1] == str(tmp_path / "sub" / "a.aedt")


def test_names_of_jobs_are_their_ids_as_far_as_the_scheduler_takes_them() -> None:
    assert directives(config(SchedulerType.SLURM).generate_scheduler_script())[-8] == "--job-name=patch_1"
    assert '-J "patch-1"' in directives(config(SchedulerType.LSF).generate_scheduler_script())
    assert "-N patch-1" in directives(config(SchedulerType.PBS).generate_scheduler_script())
    odd = structs.replace(config(SchedulerType.PBS), jobid="___")
    assert "-N job" in directives(odd.generate_scheduler_script())


@pytest.mark.parametrize(
    "recorded", [each for each in CONFIGS if each["slurm_line"]], ids=lambda recorded: recorded["name"]
)
def test_a_slurm_job_runs_the_line_of_the_original(recorded: dict[str, Any]) -> None:
    made = structs.replace(HFSSSimulationConfig(**recorded["fields"]), project_path="/p/antenna.aedt")

    text = made.generate_slurm_script()

    assert text.splitlines()[-1] == recorded["slurm_line"].replace(" antenna.aedt", " /p/antenna.aedt")
    assert text == made.generate_scheduler_script()


@pytest.mark.parametrize("scheduler", [SchedulerType.LSF, SchedulerType.PBS])
def test_the_last_command_is_the_program_so_its_end_is_that_of_the_job(scheduler: SchedulerType) -> None:
    made = config(scheduler, nodes=2, cores_per_node=4)

    text = made.generate_scheduler_script()

    assert text.splitlines()[-1] == made.generate_command_string()
    assert "-distributed -machinelist numcores=8 -auto -ng" in text


def test_the_lsf_script_is_for_lsf_whatever_the_configuration_runs_on() -> None:
    here = config(SchedulerType.NONE)

    assert here.generate_lsf_script() == config(SchedulerType.LSF).generate_scheduler_script()
    with pytest.raises(
        InvalidConfig, match=r"^scheduler_type: .* choose one of lsf, slurm, pbs, windows_hpc"
    ):
        here.generate_scheduler_script()


@pytest.mark.parametrize(
    ("scheduler", "options", "said"),
    [
        (SchedulerType.LSF, {"qos": "fast"}, r"^scheduler_options\.qos: LSF cannot express it"),
        (SchedulerType.PBS, {"qos": "fast"}, r"^scheduler_options\.qos: PBS cannot express it"),
        (SchedulerType.PBS, {"gpus": 1, "gpu_type": "a100"}, r"^scheduler_options\.gpu_type: PBS cannot"),
        (SchedulerType.SLURM, {"queue": "a b"}, r"^scheduler_options\.queue: 'a b' has blanks"),
        (SchedulerType.PBS, {"email_notification": "-x"}, r"^scheduler_options\.email_notification: "),
        (SchedulerType.SLURM, {"constraints": "$x"}, r"^scheduler_options\.constraints: "),
        (
            SchedulerType.WINDOWS_HPC,
            {"run_as_administrator": True},
            r"^scheduler_options\.run_as_administrator: ",
        ),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_field(
    scheduler: SchedulerType, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        config(scheduler, **options).generate_scheduler_script()


@pytest.mark.parametrize("scheduler", POSIX)
@settings(max_examples=200, deadline=None)
@given(field=st.sampled_from(TEXTS), text=hostile)
def test_no_text_of_an_option_becomes_another_directive(
    scheduler: SchedulerType, field: str, text: str
) -> None:
    safe = {"time": "1:00:00", "memory": "1GB", "constraints": "a=b", "email_notification": "a@x.org"}
    try:
        benign = config(scheduler, gpus=1, **{field: safe.get(field, "x")})
        expected = names(for_a_shell(benign))
        found = for_a_shell(config(scheduler, gpus=1, **{field: text}))
    except InvalidConfig:
        return

    optional = {
        "--partition",
        "--account",
        "--qos",
        "--reservation",
        "--constraint",
        "--mail-user",
        "--mail-type",
    }
    optional |= {"--time", "--mem", "-q", "-P", "-U", "-u", "-N", "-W", "-R", "-M", "-A", "-l"}
    assert set(names(found)) <= set(expected)
    assert set(expected) - set(names(found)) <= optional
    check_syntax(found)


@pytest.mark.parametrize("scheduler", POSIX)
@settings(max_examples=50, deadline=None)
@given(project=hostile, design=hostile, program=hostile, spawn=hostile)
def test_no_text_of_the_command_becomes_syntax(
    scheduler: SchedulerType, project: str, design: str, program: str, spawn: str
) -> None:
    try:
        made = structs.replace(
            config(scheduler),
            project_path=f"/p/{project}.aedt",
            design_name=design,
            ansys_edt_path=f"/opt/{program}/ansysedt",
            layout_options={"remote_spawn_command": spawn},
        )
        text = for_a_shell(made)
    except InvalidConfig:
        return

    assert names(text) == names(for_a_shell(config(scheduler)))
    is_slurm = scheduler is SchedulerType.SLURM
    expected = command.in_step(made) if is_slurm else shlex.split(command.as_text(made, scheduler))
    assert expected[-1] == made.project_path
    body = script.order(made, scheduler).body
    assert text.endswith(body)
    assert shlex.split(body)[-len(expected) :] == expected
    check_syntax(text)


def test_windows_hpc_is_asked_for_all_of_it_too() -> None:
    made = structs.replace(
        config(
            SchedulerType.WINDOWS_HPC,
            queue="fast",
            time="25:00:00",
            nodes=2,
            cores_per_node=4,
            account="lab",
            exclusive=True,
            priority="High",
            email_notification="a@x.org",
        ),
        project_path=r"C:\my work\a.aedt",
    )

    said = made.generate_scheduler_script()

    for part in ("fast", "90000", "2", "4", "4096", "lab", "true", "Highest", "a@x.org", "patch-1"):
        assert re.search(rf'="{part}"', said), part
    assert 'CommandLine="sh &quot;C:/my work/patch_1_windows_hpc.sh&quot;"' in said
    assert script.order(made, SchedulerType.WINDOWS_HPC).cwd == r"C:\my work"
    line = for_a_shell(made).splitlines()[-1]
    assert line == command.as_text(made, SchedulerType.WINDOWS_HPC)
    assert line.startswith(
        "/opt/ansys/v252/Linux64/ansysedt -jobid patch_1 -distributed -machinelist numcores=8"
    )
    assert line.endswith(r"-batchsolve 'C:\my work\a.aedt'")


def test_windows_hpc_is_told_of_no_place_that_it_cannot_name() -> None:
    made = structs.replace(config(SchedulerType.WINDOWS_HPC), project_path="/50%/a.aedt")

    with pytest.raises(
        InvalidConfig, match=r"^project_path: '/50%/patch_1_windows_hpc\.sh' is no absolute path"
    ):
        made.generate_scheduler_script()
