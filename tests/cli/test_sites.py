"""`jobmgr site`, and jobs of sites in lists: what is printed, and the exit codes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Commands


@pytest.fixture(scope="module")
def host(service: Commands) -> Commands:
    """The command beside a service that has the site `host`, which needs no scheduler, open."""
    added = service.run("site", "add", "host", "--kind", "shell")
    assert added.code == 0, added
    return service


def facts(out: str) -> list[tuple[str, str]]:
    """Names and values of `show`."""
    rows = [line.partition("  ") for line in out.splitlines()]
    return [(name, value.strip()) for name, _, value in rows]


def test_options_in_a_schedulers_words_are_shown_one_by_one(service: Commands) -> None:
    service.run("site", "add", "far", "--kind", "slurm", "--disabled")
    asked = [text for name in ("--nice=3", "--comment=a,b") for text in ("-R", f"directives={name}")]
    job_id = service.submit("--site", "far", *asked, "-R", "exclusive=true", "--", "true")

    shown = facts(service.run("show", job_id).out)

    assert [value for name, value in shown if name == "directives"] == ["--nice=3", "--comment=a,b"]
    assert ("exclusive", "yes") in shown
    assert ("site", "far") in shown


def test_a_site_gets_no_more_than_may_run_there(service: Commands) -> None:
    service.run("site", "add", "narrow", "--kind", "slurm", "--disabled", "--max-running", "3")

    (row,) = [line for line in service.run("site", "ls").out.splitlines() if line.startswith("narrow")]

    assert "3" in row.split()


def test_jobs_of_a_site_are_listed_with_what_they_are_called_there(host: Commands) -> None:
    there = host.submit("--site", "host", "--name", "there", "--wait", "--", "true")
    here = host.submit("--name", "here", "--wait", "--", "true")
    handle = host.run("show", "--json", there).json["handle"]

    listed = host.run("ls", "--site", "host").out.splitlines()
    both = host.run("ls").out
    alone = host.run("ls", "--site", "local", "--name", "here").out

    assert [line.split()[0] for line in listed[1:]] == [there]
    assert listed[0].split()[:5] == ["ID", "NAME", "STATUS", "QUEUE", "SITE"]
    assert f"host {handle}" in listed[1]
    assert f"host {handle}" in both
    assert here in both
    assert "SITE" not in alone


def test_site_that_is_mistyped_is_not_a_site_without_jobs(host: Commands) -> None:
    done = host.run("ls", "--site", "hots")

    assert (done.code, done.out) == (3, "")
    assert "there is no site 'hots'" in done.err


def test_forgotten_site_is_warned_of(service: Commands) -> None:
    one = service.run("submit", "-R", "partition=long", "--draft", "--", "true")
    line = b'{"command": ["true"], "draft": true, "resources": {"modules": ["ansys"]}}'
    many = service.run("submit", "--from", "-", stdin=line)

    assert (one.code, many.code) == (0, 0)
    remedy = "on this machine; name the `site` whose scheduler is meant, or leave it out"
    assert one.err == f"warning: resources.partition: means nothing {remedy}\n"
    assert many.err == f"warning: jobs[0].resources.modules: means nothing {remedy}\n"


def test_site_is_disabled_and_opened_again(host: Commands) -> None:
    closed = host.run("site", "disable", "host")
    job_id = host.submit("--site", "host", "--", "true")
    state = {each["name"]: each["enabled"] for each in host.run("site", "ls", "--json").json}
    tried = host.run("site", "test", "host")
    opened = host.run("site", "enable", "host")

    assert (closed.code, closed.out) == (0, "host is disabled; `jobmgr site enable host` opens it\n")
    assert state == state | {"host": False, "local": True}
    assert tried.code == 0
    assert "host is disabled, so no job was submitted" in tried.err
    assert (opened.code, opened.out) == (0, "host is open\n")
    assert host.run("wait", job_id).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["disable", "local"], 4, "`jobmgr queue pause`"),
        (["disable", "nope"], 3, "'nope'"),
        (["enable", "nope"], 3, "'nope'"),
        (["remove", "nope"], 3, "'nope'"),
        (["remove", "local"], 4, "always exists"),
        (["test", "nope"], 3, "'nope'"),
        (["test", "local"], 2, "`jobmgr doctor`"),
        (["add", "x", "--kind", "shell", "--work-dir", "here"], 2, "work_dir: 'here' is relative"),
        (["add", "x", "--kind", "slurm", "--host", "h"], 2, "work_dir: is needed with a host"),
        (["add", "x", "--kind", "slurm", "--default", "directives=-J x"], 2, "defaults.directives: '-J x'"),
        (["add", "x"], 2, "'--kind'. Choose from: slurm, pbs, lsf,"),
    ],
)
def test_what_cannot_be_done_is_said(service: Commands, arguments: list[str], code: int, said: str) -> None:
    done = service.run("site", *arguments)

    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_site_with_jobs_says_what_keeps_it(service: Commands, tmp_path: Path) -> None:
    service.run("site", "add", "busy", "--kind", "shell")
    go = tmp_path / "go"
    os.mkfifo(go)
    job_id = service.submit("--site", "busy", "--", "cat", str(go))

    live = service.run("site", "remove", "busy")
    go.write_text("now\n")
    assert service.run("wait", job_id).code == 0
    ended = service.run("site", "remove", "busy")

    assert (live.code, ended.code) == (4, 4)
    assert "1 job of the site busy has not ended" in live.err
    assert "`jobmgr ls --site busy --ids | jobmgr cancel -`" in live.err
    assert "stored" in ended.err
    assert "`jobmgr site disable busy`" in ended.err


def test_programs_get_the_trial_as_json(host: Commands, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    host.run("site", "add", "broken", "--kind", "shell", "--work-dir", f"{blocked}/work")

    well, broken = host.run("site", "test", "host", "--json"), host.run("site", "test", "broken", "--json")

    assert (well.code, broken.code) == (0, 1)
    assert well.json["is_well"]
    assert well.json["job"]["exit_code"] == 0
    assert broken.json["job"] is None
    assert [step["name"] for step in broken.json["steps"] if not step["is_well"]] == ["work directory"]
    assert "\n" not in broken.json["steps"][-1]["said"]


def test_host_that_cannot_be_reached_says_what_has_to_work(service: Commands) -> None:
    pytest.importorskip("asyncssh", reason="asyncssh is not installed (pip install 'jobmgr[ssh]')")
    away = (
        "--host",
        "127.0.0.1",
        "--work-dir",
        "/w",
        "--ssh",
        "port=1",
        "--ssh",
        f"config_file={os.devnull}",
    )

    added = service.run("site", "add", "away", "--kind", "slurm", *away)
    tried = service.run("site", "test", "away")
    guessed = service.run("site", "add", "other", "--kind", "auto", *away)

    assert (added.code, tried.code, guessed.code) == (0, 1, 4)
    for said in (tried.out, guessed.err):
        assert "`ssh -p 1 " in said
        assert "has to work without a question" in said
        assert "Errno" not in said
