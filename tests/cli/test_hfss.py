"""`jobmgr hfss`, and the programs of pyedb's job manager under their old names, against a real service."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from jobmgr.cli import hfss, main, projects
from jobmgr.compat.pyedb import SchedulerOptions, programs
from tests.ansysedt import GREETING
from tests.cli.conftest import TIMEOUT_S, Commands, Finished, serving, told_until
from tests.cli.test_terminal import on_terminal
from tests.hfss.installed import install_solver, make_project
from tests.port import free
from tests.slurm import Slurm

DONE = "converged after 3 passes, 24,000 tetrahedra, delta S 0.04, sweep 3/3\n"


@dataclass(frozen=True, slots=True)
class Solving(Commands):
    """Commands on a machine where ANSYS is installed, beside a running service."""

    url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What the command sees."""
        known = {
            name: value for name, value in Commands(self.home).environment.items() if "ANSYSEM" not in name
        }
        return known | {"ANSYSEM_ROOT252": str(self.home / "v252")}

    @property
    def service(self) -> list[str]:
        """Where the service is, as the old programs are told."""
        return ["--host", "127.0.0.1", "--port", self.url.rpartition(":")[2]]

    def program(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Finished:
        """One of the old programs, to its end."""
        done = subprocess.run(
            [sys.executable, "-m", f"jobmgr.compat.pyedb.{name}", *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            cwd=self.home,
            env=self.environment | dict(environment or {}),
        )
        return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def solving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Solving]:
    """ANSYS, a service, and commands that talk to it."""
    commands = Solving(tmp_path_factory.mktemp("home"))
    install_solver(commands.home / "v252")
    with serving(commands, "--max-concurrent-jobs", "4") as url:
        yield Solving(commands.home, url)


Inside = Callable[..., Finished]


@pytest.fixture
def inside(solving: Solving, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    """The command as a function, in this process: to start it takes longer than what it does."""

    def run(*arguments: str, root: str | None = "") -> Finished:
        with monkeypatch.context() as changed:
            for name, value in solving.environment.items():
                changed.setenv(name, value)
            if root is None:
                changed.delenv("ANSYSEM_ROOT252")
            elif root:
                changed.setenv("ANSYSEM_ROOT252", root)
            changed.chdir(solving.home)
            code = main.run(arguments)
        return Finished(code, *capfd.readouterr())

    return run


def spec(solving: Solving, job_id: str) -> Any:
    return solving.run("show", "--json", job_id).json["spec"]


# One project


def test_a_project_is_solved_and_its_progress_told(solving: Solving, tmp_path: Path) -> None:
    project = make_project(tmp_path / "my projects" / "antenna.aedt")

    done = solving.run("hfss", "submit", "--project-path", project, "--num-cores", "3", "--wait")

    job_id = done.out.strip()
    assert (done.code, done.err.endswith(DONE)) == (0, True), done
    assert job_id.startswith("JOB_")
    assert "list=localhost:3:3:90%" in spec(solving, job_id)["command"]
    assert solving.run("logs", job_id).out.encode(errors="surrogateescape").startswith(GREETING)


def test_show_says_how_far_a_simulation_is(inside: Inside, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    job_id = inside("hfss", "submit", "--project-path", project, "--wait").out.strip()

    shown = inside("show", job_id)
    told = inside("show", "--json", job_id).json["progress"]

    assert any(
        line.split()[:1] == ["progress"] and line.endswith(DONE.strip()) for line in shown.out.splitlines()
    )
    assert told["line"] == DONE.strip()
    assert len(told["state"]["adaptive"]) == 3


def test_show_has_the_options_of_the_solver_as_pairs(inside: Inside, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    job_id = inside("hfss", "submit", "--project-path", project, "--wait").out.strip()

    shown = inside("show", job_id).out.splitlines()

    (command,) = [line for line in shown if line.startswith("command ")]
    options = [line.removeprefix("batch option").strip() for line in shown if line.startswith("batch option")]
    assert " -batchoptions ... -batchsolve :: " in command
    assert "'" not in command
    assert options[0] == "HFSS 3D Layout Design/CreateStartingMesh = 0"
    assert "Q3D Extractor/RAMLimitPercent = 90" in options


def test_watch_shows_how_far_simulations_are_on_a_terminal_as_narrow_as_most(
    solving: Solving, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    project = make_project(tmp_path / "patch.aedt", waits_at="Max Mag. Delta S", until=str(go))
    job_id = solving.run("hfss", "submit", "--project-path", project).out.strip()

    shown = on_terminal(solving, "watch", until=lambda shown: b"pass 2" in shown, columns=80)

    go.touch()
    assert b"PROGRESS" in shown
    assert b"patch.aedt" in shown
    assert job_id.encode() in shown
    assert solving.run("wait", job_id).code == 0


def test_a_failure_is_told_by_the_exit_code(inside: Inside, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt", fails_at="Adaptive Pass 2", exit_code=9)

    done = inside("hfss", "submit", "--project-path", project, "--wait")

    assert done.code == 1
    assert "failed" in done.err
    assert "9" in done.err


def test_who_waits_is_told_once_why_nothing_starts(solving: Solving, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    assert solving.run("limits", "set", "min_disk_gb", "1000000").code == 0
    try:
        with solving.start("hfss", "submit", "--project-path", project, "--wait") as process:
            assert process.stdout is not None
            told_until(process, "the limit min_disk_gb asks for 1e+06 GB")
            assert solving.run("limits", "set", "min_disk_gb", "none").code == 0
            out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        solving.run("limits", "set", "min_disk_gb", "none")

    assert (process.returncode, err.decode().endswith(DONE)) == (0, True), err
    assert b"min_disk_gb" not in err
    assert solving.run("why", out.decode().strip()).code == 0


def test_who_waits_for_a_folder_is_told_how_far_its_projects_are(solving: Solving, tmp_path: Path) -> None:
    go = tmp_path / "go"
    for name in ("a", "b"):
        make_project(tmp_path / "studies" / f"{name}.aedt", waits_at="Max Mag. Delta S", until=str(go))

    batch = ("hfss", "submit-batch", "--root-dir", str(tmp_path / "studies"), "--delay-ms", "0", "--wait")
    with solving.start(*batch) as process:
        lines = told_until(process, "pass 2, 16,000 tetrahedra")
        go.touch()
        out, err = process.communicate(timeout=TIMEOUT_S)

    ids = {line.split()[1].rpartition("/")[2]: line.split()[0] for line in out.decode().splitlines()}
    assert process.returncode == 0, err
    assert any(line.startswith(f"{job_id} {name}: ") for name, job_id in ids.items() for line in lines)
    for name, job_id in ids.items():
        assert f"{job_id} {name}: {DONE}" in err.decode()


def test_relative_paths_are_those_of_this_directory(inside: Inside, solving: Solving) -> None:
    make_project(solving.home / "here.aedt")

    submit = ("hfss", "submit", "--project-path", "here.aedt", "--ansys-edt-path", "v252/ansysedt", "--wait")
    done = inside(*submit, root="/nowhere")

    assert done.code == 0, done
    command = spec(solving, done.out.strip())["command"]
    assert (command[0], command[-1]) == (
        str(solving.home / "v252/ansysedt"),
        str(solving.home / "here.aedt"),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit"], "Missing option '--project-path'"),
        (["submit", "--project-path", "/nowhere.aedt"], "'/nowhere.aedt' does not exist"),
        (["submit", "--project-path", "/", "--num-cores", "0"], "0 is not in the range"),
        (["submit", "--project-path", "/"], "project_path: '/' is no project"),
        (
            ["submit-scheduler", "--project-path", "/", "--run-limit", "soon"],
            "'--run-limit': 'soon' is no time limit",
        ),
        (["submit-batch", "--root-dir", "/nowhere"], "'/nowhere' does not exist"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(inside: Inside, arguments: Sequence[str], words: str) -> None:
    done = inside("hfss", *arguments)

    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_a_path_that_is_no_text_is_refused(inside: Inside, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna\udcff.aedt")

    done = inside("hfss", "submit", "--project-path", project)

    assert (done.code, done.out) == (2, "")
    assert "has bytes that are not UTF-8" in done.err


def test_without_ansys_here_the_services_is_taken(inside: Inside, solving: Solving, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")

    one = inside("hfss", "submit", "--project-path", project, "--wait", root=None)
    many = inside("hfss", "submit-batch", "--root-dir", str(tmp_path), "--wait", root=None)
    asked = inside("hfss", "submit", "--project-path", project, "--ansys-edt-path", "newest", root="/nowhere")

    assert (one.code, many.code, asked.code) == (0, 0, 0), (one, many, asked)
    for done in (one, many, asked):
        assert spec(solving, done.out.split()[0])["command"][0] == f"{solving.home}/v252/ansysedt"


def test_a_service_without_ansys_is_told_once(inside: Inside, tmp_path: Path) -> None:
    for name in ("antenna", "filter"):
        make_project(tmp_path / f"{name}.aedt")
    away = Commands(tmp_path / "away")
    away.home.mkdir()
    with serving(away) as url:
        service = ("--host", "127.0.0.1", "--port", url.rpartition(":")[2])
        one = inside("hfss", "submit", "--project-path", f"{tmp_path}/antenna.aedt", *service, root=None)
        many = inside("hfss", "submit-batch", "--root-dir", str(tmp_path), *service, root=None)

    said = f"config.ansys_edt_path: no ANSYS Electronics Desktop is known on {platform.node()}: give its path"
    assert (one.code, many.code) == (2, 2)
    assert said in one.err
    assert many.err.count(said) == 1
    assert "0 of 2 projects were submitted" in many.err


def test_without_ansys_the_remedy_is_named(inside: Inside, solving: Solving, tmp_path: Path) -> None:
    submit = ("hfss", "submit", "--project-path", make_project(tmp_path / "antenna.aedt"), "--wait")
    program = f"{solving.home}/v252/ansysedt"

    done = inside(*submit, root="/nowhere")
    many = inside("hfss", "submit-batch", "--root-dir", str(tmp_path), root="/nowhere")
    named = inside(*submit, "--ansys-edt-path", program, root="/nowhere")

    assert (done.code, many.code) == (2, 2)
    assert "ANSYSEM_ROOT252 names /nowhere, where no ansysedt is" in done.err
    assert named.code == 0, named


def test_a_service_that_does_not_answer_is_exit_code_5(inside: Inside, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])

    one = inside("hfss", "submit", "--project-path", project, "--host", "127.0.0.1", "--port", port)
    many = inside("hfss", "submit-batch", "--root-dir", str(tmp_path), "--port", port)

    assert (one.code, many.code) == (5, 5)
    assert "no jobmgr service answers at" in one.err
    assert "0 of 1 projects were submitted" in many.err


def test_a_service_is_named_once(inside: Inside, solving: Solving, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")

    done = inside("--url", solving.url, "hfss", "submit", "--project-path", project, *solving.service)

    assert done.code == 2
    assert "--url names the service already" in done.err


def test_a_simulation_waits_in_the_queue_that_is_named(inside: Inside, tmp_path: Path) -> None:
    submit = ("hfss", "submit", "--project-path", make_project(tmp_path / "antenna.aedt"), "--wait")

    unknown = inside(*submit, "--queue", "urgent")
    assert inside("queue", "limit", "urgent", "1").code == 0
    done = inside(*submit, "--queue", "urgent")

    assert (unknown.code, unknown.out, done.code) == (2, "", 0)
    assert "there is no queue 'urgent'; `jobmgr queue limit urgent N` makes it" in unknown.err
    assert inside("show", "--json", done.out.strip()).json["queue"] == "urgent"


# A scheduler


def test_without_a_scheduler_none_is_taken_for_granted(inside: Inside, tmp_path: Path) -> None:
    project = make_project(tmp_path / "antenna.aedt")

    unnamed = inside("hfss", "submit-scheduler", "--project-path", project)
    named = inside("hfss", "submit-scheduler", "--project-path", project, "--scheduler", "lsf")

    assert (unnamed.code, named.code) == (2, 2)
    assert "--scheduler: the service has no scheduler; name one of" in unnamed.err
    assert "there is no site of the kind lsf" in named.err


@pytest.mark.parametrize(
    ("given", "hours"), [("24", 24), ("1-12:00:00", 36), ("30m", 0.5), ("unlimited", None), ("90:00:00", 90)]
)
def test_a_run_limit_is_hours_a_time_or_none(given: str, hours: float | None) -> None:
    for command in (hfss.submit, hfss.submit_batch, hfss.submit_scheduler):
        (option,) = [one for one in command.params if one.name == "run_limit"]
        time = option.process_value(click.Context(command), given)

        assert SchedulerOptions(time=time).walltime_s == (None if hours is None else hours * 3600)


def test_a_project_is_solved_by_slurm(slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    commands = Solving(tmp_path)
    install_solver(tmp_path / "v252")
    project = make_project(tmp_path / "my projects" / "antenna.aedt")
    with serving(commands) as url:
        service = Solving(tmp_path, url)
        done = service.program(
            "submit_job_on_scheduler",
            *service.service,
            "--project-path",
            project,
            "--cores-per-node",
            "2",
            "--wait",
        )
        told = service.run("show", "--json", done.out.strip()).json

    assert (done.code, done.err.endswith(DONE)) == (0, True), done
    assert (told["site"], told["kind"]) == ("slurm", "hfss")
    assert "numcores=2" in told["spec"]["command"]
    assert "walltime" not in told["spec"]["resources"]
    assert told["progress"]["log"].endswith("/antenna.log")


# Many projects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with projects: two of the same name, one that is a directory, one below, and what is none."""
    root = tmp_path / "studies"
    make_project(root / "a.aedt")
    make_project(root / "a.aedb")
    make_project(root / "b.AEDB".lower())
    make_project(root / "deep" / "er" / "c.aedt")
    make_project(root / "a.aedb" / "inside.aedt")
    (root / "a.aedtresults").mkdir()
    make_project(root / "a.aedtresults" / "inside.aedt")
    (root / "notes.txt").touch()
    return root


def test_projects_of_a_folder_are_found_once(folder: Path) -> None:
    def found(*, recursive: bool) -> list[str]:
        return [str(path.relative_to(folder)) for path in projects.find(folder, recursive=recursive)]

    assert found(recursive=False) == ["a.aedt", "b.aedb"]
    assert found(recursive=True) == ["a.aedt", "b.aedb", "deep/er/c.aedt"]


def test_all_projects_of_a_folder_are_submitted(inside: Inside, folder: Path) -> None:
    done = inside(
        "hfss", "submit-batch", "--root-dir", str(folder), "--recursive", "--delay-ms", "0", "--wait"
    )

    lines = [line.split(" ", 1) for line in done.out.splitlines()]
    assert done.code == 0, done
    assert sorted(path for _, path in lines) == [
        str(folder / name) for name in ("a.aedt", "b.aedb", "deep/er/c.aedt")
    ]
    assert "3 of 3 projects were submitted" in done.err
    assert inside("wait", *(job_id for job_id, _ in lines)).code == 0


def test_one_that_cannot_be_submitted_is_told_and_the_others_are(inside: Inside, folder: Path) -> None:
    (folder / "broken.aedt").symlink_to("nowhere")

    done = inside("hfss", "submit-batch", "--root-dir", str(folder), "--delay-ms", "0", "-v")

    assert done.code == 1
    assert len(done.out.splitlines()) == 2
    assert f"{folder}/broken.aedt: project_path: there is no " in done.err
    assert "2 of 3 projects were submitted" in done.err
    assert f"found {folder}/a.aedt" in done.err
    assert inside("wait", *(line.split()[0] for line in done.out.splitlines())).code == 0


def test_a_folder_without_projects_is_said_to_have_none(inside: Inside, tmp_path: Path) -> None:
    done = inside("hfss", "submit-batch", "--root-dir", str(tmp_path))
    below = inside("hfss", "submit-batch", "--root-dir", str(tmp_path), "--recursive")

    assert (done.code, done.out, below.code) == (3, "", 3)
    assert f"there is no .aedt or .aedb in {tmp_path}; --recursive looks below it" in done.err
    assert f"there is no .aedt or .aedb in {tmp_path} or below it" in below.err


def test_projects_are_submitted_in_the_order_of_their_paths(inside: Inside, tmp_path: Path) -> None:
    names = [f"project_{number:02}.aedt" for number in range(30)]
    for name in reversed(names):
        make_project(tmp_path / "many" / name)

    done = inside(
        *("hfss", "submit-batch", "--root-dir", str(tmp_path / "many"), "--delay-ms", "0"),
        *("--max-concurrent", "30", "--priority", "-7"),
    )
    stored = inside("ls", "--json", "--limit", "0").json

    assert [line.rpartition("/")[2] for line in done.out.splitlines()] == names
    assert [job["name"] for job in reversed(stored) if job["priority"] == -7] == names
    assert inside("wait", *(line.split()[0] for line in done.out.splitlines())).code == 0


def test_an_interrupt_says_what_was_submitted(solving: Solving, folder: Path) -> None:
    process = solving.start(
        *("hfss", "submit-batch", "--root-dir", str(folder), "--max-concurrent", "1", "--delay-ms", "600000")
    )
    assert process.stdout is not None
    first = process.stdout.readline().decode().split()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)

    assert (process.returncode, out) == (130, b"")
    assert err.strip() == b"1 of 2 projects were submitted"
    assert solving.run("wait", first[0]).code == 0


def test_so_many_are_submitted_in_each_pause_as_is_said(solving: Solving, folder: Path) -> None:
    # The pause is so long that none is submitted after one.
    with solving.start(
        *("hfss", "submit-batch", "--root-dir", str(folder), "--recursive"),
        *("--max-concurrent", "2", "--delay-ms", "600000"),
    ) as process:
        assert process.stdout is not None
        impatience = threading.Timer(TIMEOUT_S, process.send_signal, [signal.SIGINT])
        impatience.start()
        lines = [process.stdout.readline().decode() for _ in range(2)]
        impatience.cancel()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)

    assert [line.rstrip().rpartition("/")[2] for line in lines] == ["a.aedt", "b.aedb"], err
    assert (process.returncode, out) == (130, b"")
    assert err.strip() == b"2 of 3 projects were submitted"
    assert solving.run("wait", *(line.split()[0] for line in lines)).code == 0


def test_an_interrupt_names_what_nobody_answered(solving: Solving, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = ("--host", "127.0.0.1", "--port", str(silent.getsockname()[1]))
        process = solving.start(
            *("hfss", "submit-batch", "--root-dir", str(folder), "--max-concurrent", "1", *service)
        )
        silent.settimeout(TIMEOUT_S)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT_S)

    assert (process.returncode, out) == (130, b"")
    assert f"{folder}/a.aedt: sent, and not answered yet; `jobmgr show JOB_".encode() in err
    assert b"0 of 2 projects were submitted" in err


# The old programs


def test_the_old_programs_take_their_old_flags(solving: Solving, folder: Path) -> None:
    one = solving.program(
        *("submit_local_job", *solving.service, "--project-path", str(folder / "a.aedt"), "--num-cores", "2"),
        # Flags count more.
        environment={"PYEDB_JOB_MANAGER_HOST": "127.0.0.2", "PYEDB_JOB_MANAGER_PORT": "1"},
    )
    many = solving.program(
        *("submit_batch_jobs", *solving.service, "--root-dir", str(folder), "--num-cores", "2"),
        *("--max-concurrent", "2", "--delay-ms", "1", "--verbose"),
    )

    assert (one.code, one.err) == (0, ""), one
    assert many.code == 0, many
    assert len(many.out.splitlines()) == 2
    ids = [one.out.strip(), *(line.split()[0] for line in many.out.splitlines())]
    assert solving.run("wait", *ids).code == 0


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("submit_local_job", "--project-path"),
        ("submit_job_on_scheduler", "--project-path"),
        ("submit_batch_jobs", "--root-dir"),
    ],
)
def test_the_variables_of_the_old_programs_name_the_service(
    solving: Solving, tmp_path: Path, name: str, flag: str
) -> None:
    project = make_project(tmp_path / "antenna.aedt")
    named = project if flag == "--project-path" else str(tmp_path)
    (port,) = free(1)
    elsewhere = {"PYEDB_JOB_MANAGER_HOST": "127.0.0.2", "PYEDB_JOB_MANAGER_PORT": str(port)}

    done = solving.program(name, flag, named, environment=elsewhere)

    assert (done.code, done.out) == (5, "")
    assert f"no jobmgr service answers at http://127.0.0.2:{port} " in done.err


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("start_service", "--host --port --max-concurrent --min-disk --min-memory --max-concurrent-jobs"),
        ("job_manager_handler", "--host --port"),
        ("submit_local_job", "--host --port --project-path --num-cores"),
        (
            "submit_job_on_scheduler",
            "--host --port --project-path --partition --nodes --cores-per-node --run-limit",
        ),
        (
            "submit_batch_jobs",
            "--host --port --root-dir --num-cores --recursive --max-concurrent --delay-ms --verbose -v",
        ),
    ],
)
def test_each_old_program_has_its_flags(name: str, flags: str) -> None:
    command, _ = programs.PROGRAMS[name]

    assert set(flags.split()) <= {flag for option in command.params for flag in option.opts}


@pytest.mark.parametrize(
    ("name", "arguments", "limits"),
    [
        ("start_service", [], [1, 80.0, 2.0, 10.0]),
        (
            "start_service",
            [
                *("--max-concurrent", "3", "--max-concurrent-jobs", "2", "--min-disk", "0.5"),
                *("--min-memory", "1"),
            ],
            [2, 80.0, 1.0, 0.5],
        ),
        ("job_manager_handler", ["--max-concurrent", "3"], [3, 80.0, 2.0, 2.0]),
    ],
)
def test_a_service_starts_with_the_limits_of_a_workstation(
    tmp_path: Path, name: str, arguments: list[str], limits: list[float]
) -> None:
    commands = Solving(tmp_path)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            f"jobmgr.compat.pyedb.{name}",
            "--host",
            "localhost",
            "--port",
            "0",
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=commands.environment,
    )
    assert process.stdout is not None
    listening = process.stdout.readline().decode()
    said = process.stdout.readline().decode()
    told = commands.run("limits", "ls", "--json") if listening else None
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=TIMEOUT_S)

    assert listening.startswith("listening on http://localhost:"), err
    assert said.startswith(
        f"at most {limits[0]} at a time; none starts with less than {limits[3]:g} GB of disk"
    )
    assert told is not None
    names = ("max_concurrent_jobs", "max_cpu_percent", "min_memory_gb", "min_disk_gb")
    assert [told.json[name] for name in names] == limits
    assert process.returncode == 0


def test_a_workstations_service_waits_at_its_end_for_what_runs(tmp_path: Path) -> None:
    commands = Solving(tmp_path)
    go = tmp_path / "go"
    command = [sys.executable, "-m", "jobmgr.compat.pyedb.start_service", "--port", "0", "--drain", "wait"]
    free = ("--max-cpu-percent", "100", "--min-memory", "0", "--min-disk", "0")
    with subprocess.Popen(
        [*command, *free],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=commands.environment,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        job_id = commands.submit("--", "sh", "-c", f"echo on; until [ -e {go} ]; do sleep 0.05; done")
        with commands.start("logs", "--follow", job_id) as followed:
            assert followed.stdout is not None
            began = followed.stdout.readline()
            followed.terminate()
        process.send_signal(signal.SIGTERM)
        told_until(process, "draining: 1 running")
        go.touch()
        process.communicate(timeout=TIMEOUT_S)

    assert (began, process.returncode) == (b"on\n", 0)
    with serving(commands):
        assert commands.run("show", "--json", job_id).json["status"] == "completed"


def test_limits_of_a_workstation_are_first_ones_and_its_own(tmp_path: Path) -> None:
    commands = Solving(tmp_path)
    start = ("hfss", "start", "--port", "0")

    def limits() -> list[float | None]:
        told = commands.run("limits", "ls", "--json").json
        return [told["max_concurrent_jobs"], told["min_disk_gb"]]

    with serving(commands, command=start):
        first = limits()
        for name, value in (("max_concurrent_jobs", "4"), ("min_disk_gb", "3")):
            assert commands.run("limits", "set", name, value).code == 0
    with serving(commands, command=start):
        again = limits()
    with serving(commands, "--min-disk", "5", command=start):
        flagged = limits()
    with serving(commands):
        plain = limits()

    assert (first, again, flagged, plain) == (
        [1, 10.0],
        [4, 3.0],
        [4, 5.0],
        [len(os.sched_getaffinity(0)), None],
    )
