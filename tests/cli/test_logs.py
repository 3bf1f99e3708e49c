"""`logs`: what jobs wrote, byte for byte, also while they write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Commands


def test_logs_are_the_bytes_that_were_written(service: Commands) -> None:
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 9); sys.stderr.write('wrong')"
    job_id = service.submit("--wait", "--", sys.executable, "-c", script)

    out = service.run("logs", job_id).out
    err = service.run("logs", "--stderr", job_id).out

    assert out.encode(errors="surrogateescape") == bytes(range(256)) * 9
    assert err == "wrong"


def test_logs_larger_than_a_window_are_whole(service: Commands, tmp_path: Path) -> None:
    script = "print('\\n'.join(f'line {n:9}' for n in range(700_000)))"
    job_id = service.submit("--wait", "--", sys.executable, "-c", script)

    with (tmp_path / "log").open("wb") as file:
        subprocess.run(
            [*COMMAND, "logs", job_id], stdout=file, check=True, env=service.environment, cwd=service.home
        )

    lines = (tmp_path / "log").read_text().splitlines()
    assert (len(lines), lines[-1]) == (700_000, "line    699999")
    for follow in ([], ["--follow"]):
        told = service.run("logs", "--tail", "600000", *follow, job_id).out.splitlines()
        assert (len(told), told[0], told[-1]) == (600_000, "line    100000", "line    699999")
    assert service.run("logs", "--tail", "900000", job_id).out.count("\n") == 700_000
    assert service.run("logs", "--tail", "2", job_id).out == "line    699998\nline    699999\n"


def test_following_prints_as_it_is_written_and_ends_with_the_job(service: Commands, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo first; while [ ! -e {go} ]; do sleep 0.02; done; printf last"
    job_id = service.submit("--", "sh", "-c", script)

    with service.start("logs", "-f", job_id) as following:
        assert following.stdout is not None
        first = following.stdout.readline()
        go.touch()
        rest, err = following.communicate(timeout=30)

    assert (first, rest, err) == (b"first\n", b"last", b"")
    assert following.returncode == 0


def test_following_a_job_that_waits_begins_with_its_start(service: Commands) -> None:
    job_id = service.submit("--draft", "--", "echo", "at last")

    with service.start("logs", "-f", job_id) as following:
        assert service.run("execute", job_id).code == 0
        out, err = following.communicate(timeout=30)

    assert (out, err, following.returncode) == (b"at last\n", b"", 0)


@pytest.mark.parametrize("how", [(), ("-f",)])
def test_a_job_that_never_started_has_no_log(service: Commands, how: tuple[str, ...]) -> None:
    job_id = service.submit("--draft", "--", "true")
    before = service.run("logs", job_id)
    service.run("cancel", job_id)

    done = service.run("logs", *how, job_id)

    assert before.err == f"jobmgr: job {job_id!r} has not started yet; `jobmgr why {job_id}` says why\n"
    assert done.err == f"jobmgr: job {job_id!r} ended without having started\n"
    assert (before.code, done.code) == (3, 3)


def test_following_goes_on_with_the_next_attempt(service: Commands, tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = (
        'echo try $JOBMGR_ATTEMPT; while [ ! -e "$0" ]; do sleep 0.02; done; exit $((2 - JOBMGR_ATTEMPT))'
    )
    asked = {"command": ["sh", "-c", script, str(go)], "retry": {"max_attempts": 2, "backoff": 0.1}}
    job_id = service.run("submit", "--from", "-", stdin=json.dumps(asked).encode()).out.strip()
    following = service.start("logs", "-f", job_id)
    assert following.stdout is not None
    first = following.stdout.readline()

    go.touch()
    rest, _ = following.communicate(timeout=60)

    assert (first, rest) == (b"try 1\n", b"try 2\n")
    assert service.run("logs", job_id).out == "try 2\n"
    assert service.run("logs", "--attempt", "1", job_id).out == "try 1\n"
    assert service.run("logs", "-f", "--attempt", "1", job_id).out == "try 1\n"


def test_following_from_the_last_lines(service: Commands) -> None:
    job_id = service.submit("--wait", "--", "seq", "100")

    assert service.run("logs", "-f", "--tail", "3", job_id).out == "98\n99\n100\n"


@pytest.mark.parametrize("arguments", [("--attempt", "7"), ()])
def test_a_log_that_is_not_there_is_not_found(service: Commands, arguments: tuple[str, ...]) -> None:
    job_id = service.submit("--draft", "--", "true")

    done = service.run("logs", *arguments, job_id)

    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("jobmgr: ")


def test_of_a_site_that_cannot_be_reached_all_but_the_files_is_shown(
    service: Commands, tmp_path: Path
) -> None:
    pytest.importorskip("asyncssh", reason="asyncssh is not installed (pip install 'jobmgr[ssh]')")
    add = ("site", "add", "away", "--kind", "shell", "--work-dir", str(tmp_path / "away"))
    assert service.run(*add).code == 0
    assert service.run("site", "test", "away").code == 0
    job_id = service.submit("--site", "away", "--wait", "--", "echo", "here")
    assert service.run("logs", job_id).out == "here\n"

    # The same place, behind a port where nobody listens.
    service.run(*add, "--host", "127.0.0.1", "--ssh", "port=1", "--ssh", f"config_file={os.devnull}")
    service.run("site", "test", "away")
    log, shown = service.run("logs", job_id), service.run("show", "--json", job_id)

    assert (log.code, log.out) == (4, "")
    assert "`jobmgr site test away` tries the way there step by step" in log.err
    assert (shown.code, shown.json["status"], shown.json["files"]) == (0, "completed", [])
    assert shown.err.startswith("its files cannot be listed now: 127.0.0.1: ")
