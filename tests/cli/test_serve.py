"""`serve`, `db` and `demo`: the service from the shell, and what it does not start on."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cli.conftest import Commands

Start = Callable[..., AbstractContextManager[str]]


def test_the_command_finds_the_service_of_its_home(commands: Commands, restartable: Start) -> None:
    with restartable() as url:
        left = json.loads((commands.home / "service.json").read_bytes())
        listed = commands.run("ls", "--json")

    assert left["url"] == url
    assert (listed.code, listed.json) == (0, [])
    assert not (commands.home / "service.json").exists()
    assert commands.run("ls", environment={"JOBMGR_PORT": "1"}).code == 5


def test_a_command_never_runs_in_the_service_of_another_home(
    commands: Commands, restartable: Start, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with restartable() as url:
        # The port that a service of the other home would have is the one of this service.
        port = str(urlsplit(url).port)
        done = Commands(other).run("submit", "--", "true", environment={"JOBMGR_PORT": port})
        listed = commands.run("ls", "--ids")

    assert (done.code, done.out, listed.out) == (5, "", "")
    assert f"no jobmgr service of {other} runs" in done.err


def test_a_second_service_on_the_same_file_is_refused(commands: Commands, restartable: Start) -> None:
    with restartable():
        second = commands.run("serve", "--port", "0")
        still = commands.run("ls")

    assert (second.code, second.out) == (4, "")
    assert second.err.splitlines()[-1].startswith("jobmgr: ")
    assert "Traceback" not in second.err
    assert still.code == 0


def test_a_port_that_is_taken_is_refused(commands: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        done = commands.run("serve", "--port", str(port))

    assert done.code == 4
    assert f"127.0.0.1:{port}" in done.err
    assert "choose another host or port" in done.err


def test_who_opens_the_service_to_others_is_told_so(commands: Commands) -> None:
    with commands.start("serve", "--port", "0", "--host", "0.0.0.0") as service:
        assert service.stdout is not None
        first, second = service.stdout.readline(), service.stdout.readline()
        service.terminate()
        service.communicate(timeout=30)

    assert first.startswith(b"listening on http://127.0.0.1:")
    port = int(first.decode().rpartition(":")[2])
    assert f"on all addresses, as http://{socket.gethostname()}:{port}; every request" in second.decode()
    assert f"every request needs the token in {commands.home / 'token'}" in second.decode()
    assert b"tokens travel in clear" in second
    assert b"`jobmgr token make`" in second


def test_who_asks_for_tokens_or_a_socket_is_told_what_they_get(commands: Commands) -> None:
    path = commands.home / "s"
    (commands.home / "jobmgr.toml").write_text("require_token = true\n")
    with commands.start("serve", "--port", "0", "--socket", str(path)) as service:
        assert service.stdout is not None
        _, second, third = (service.stdout.readline().decode() for _ in range(3))
        listed = [
            commands.run("--url", f"unix:{path}", "ls", environment=environment)
            for environment in ({}, {"JOBMGR_TOKEN": "none"})
        ]
        service.terminate()
        service.communicate(timeout=30)

    assert second == f"and on unix:{path}\n"
    assert third.startswith(f"every request needs the token in {commands.home / 'token'}")
    # The command line shows its own user's token by itself.
    assert [done.code for done in listed] == [0, 4]
    assert not path.exists()


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("db", "check"), ("db", "upgrade")])
def test_a_file_that_is_no_database_is_refused(commands: Commands, command: tuple[str, ...]) -> None:
    file = commands.home / "notes.txt"
    file.write_text("these are my notes, and nothing else\n" * 100)

    done = commands.run(*command, "--database", f"sqlite:///{file}")

    assert (done.code, done.out) == (4, "")
    assert "Traceback" not in done.err
    assert "notes.txt" in done.err
    assert file.read_text().startswith("these are my notes")


def test_a_database_that_does_not_answer_is_like_a_service_that_does_not(commands: Commands) -> None:
    done = commands.run("db", "check", "--database", "postgresql://127.0.0.1:1/jobs")

    assert (done.code, done.out) == (5, "")
    assert "Traceback" not in done.err


def test_a_database_of_a_newer_version_is_refused(commands: Commands) -> None:
    assert commands.run("db", "upgrade").code == 0
    with sqlite3.connect(commands.home / "jobs.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    done = commands.run("serve", "--port", "0")

    assert (done.code, done.out) == (4, "")
    assert "newer" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (("db", "check", "--database", "sqlite:///a.db?timeout=x"), {}, "timeout='x'"),
        (("db", "check", "--database", "sqlite:///a.db?foo=1"), {}, "'foo' is not an option"),
        (("db", "check", "--database", "postgresql://u:secret@h/d?foo=1"), {}, "'foo' is not an option"),
        (("--url", "http://u:secret@127.0.0.1:9", "ls"), {}, "JOBMGR_TOKEN"),
        (("--url", "http://127.0.0.1:9", "ls"), {"JOBMGR_TOKEN": "secret\nb"}, "line break"),
    ],
)
def test_an_address_that_nobody_can_use_is_refused_without_its_secret(
    commands: Commands, arguments: tuple[str, ...], environment: dict[str, str], sentence: str
) -> None:
    done = commands.run(*arguments, environment=environment)

    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert "Traceback" not in done.err
    assert "secret" not in done.err


def test_the_end_of_a_service_leaves_the_address_of_another(commands: Commands, restartable: Start) -> None:
    file = commands.home / "service.json"
    with restartable():
        other = json.loads(file.read_bytes()) | {"url": "http://127.0.0.1:9"}
        file.write_text(json.dumps(other))

    assert json.loads(file.read_bytes()) == other


def test_db_check_tells_whether_an_upgrade_is_needed(commands: Commands) -> None:
    before = commands.run("db", "check")
    assert list(commands.home.iterdir()) == []
    upgraded = commands.run("db", "upgrade")
    after = commands.run("db", "check")

    assert before.code == 4
    assert "db upgrade" in before.err
    assert (commands.home / "jobs.db").stat().st_mode & 0o777 == 0o600
    assert (upgraded.code, after.code) == (0, 0)
    assert "revision" in after.out


def test_wrong_settings_are_named(commands: Commands) -> None:
    done = commands.run("serve", "--port", "0", environment={"JOBMGR_MAX_CPU_PERCENT": "a lot"})

    assert done.code == 2
    assert "max_cpu_percent: 'a lot' (environment)" in done.err
    assert commands.run("serve", "--port", "99999").code == 2
    assert commands.run("serve", "--port", "0", "--max-concurrent-jobs", "0").code == 2


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("port = 99999", "port: 99999 (jobmgr.toml) is not a whole number from 0 to 65535"),
        ("port = -1", "port: -1 (jobmgr.toml) is not a whole number from 0 to 65535"),
        ("port = 80.5", "port: 80.5 (jobmgr.toml) is not a whole number from 0 to 65535"),
        ("port = true", "port: True (jobmgr.toml) is not a whole number from 0 to 65535"),
        ("poll_s = 0", "poll_s: 0 (jobmgr.toml) is not a number of seconds from 0.01 to 3600"),
        ("poll_s = [1]", "poll_s: [1] (jobmgr.toml) is not a number of seconds from 0.01 to 3600"),
        (
            "cancel_grace_s = -1",
            "cancel_grace_s: -1 (jobmgr.toml) is not a number of seconds from 0 to 86400",
        ),
        ("cancel_grace_s = nan", "cancel_grace_s: nan (jobmgr.toml) is not a number of seconds"),
        ("max_cpu_percent = nan", "max_cpu_percent: nan (jobmgr.toml) is not a number"),
        ("max_concurrent_jobs = 0", "max_concurrent_jobs: 0 is not between 1 and 100000"),
        ("host = 5", "host: 5 (jobmgr.toml) is not the name or address of a host"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(commands: Commands, setting: str, sentence: str) -> None:
    (commands.home / "jobmgr.toml").write_text(setting)

    done = commands.run("serve", *(() if "port" in setting else ("--port", "0")))

    assert (done.code, done.out) == (2, "")
    assert sentence in done.err


def test_a_service_that_drains_still_answers(commands: Commands, restartable: Start) -> None:
    go = commands.home / "go"
    service = commands.start("serve", "--port", "0", "--drain", "wait")
    assert service.stdout is not None
    assert service.stderr is not None
    service.stdout.readline()
    running = commands.submit("--", "sh", "-c", f"echo on; while [ ! -e {go} ]; do sleep 0.05; done")
    eventually(lambda: commands.run("logs", running).out == "on\n")
    service.terminate()
    assert any(b"draining: 1 running" in line for line in service.stderr)

    late = commands.submit("--", "true")
    why = commands.run("why", late)
    listed = commands.run("ls", "--json")
    cancelled = commands.run("cancel", commands.submit("--", "true"))
    go.touch()
    service.communicate(timeout=60)
    with restartable():
        ended = commands.run("wait", running, late)

    assert service.returncode == 0
    assert "stopping" in why.out
    assert {job["job_id"]: job["status"] for job in listed.json} == {running: "running", late: "queued"}
    assert (cancelled.code, ended.code) == (0, 0)


def test_a_second_signal_ends_the_draining(commands: Commands, restartable: Start) -> None:
    with restartable("--drain", "wait"):
        go = commands.home / "go"
        job_id = commands.submit("--", "sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done")
        eventually(lambda: commands.run("show", "--json", job_id).json["status"] == "running")
        signal_service(commands)
        eventually(lambda: "a second signal" in (commands.home / "service.log").read_text())
        # The fixture sends the second one.
    go.touch()
    with restartable():
        ended = commands.run("wait", job_id)
        shown = commands.run("show", "--json", job_id)

    assert (ended.code, shown.json["attempt"]) == (0, 1)


def signal_service(commands: Commands) -> None:
    os.kill(json.loads((commands.home / "service.json").read_bytes())["pid"], signal.SIGTERM)


def eventually(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_log_tells_limits_ends_cancels_and_what_is_left(commands: Commands, restartable: Start) -> None:
    with restartable("--max-concurrent-jobs", "3"):
        failed = commands.submit("--", "sh", "-c", "exit 3")
        commands.run("wait", failed)
        cancelled = commands.submit("--", "sleep", "60")
        eventually(lambda: commands.run("show", "--json", cancelled).json["status"] == "running")
        commands.run("cancel", cancelled)
        commands.run("wait", cancelled)
        go = commands.home / "go"
        left = commands.submit("--", "sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done")
        eventually(lambda: commands.run("show", "--json", left).json["status"] == "running")

    lines = [line.split(": ", 1)[1] for line in (commands.home / "service.log").read_text().splitlines()]
    assert "started; limits: max_concurrent_jobs 3" in lines
    assert f"job {failed} is failed: attempt 1 failed (exit_code), exit code 3" in lines
    assert f"job {cancelled} attempt 1 is being cancelled" in lines
    assert lines[-1] == "stopped; 1 running job left to run on"
    go.touch()
    with restartable():
        assert commands.run("wait", left).code == 0


def test_a_wait_survives_a_restart_of_the_service(commands: Commands, restartable: Start) -> None:
    with restartable():
        go = commands.home / "go"
        job_id = commands.submit("--", "sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done; echo done")
        waiting = commands.start("wait", job_id)
        following = commands.start("logs", "-f", job_id)
        assert commands.run("wait", "--timeout", "1", job_id).code == 4
    go.touch()
    # On another port: those who wait look again where the service of this home is.
    with restartable(), waiting, following:
        out, _ = following.communicate(timeout=60)
        waiting.communicate(timeout=60)

        assert commands.run("show", "--json", job_id).json["attempt"] == 1
    assert (waiting.returncode, following.returncode, out) == (0, 0, b"done\n")


def test_help_is_fast_because_it_imports_next_to_nothing(commands: Commands) -> None:
    script = (
        "import sys; from jobmgr.cli.main import run; code = run(['--help']); "
        "print(sorted({'aiohttp', 'rich', 'msgspec', 'asyncio', 'sqlalchemy'} & sys.modules.keys())); sys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=commands.environment, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_of_the_list_has_a_help(commands: Commands) -> None:
    listed = commands.run("--help").out.split("Commands:\n")[1].splitlines()
    names = [line.split()[0] for line in listed]
    script = f"from jobmgr.cli.main import run; print([run([name, '--help']) for name in {names}])"

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=commands.environment, check=True
    )

    assert done.stdout.splitlines()[-1] == str([0] * len(names))
    assert all(f"Usage: jobmgr {name} " in done.stdout for name in names)
    assert {"serve", "submit", "ls", "show", "why", "logs", "cancel", "retry", "hold", "release"} <= {*names}
    assert {"priority", "wait", "watch", "queue", "db", "demo"} <= {*names}


def test_the_demo_runs_by_itself_and_leaves_no_service(commands: Commands) -> None:
    done = commands.run("demo", environment={"TMPDIR": str(commands.home)})

    assert done.code == 0, done
    assert "56 completed, 3 failed, 1 cancelled" in done.out
    (home,) = commands.home.glob("jobmgr-demo-*")
    assert f"JOBMGR_HOME={home} jobmgr serve" in done.out
    assert not (home / "service.json").exists()


def test_a_demo_that_is_kept_can_be_looked_at(commands: Commands) -> None:
    done = commands.run("demo", "--keep", environment={"TMPDIR": str(commands.home)})

    (home,) = commands.home.glob("jobmgr-demo-*")
    left = json.loads((home / "service.json").read_bytes())
    try:
        assert done.code == 0, done
        assert f"kill {left['pid']}" in done.out
        assert len(Commands(home).run("ls", "--ids").out.split()) == 60
    finally:
        os.kill(left["pid"], 15)


def test_service_does_not_start_with_a_token_that_others_may_know(commands: Commands) -> None:
    (commands.home / "token").write_text("s3cret")
    (commands.home / "token").chmod(0o644)

    done = commands.run("serve", "--port", "0")

    assert (done.code, done.out) == (4, "")
    assert "chmod 600" in done.err
    assert "s3cret" not in done.err


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        (f"jm_0123456789ab_{'s3cret-' * 6}x", "holds an API token"),
        (f"jmj_job.1.{'s3cret-' * 6}x", "holds an API token"),
        ("s3cret-s3cret-s", "fewer than 16 characters"),
    ],
)
@pytest.mark.parametrize("place", ["variable", "reference", "file"])
def test_service_does_not_make_a_token_the_owners_that_cannot_be(
    commands: Commands, token: str, sentence: str, place: str
) -> None:
    file = commands.home / ("token" if place == "file" else "mine")
    file.write_text(f"{token}\n")
    file.chmod(0o600)
    given = {"variable": {"JOBMGR_TOKEN": token}, "reference": {"JOBMGR_TOKEN": f"file:{file}"}, "file": {}}

    done = commands.run("serve", "--port", "0", environment=given[place])

    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
    assert ("setting `token`" in done.err) is (place != "file")
    assert "s3cret" not in done.err


def test_the_log_tells_where_the_owners_token_is_from(
    commands: Commands, restartable: Start, tmp_path: Path
) -> None:
    (tmp_path / "jobmgr.toml").write_text('token = "s3cret-s3cret-s3cret"\n')
    with restartable():
        pass
    (tmp_path / "jobmgr.toml").unlink()
    with restartable():
        pass

    log = (commands.home / "service.log").read_text()
    assert "the owner's token is that of the setting `token`" in log
    assert f"the owner's token is that of {commands.home / 'token'}" in log
    assert "s3cret" not in log


def test_a_misspelt_variable_is_warned_of_in_the_log_and_beside_the_address(commands: Commands) -> None:
    environment = {"JOBMGR_REQUIRE_TOKN": "true", "JOBMGR_X": "1", "JOBMGR_JOB_ID": "of a job"}
    with commands.start("serve", "--port", "0", environment=environment) as service:
        assert service.stdout is not None
        _, *warnings = (service.stdout.readline().decode() for _ in range(3))
        service.terminate()
        _, log = service.communicate(timeout=30)

    said = "JOBMGR_REQUIRE_TOKN is no setting and does nothing; did you mean JOBMGR_REQUIRE_TOKEN?"
    assert warnings == [f"warning: {said}\n", "warning: JOBMGR_X is no setting and does nothing\n"]
    assert said in log.decode()
    assert log.decode().count("is no setting") == 2
