"""`submit --from`: many jobs from a file, all or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Commands


def test_a_file_of_jobs_prints_their_ids_in_order(service: Commands, tmp_path: Path) -> None:
    file = tmp_path / "jobs.ndjson"
    file.write_text("".join(f'{{"command": ["true"], "name": "case {n}"}}\n' for n in range(300)))

    done = service.run("submit", "--from", str(file), "--wait")

    ids = done.out.split()
    assert done.code == 0
    assert len(set(ids)) == 300
    assert done.err == "300 completed\n"
    assert service.run("show", "--json", ids[7]).json["name"] == "case 7"


def test_jobs_of_a_file_may_depend_on_each_other(service: Commands) -> None:
    second = b'{"job_id":"second","command":["true"],"depends_on":[{"job_id":"first"}]}'
    lines = second + b'\n\n{"job_id":"first","command":["true"]}'

    done = service.run("submit", "--from", "-", "--wait", stdin=lines)

    assert (done.code, done.out) == (0, "second\nfirst\n")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"command": ["true"], "nam": "x"}', "line 4: nam: is not a field"),
        (b'{"command": "true"}', "line 4: command"),
        (b'{"name": "x"}', "line 4: command: is required"),
        (b'{"command": ["true"], "priority": "high"}', "line 4: priority"),
        (b'{"command": ["true"], "name": "a", "name": "b"}', "line 4: name: stands twice"),
        (b'{"command": ["true"], "job_id": null, "cwd": "x"}', "line 4: cwd: 'x' is relative"),
        (b'{"command": ["true"]', "line 4: is not valid JSON"),
        (
            b'{"command":\n  ["true"]}',
            "line 4: is not valid JSON: Input data was truncated; each line holds one",
        ),
        (b'["true"]', "line 4"),
        (b"\xff\xfe", "line 4"),
        (b'{"command": ["a\\u0000b"]}', "line 4: command[0]"),
        (b'{"command": ["true"], "env": {"A=": "1"}}', "line 4: env"),
        (b'{"command": ["true"], "site": "no"}', "line 4: site: there is no site 'no'"),
        (b'{"command": ["true"], "executor": "no"}', "line 4: executor: there is no site of the kind 'no'"),
        (
            b'{"command": ["true"], "depends_on": [{"job_id": "no"}]}',
            "line 4: depends_on[0]: there is no job 'no'",
        ),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_stored(service: Commands, line: bytes, sentence: str) -> None:
    good = b'{"command": ["true"], "tags": ["bad-file"]}\n'

    done = service.run("submit", "--from", "-", stdin=b"%b\n%b%b\n" % (good, good, line))

    assert (done.code, done.out) == (2, "")
    assert f"stdin {sentence}" in done.err
    assert service.run("ls", "--tag", "bad-file", "--ids").out == ""


def test_a_queue_that_there_is_not_is_named_with_its_line(service: Commands) -> None:
    lines = b'{"command":["true"],"tags":["no-queue"]}\n\n{"command":["true"],"queue":"no"}\n'

    done = service.run("submit", "--from", "-", stdin=lines)
    single = service.run("submit", "--queue", "no", "--", "true")

    sentence = "there is no queue 'no'; `jobmgr queue limit no N` makes it\n"
    assert (done.code, done.err) == (2, f"jobmgr: stdin line 3: queue: {sentence}")
    assert (single.code, single.err) == (2, f"jobmgr: queue: {sentence}")
    assert service.run("ls", "--tag", "no-queue", "--ids").out == ""


def test_an_id_that_is_taken_is_refused(service: Commands) -> None:
    service.submit("--job-id", "taken", "--", "true")

    done = service.run("submit", "--from", "-", stdin=b'{"command":["true"],"job_id":"taken"}\n')

    assert done.code == 4
    assert "'taken' exists already" in done.err


def test_a_file_that_is_too_large_is_refused_with_the_limit(service: Commands) -> None:
    line = b'{"command":["true"],"description":"%b"}\n' % (b"x" * 2000)

    done = service.run("submit", "--from", "-", stdin=line * 36_000)

    assert done.code == 2
    assert "64 MiB" in done.err
