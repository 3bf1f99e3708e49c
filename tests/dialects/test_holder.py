"""The shell text that holds an attempt, in real shells: gate, command, record."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobmgr.credential import Reference, Source
from jobmgr.dialects import holder
from jobmgr.errors import InvalidRequest
from jobmgr.executors import gate
from jobmgr.failure import Failure
from tests.dialects.shell import install

SHELLS = [shell for name in ("dash", "bash", "mksh", "busybox") if (shell := shutil.which(name))]
TOKEN = "0123456789abcdef"
WITHIN_S = 60


@dataclass
class Site:
    """A work directory with one attempt, and a shell that runs its script."""

    shell: str
    root: Path

    def __post_init__(self) -> None:
        gate.make_with_run(str(self.control), str(self.run_dir), TOKEN)

    @property
    def control(self) -> Path:
        return self.root / "control"

    @property
    def run_dir(self) -> Path:
        return self.root / "run"

    def script(self, *command: str, **asked: Any) -> Path:
        element = holder.Element("lab", str(self.control), str(self.run_dir), TOKEN, command, **asked)
        text = holder.body(
            holder.describe(element), id_word="${TEST_ID-17}", restarts_word="${TEST_RESTARTS:-0}"
        )
        path = self.root / "script"
        path.write_text(text)
        return path

    def arguments(self, script: Path) -> list[str]:
        return [self.shell, *(["sh"] if self.shell.endswith("busybox") else []), str(script)]

    def run(self, *command: str, **asked: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.arguments(self.script(*command, **asked)),
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )

    def record(self) -> dict[str, Any]:
        record = gate.read_exit(str(self.control))
        assert record is not None
        return record

    def decision(self) -> dict[str, Any]:
        decision = gate.read(str(self.control))
        assert decision is not None
        return decision

    def out(self) -> str:
        return (self.run_dir / "stdout").read_text()


@pytest.fixture(params=SHELLS, ids=[Path(shell).name for shell in SHELLS])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    return Site(request.param, tmp_path)


def test_gate_and_record_tell_of_the_run(site: Site) -> None:
    ended = site.run("sh", "-c", "echo said; echo complained >&2; exit 3")
    assert ended.returncode == 3
    assert site.out() == "said\n"
    assert (site.run_dir / "stderr").read_text() == "complained\n"
    decision, record = site.decision(), site.record()
    assert decision["token"] == record["token"] == TOKEN
    assert {name: decision["holder"][name] for name in ("site", "id", "restarts")} == {
        "site": "lab",
        "id": "17",
        "restarts": 0,
    }
    assert (record["exit_code"], record["signal"], record["error"]) == (3, None, None)
    assert record["started_at"] == decision["holder"]["at"] <= record["ended_at"]
    # Nothing private is left behind.
    assert sorted(os.listdir(site.control)) == ["exit", "gate", "token"]


@pytest.mark.parametrize("trap", ["plain", "it's", "$(touch ran)", "a;b"])
def test_secret_is_read_from_its_file_and_stands_in_no_script(site: Site, trap: str) -> None:
    secret = "a 'b' \"c\" $HOME `d`\nsecond line"
    key = site.root / trap
    key.write_text(f"{secret}\n\n")
    env = {"A": Reference(Source.FILE, str(key)), "B": "plain"}

    # A job that traces its own setup does not trace what we do.
    ended = site.run("sh", "-c", 'printf "%s|%s" "$A" "$B"', env=env, setup=("set -x",))

    assert (ended.returncode, site.out()) == (0, f"{secret}|plain")
    assert "second line" not in (site.root / "script").read_text() + (site.run_dir / "stderr").read_text()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, os.mkfifo, None])
def test_secret_that_is_not_there_is_the_end_and_named(site: Site, make: Any) -> None:
    if make is not None:
        make(site.root / "key")

    ended = site.run("true", env={"A": Reference(Source.FILE, f"{site.root}/key")})

    assert ended.returncode == 1
    error = site.record()["error"]
    assert error["code"] == Failure.SECRET_UNAVAILABLE
    assert error["message"].startswith("env.A: ")
    assert (site.out(), (site.run_dir / "stderr").read_text()) == ("", "")


@pytest.mark.parametrize("source", [Source.ENV, Source.KEYRING])
def test_secret_that_is_no_file_is_refused(site: Site, source: Source) -> None:
    with pytest.raises(InvalidRequest) as refused:
        site.script("true", env={"A": Reference(source, "s/n")})

    assert refused.value.field == "env.A.secret"


def test_second_run_is_refused_and_starts_nothing(site: Site) -> None:
    site.run("sh", "-c", "echo once")
    before = site.decision(), site.record()
    again = site.run("sh", "-c", "echo twice")
    assert again.returncode == holder.REFUSED
    assert site.out() == "once\n"
    assert (site.decision(), site.record()) == before
    assert sorted(os.listdir(site.control)) == ["exit", "gate", "token"]


def test_one_of_many_at_once_runs(site: Site) -> None:
    script = site.script("sh", "-c", f"echo ran >> {site.root}/runs")
    runs = [subprocess.Popen(site.arguments(script), stderr=subprocess.DEVNULL) for _ in range(12)]
    codes = sorted(run.wait(WITHIN_S) for run in runs)
    assert codes == [0] + [holder.REFUSED] * 11
    assert (site.root / "runs").read_text() == "ran\n"


def test_void_attempt_does_not_run(site: Site) -> None:
    assert gate.void(str(site.control), TOKEN, "cancelled")
    assert site.run("touch", str(site.root / "ran")).returncode == holder.REFUSED
    assert not (site.root / "ran").exists()


@pytest.mark.parametrize("spoil", ["remove", "other"])
def test_directory_of_no_or_another_attempt_starts_nothing(site: Site, spoil: str) -> None:
    if spoil == "remove":
        shutil.rmtree(site.control)
    else:
        (site.control / "token").write_text("another")
    assert site.run("touch", str(site.root / "ran")).returncode == holder.REFUSED
    assert not (site.root / "ran").exists()


def test_full_disk_starts_nothing_and_leaves_the_gate_undecided(site: Site) -> None:
    script = site.script("touch", str(site.root / "ran"))
    limited = subprocess.run(
        ["bash", "-c", 'ulimit -f 0; trap "" XFSZ; exec "$@"', "bash", *site.arguments(script)],
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert limited.returncode == holder.REFUSED
    assert gate.read(str(site.control)) is None
    assert not (site.root / "ran").exists()


@pytest.mark.parametrize(
    ("command", "asked", "code"),
    [
        (["no-such-program"], {}, Failure.PROGRAM_NOT_FOUND),
        (["./no-such-program"], {}, Failure.PROGRAM_NOT_FOUND),
        (["/etc/passwd"], {}, Failure.NOT_EXECUTABLE),
        (["true"], {"cwd": "/no/such/directory"}, Failure.CWD_NOT_FOUND),
    ],
)
def test_what_cannot_be_started_is_recorded_as_that(
    site: Site, command: list[str], asked: dict[str, Any], code: str
) -> None:
    site.run(*command, **asked)
    record = site.record()
    assert record["error"]["code"] == code
    assert (record["exit_code"], record["signal"]) == (None, None)


@pytest.mark.parametrize("code", [holder.REFUSED - 1, holder.REFUSED])
@pytest.mark.parametrize("is_purged", [False, True])
def test_command_that_ends_as_a_refusal_does_is_not_taken_for_one(
    site: Site, code: int, *, is_purged: bool
) -> None:
    """Where its record was lost the scheduler's word is all that is left of its end."""
    purge = f"rm -r {site.control}; " if is_purged else ""

    ended = site.run("sh", "-c", f"{purge}exit {code}")

    assert ended.returncode != holder.REFUSED
    assert is_purged or site.record()["exit_code"] == code


@pytest.mark.parametrize("code", [0, 1, 126, 127, 137, 255])
def test_exit_code_is_the_commands_own(site: Site, code: int) -> None:
    site.run("sh", "-c", f"exit {code}")
    assert site.record()["exit_code"] == code


@pytest.mark.parametrize("code", [0, 5, 127, 143])
def test_signal_of_the_scheduler_is_the_commands_and_its_end_is_recorded(site: Site, code: int) -> None:
    # The command says when it is ready to be signalled.
    os.mkfifo(site.root / "ready")
    script = site.script(
        "sh", "-c", f"trap 'exit {code}' TERM; echo > {site.root}/ready; while :; do sleep 0.01; done"
    )
    run = subprocess.Popen(site.arguments(script))
    (site.root / "ready").read_text()
    run.send_signal(signal.SIGTERM)
    run.wait(WITHIN_S)
    assert site.record()["exit_code"] == code
    assert site.record()["signals"] == "TERM"


def test_command_killed_by_a_signal_has_the_shells_number(site: Site) -> None:
    site.run("sh", "-c", "kill -9 $$")
    assert site.record()["exit_code"] == 128 + 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_command_ignores_no_signal(site: Site, number: signal.Signals) -> None:
    site.run("sh", "-c", f"ulimit -c 0; kill -{number} $$; exit 3")
    assert site.record()["exit_code"] == 128 + number


@pytest.mark.parametrize("has_gnu_env", [True, False])
@pytest.mark.parametrize("name", ["program", "a=program"])
def test_command_runs_as_it_is_called(site: Site, name: str, *, has_gnu_env: bool) -> None:
    """Also where what undoes that it ignores signals is not there, or would take its name for something else."""
    programs = site.root / "programs"
    programs.mkdir()
    install(programs, name, 'printf "<%s>" "$@"')
    if not has_gnu_env:
        install(programs, "env", "exit 125")

    site.run(name, "x=1", "-i", env={"PATH": f"{programs}:/usr/bin:/bin"})

    assert site.out() == "<x=1><-i>"
    assert site.record()["exit_code"] == 0


def test_set_up_and_environment_come_before_the_command(site: Site) -> None:
    site.run(
        "sh",
        "-c",
        'echo "$GREETING, $NAME"',
        setup=("GREETING=hello", "export GREETING"),
        env={"NAME": "it's $HOME\n;x"},
    )
    assert site.out() == "hello, it's $HOME\n;x\n"


@pytest.mark.parametrize("line", ["if (", "'", "exit 4"])
def test_set_up_that_ends_or_cannot_be_read_is_the_end_of_the_attempt(site: Site, line: str) -> None:
    site.run("touch", str(site.root / "ran"), setup=(line,))
    assert site.record()["exit_code"] != 0
    assert not (site.root / "ran").exists()


def test_set_up_line_that_fails_is_not_the_end(site: Site) -> None:
    site.run("echo", "ran", setup=("false",))
    assert site.out() == "ran\n"


def test_module_that_is_not_there_fails_the_job(site: Site) -> None:
    site.run("touch", str(site.root / "ran"), modules=("ansys/2026",))
    assert site.record()["exit_code"] == 1
    assert not (site.root / "ran").exists()


def test_module_is_loaded_by_the_sites_own_command(site: Site) -> None:
    init = site.root / "modules" / "init"
    init.mkdir(parents=True)
    (init / "sh").write_text('module() { export LOADED="$1 $2"; }\n')
    os.environ["MODULESHOME"] = str(init.parent)
    try:
        site.run("sh", "-c", 'echo "$LOADED"', modules=("it's; odd",))
    finally:
        del os.environ["MODULESHOME"]
    assert site.out() == "load it's; odd\n"


def test_name_that_no_shell_can_set_is_refused() -> None:
    element = holder.Element("lab", "/c", "/r", TOKEN, ("true",), env={"A-B": "1"})
    with pytest.raises(InvalidRequest, match="letters, digits and _"):
        holder.describe(element)


def test_id_of_a_run_cannot_forge_its_gate(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ID", '9", "forged": "x')
    monkeypatch.setenv("TEST_RESTARTS", "2")
    site.run("true")
    assert site.decision()["holder"]["id"] == "9forged:x"
    assert site.decision()["holder"]["restarts"] == 2


# What an argument can be: no NUL, and no half characters.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@pytest.mark.parametrize("shell", SHELLS, ids=[Path(shell).name for shell in SHELLS])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=st.lists(TEXTS, max_size=4), value=TEXTS, cwd=st.text("ab '\"$;\n", min_size=1, max_size=8))
def test_text_arrives_as_it_was_written(
    shell: str,
    arguments: list[str],
    value: str,
    cwd: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    site = Site(shell, tmp_path_factory.mktemp("site"))
    directory = site.root / cwd
    directory.mkdir()
    show = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['VALUE'], os.getcwd()]))"
    site.run(
        "python3",
        "-c",
        show,
        *arguments,
        env={"VALUE": value, "PYTHONUTF8": "1"},
        cwd=str(directory),
    )
    assert site.record()["exit_code"] == 0
    assert json.loads(site.out()) == [arguments, value, str(directory)]


def test_what_the_site_exports_reaches_the_command_unchanged(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("token", "run", "code", "name", "host", "at", "text"):
        monkeypatch.setenv(name, "the site's own")
    site.run("sh", "-c", "echo $token $run $code $name $host $at $text; env | grep -c _jm_")
    assert site.out() == f"{' '.join(['the', 'site' + chr(39) + 's', 'own'] * 7)}\n0\n"


@pytest.mark.parametrize("shell", SHELLS, ids=[Path(shell).name for shell in SHELLS])
def test_shells_can_read_the_script(shell: str, tmp_path: Path) -> None:
    site = Site(shell, tmp_path)
    script = site.script("echo", "it's", env={"A": "\n"}, modules=("m",), setup=("x=1",), cwd="/tmp")
    arguments = site.arguments(script)
    checked = subprocess.run([*arguments[:-1], "-n", arguments[-1]], capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
