"""`jobmgr doctor` as a program, on installations that are in order, new, or broken."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import jobmgr
from tests.cli.conftest import COMMAND, Commands, serving
from tests.patience import eventually
from tests.postgresql import Cluster

NOBODY = 65534


def doctor(commands: Commands, *arguments: str, code: int | None = None, **variables: str) -> dict[str, Any]:
    """What it says as JSON, by the names of the checks. It must end well, whatever it finds."""
    done = commands.run("doctor", "--json", *arguments, environment=variables)
    assert done.err == ""
    assert done.code in (0, 1) if code is None else done.code == code, done.out
    answer = done.json
    assert (answer["verdict"] == "problem") == (done.code == 1)
    return {check["name"]: check for check in answer["checks"]}


def says(check: Mapping[str, str], verdict: str, *words: str) -> bool:
    assert check["verdict"] == verdict, check
    assert all(word in check["found"] + check["remedy"] for word in words), check
    return bool(check["remedy"]) == (verdict != "ok")


def traces(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All files below, with what would change if somebody wrote, moved or replaced them."""
    stats = {str(path.relative_to(folder)): path.lstat() for path in folder.rglob("*") if path.is_file()}
    return {name: (one.st_ino, one.st_size, one.st_mtime_ns) for name, one in stats.items()}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a service that has run a job and was stopped."""
    commands = Commands(tmp_path_factory.mktemp("template") / "home")
    commands.home.mkdir()
    with serving(commands):
        commands.submit("--wait", "--", "true")
    (commands.home / "service.log").unlink()
    return commands.home


@pytest.fixture
def used(template: Path, tmp_path: Path) -> Commands:
    """An installation that a service has served, and that nobody serves now."""
    shutil.copytree(template, tmp_path / "home")
    return Commands(tmp_path / "home")


def test_before_the_first_use_it_says_what_to_do_and_makes_nothing(tmp_path: Path) -> None:
    commands = Commands(tmp_path)

    found = doctor(commands, code=0, JOBMGR_HOME=str(tmp_path / "home"))
    shown = commands.run("doctor", environment={"JOBMGR_HOME": str(tmp_path / "home")})

    assert says(found["database"], "warning", "none yet", "jobmgr serve")
    assert says(found["work directory"], "warning", "not there yet", "jobmgr serve")
    assert says(found["service"], "warning", "jobmgr serve")
    assert says(found["locking"], "ok")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[0].split() == ["CHECK", "RESULT", "FOUND"]
    assert "database, work directory: run `jobmgr serve`, which makes it" in shown.out.splitlines()
    assert list(tmp_path.iterdir()) == []


def test_a_service_at_work_is_found_in_order(service: Commands) -> None:
    service.submit("--wait", "--", "true")

    found = doctor(service, code=0)

    assert {name for name, check in found.items() if check["verdict"] != "ok"} == set()
    assert says(found["service"], "ok", "is ready", jobmgr.__version__)
    assert says(found["settings"], "ok", "JOBMGR_HOME")


def test_a_visit_to_a_stopped_installation_changes_nothing(used: Commands) -> None:
    before = traces(used.home)

    found = doctor(used, "--full", code=0)

    assert says(found["service"], "warning", "none is running")
    assert says(found["integrity"], "ok", "no damage")
    assert traces(used.home) == before


async def test_a_killed_service_is_told_and_so_is_one_that_hangs(commands: Commands) -> None:
    process = commands.start("serve", "--port", "0")
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        hanging = doctor(commands, code=1)
        process.kill()
        process.wait(30)
    killed = doctor(commands, code=0)

    assert says(hanging["service"], "problem", "does not answer", str(process.pid))
    assert says(hanging["dispatchers"], "problem", f"kill -CONT {process.pid}")
    assert says(killed["service"], "warning", "was killed", "jobmgr serve")


def test_who_gets_in_is_told_as_the_service_was_told_it(commands: Commands) -> None:
    path = commands.home / "s"
    (commands.home / "jobmgr.toml").write_text(
        'require_token = true\nallowed_hosts = "jobs.example.org"\nallowed_origins = "https://a.example"\n'
    )
    with serving(commands, "--host", "0.0.0.0", "--socket", str(path)):
        (commands.home / "jobmgr.toml").unlink()
        found = doctor(commands, code=0)

    assert says(found["service"], "ok", "; host 0.0.0.0; require_token true", f"; socket {path}")
    assert says(found["service"], "ok", "; allowed_hosts jobs.example.org; allowed_origins https://a.example")


def test_a_service_that_wants_a_token_is_not_taken_for_dead(commands: Commands) -> None:
    with serving(commands, "--host", "0.0.0.0"):
        found = doctor(commands, code=0, JOBMGR_TOKEN="wrong")
        right = doctor(commands, code=0)

    assert says(found["service"], "warning", "lives", "JOBMGR_TOKEN")
    assert says(right["service"], "ok")


class _OtherVersion(BaseHTTPRequestHandler):
    """A service as it was or will be."""

    def do_GET(self) -> None:
        answer: dict[str, Any] = {"status": "ok", "info": {"version": "0.0.9"}}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


def test_a_service_of_another_version_is_told(commands: Commands) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _OtherVersion) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = doctor(commands, code=0, JOBMGR_URL=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()

    assert says(found["service"], "warning", "0.0.9", jobmgr.__version__, "restart")


def test_a_service_whose_database_is_away_is_not_ready(
    commands: Commands, postgresql: Cluster, postgresql_url: str
) -> None:
    name = sa.make_url(postgresql_url).database
    with serving(commands, "--database", postgresql_url):
        postgresql.execute(
            f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )
        found = doctor(commands, "--database", postgresql_url, code=1)
        postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    assert says(found["database"], "problem", "not currently accepting connections")
    assert says(found["service"], "problem", "not ready")
    assert says(found["attempts"], "warning", "not checked")


@pytest.mark.parametrize("is_silent", [True, False])
def test_a_server_that_cannot_be_reached_is_given_up_in_time(commands: Commands, *, is_silent: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1] if is_silent else 1
        url = f"postgresql://ada:topsecret@127.0.0.1:{port}/jobs?password=topsecret"
        done = commands.run("doctor", "--json", environment={"JOBMGR_DATABASE": url})

    assert (done.code, done.err) == (1, "")
    assert "topsecret" not in done.out
    (check,) = [check for check in done.json["checks"] if check["name"] == "database"]
    assert says(check, "problem", "did not answer within" if is_silent else "cannot be reached", "ada")


def test_a_file_that_is_no_database_is_a_problem(commands: Commands) -> None:
    (commands.home / "jobs.db").write_bytes(b"once upon a time " * 1000)

    found = doctor(commands, code=1)

    assert says(found["database"], "problem", "is not an SQLite database", "--database")


def test_a_damaged_database_is_a_problem(used: Commands) -> None:
    database = used.home / "jobs.db"
    with database.open("r+b") as damaged:
        damaged.seek(database.stat().st_size // 2)
        damaged.write(b"\xff" * database.stat().st_size)

    found = doctor(used, code=1)

    assert "problem" in (found["database"]["verdict"], found["integrity"]["verdict"])


def test_a_database_of_a_newer_version_is_a_problem(used: Commands) -> None:
    with sqlite3.connect(used.home / "jobs.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    found = doctor(used, code=1)

    assert says(found["schema"], "problem", "9999", "newer")


def test_a_database_without_a_write_ahead_log_is_told(used: Commands) -> None:
    with sqlite3.connect(used.home / "jobs.db") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()

    assert says(doctor(used, code=0)["journal"], "warning", "jobmgr serve")


_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement)
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def locking(database: Path, *statements: str) -> Iterator[int]:
    """Another process that has done this and does not go on; its id."""
    argv = [sys.executable, "-c", _LOCK, str(database), *statements]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (("BEGIN IMMEDIATE",), "write lock"),
        (("PRAGMA locking_mode = EXCLUSIVE", "BEGIN IMMEDIATE"), "nobody else can use it"),
    ],
)
def test_who_keeps_the_database_locked_is_named(
    used: Commands, statements: Sequence[str], words: str
) -> None:
    with locking(used.home / "jobs.db", *statements) as pid:
        found = doctor(used, code=1)

    assert says(found["database"], "problem", words, f"process {pid}", f"ps -fp {pid}")


def test_files_that_others_may_read_are_told(used: Commands) -> None:
    (used.home / "jobs.db").chmod(0o644)
    lenient = doctor(used, code=0)
    (used.home / "token").chmod(0o644)
    open_to_all = doctor(used, code=1)

    assert says(lenient["access"], "warning", "644", "chmod 600")
    assert says(open_to_all["settings"], "problem", "others may read", "chmod 600")


def test_settings_that_are_wrong_are_the_only_problem_shown(commands: Commands) -> None:
    found = doctor(commands, code=1, JOBMGR_DATABASE="oracle://ada:topsecret@host/jobs")

    assert says(found["settings"], "problem", "sqlite or postgresql", "jobmgr.toml")
    assert found.keys() == {"settings", "software"}


def test_fault_points_that_are_on_are_told(commands: Commands) -> None:
    assert says(doctor(commands, code=0, JOBMGR_FAULTS="/nowhere")["settings"], "warning", "fault points")


def test_the_configuration_file_in_force_is_named(commands: Commands) -> None:
    file = commands.home / "jobmgr.toml"
    file.write_text("max_concurrent_jobs = 2\n")
    good = doctor(commands, code=0)["settings"]
    file.write_text("max_concurrent_jobs = \n")
    bad = doctor(commands, code=1)["settings"]

    assert says(good, "ok", str(file), "max_concurrent_jobs")
    assert says(bad, "problem", "not valid TOML")


def _without_rights() -> list[str]:
    """What makes root as powerless as everybody else; nothing for everybody else."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed, and root may do everything")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def _powerless(commands: Commands) -> dict[str, Any]:
    """What it says to somebody without any rights on the files."""
    done = subprocess.run(
        [*_without_rights(), *COMMAND, "doctor", "--json"],
        capture_output=True,
        cwd="/",
        env=commands.environment,
        timeout=60,
        check=False,
    )
    assert done.stderr == b""
    assert done.returncode == 1
    return {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def _give_away(path: Path, mode: int) -> None:
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def test_somebody_without_rights_learns_what_is_closed_to_him(used: Commands) -> None:
    before = traces(used.home)
    _give_away(used.home, 0o000)

    found = _powerless(used)

    used.home.chmod(0o700)
    assert says(found["database"], "problem", "Permission denied", "user")
    assert says(found["work directory"], "problem", "Permission denied")
    assert says(found["attempts"], "warning", "not checked")
    assert traces(used.home) == before


@pytest.mark.parametrize(("mode", "words"), [(0o000, "may not be read"), (0o444, "may not write")])
def test_a_file_that_is_closed_to_this_user_is_a_problem(used: Commands, mode: int, words: str) -> None:
    _give_away(used.home / "jobs.db", mode)

    found = _powerless(used)

    assert says(found["access" if mode else "database"], "problem", words, "user")


def test_a_work_directory_that_is_none_is_a_problem(commands: Commands) -> None:
    (commands.home / "work").touch()

    assert says(doctor(commands, code=1)["work directory"], "problem", "cannot be used", "--work-dir")


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own with next to no room."""
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=False)
    if done.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("options", ["size=2m", "size=2g,nr_inodes=200"])
def test_a_full_disk_is_a_problem(commands: Commands, tmp_path: Path, options: str) -> None:
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", options) as disk:
        found = doctor(commands, code=1, JOBMGR_HOME=str(disk))

    assert says(found["database disk"], "problem", "free")
    assert says(found["work disk"], "problem", "free")


_LAWLESS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <unistd.h>
static int pass(const char *name, int d, int c, va_list rest) {
    int (*real)(int, int, ...) = dlsym(RTLD_NEXT, name);
    return c == F_SETLK || c == F_SETLKW ? 0 : real(d, c, va_arg(rest, void *));
}
int fcntl(int d, int c, ...) { va_list rest; va_start(rest, c); return pass("fcntl", d, c, rest); }
int fcntl64(int d, int c, ...) { va_list rest; va_start(rest, c); return pass("fcntl64", d, c, rest); }
int flock(int d, int o) { return 0; }
int link(const char *a, const char *b) { unlink(b); return symlink(a, b); }
"""


@pytest.fixture
def lawless(tmp_path: Path) -> str:
    """A library under which all locks are granted to everybody and links replace what is there."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is installed")
    source, library = tmp_path / "lawless.c", tmp_path / "lawless.so"
    source.write_text(_LAWLESS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return str(library)


def test_locks_and_links_that_bind_nobody_are_a_problem(commands: Commands, lawless: str) -> None:
    found = doctor(commands, code=1, LD_PRELOAD=lawless)

    assert says(found["locking"], "problem", "fcntl, flock", "local disk")
    assert says(found["work directory"], "problem", "over the first")


async def test_orphans_are_shown_and_left_alone(used: Commands) -> None:
    work = used.home / "work"
    marks = {"JOBMGR_ATTEMPT_TOKEN": "nobody's", "JOBMGR_RUN_DIR": f"{work}/runs/gone/3"}
    with _sleeping(marks) as pid:
        found = await eventually(lambda: _orphan(used))
        os.kill(pid, 0)

    assert says(found, "problem", f"pid {pid} of job gone, attempt 3", f"kill {pid}")


def _orphan(commands: Commands) -> dict[str, Any] | None:
    check: dict[str, Any] = doctor(commands)["orphans"]
    return check if check["verdict"] == "problem" else None


@contextmanager
def _sleeping(marks: Mapping[str, str]) -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"], env={**os.environ, **marks}) as process:
        yield process.pid
        process.kill()


def test_the_help_names_the_exit_codes(commands: Commands) -> None:
    assert "1 a problem was found" in commands.run("doctor", "--help").out
