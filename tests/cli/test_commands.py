"""Jobs from the shell: what is printed, and the exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from tests.cli.conftest import TIMEOUT_S, Commands, told_until


def test_a_job_with_a_key_is_submitted_once(service: Commands) -> None:
    first = service.submit("--key", "study-7", "--wait", "--", "true")

    again = service.submit("--key", "study-7", "--", "true")
    other = service.run("submit", "--key", "study-7", "--", "false")
    empty = service.run("submit", "--key", "", "--", "true")

    assert again == first
    assert (other.code, empty.code) == (4, 2)
    assert "'study-7'" in other.err


def test_a_job_may_wait_for_one_that_is_named_by_its_beginning(service: Commands) -> None:
    parent = service.submit("--wait", "--", "true")

    child = service.submit("--after", f"{parent[:12]}:any", "--wait", "--", "true")

    assert service.run("show", "--json", child).json["status"] == "completed"


def test_submit_prints_the_id_and_show_tells_all_about_the_job(service: Commands) -> None:
    job_id = service.submit("--name", "greeting", "--tag", "b", "--tag", "a", "--wait", "--", "echo", "hello")

    shown = service.run("show", "--json", job_id).json

    assert shown["job_id"] == job_id
    assert shown["name"] == "greeting"
    assert shown["status"] == "completed"
    assert shown["tags"] == ["a", "b"]
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["completed"]
    assert {file["path"] for file in shown["files"]} == {"stdout", "stderr"}


def test_show_for_people_names_status_and_error(service: Commands) -> None:
    job_id = service.submit("--", "sh", "-c", "exit 3")
    service.run("wait", job_id)

    shown = service.run("show", job_id)

    assert shown.code == 0
    assert "failed" in shown.out
    assert "exit_code: it exited with code 3" in shown.out
    assert not any(line.endswith(" ") for line in shown.out.splitlines())


def test_show_tells_what_a_job_asked_for_and_waits_for(service: Commands) -> None:
    first = service.submit("--wait", "--", "true")
    draft = service.submit("--draft", "--", "true")
    options = ("--cpus", "1", "--memory", "64MB", "--walltime", "2h", "--max-attempts", "3", "--cwd", "/tmp")
    after = ("--after", first, "--after", f"{draft}:failure", "--env", "SECRET=hidden")
    job_id = service.submit(*options, *after, "--", "true")
    waiting, waiting_json = service.run("show", job_id), service.run("show", "--json", job_id).json
    service.run("cancel", draft)
    ended = service.run("wait", job_id)

    facts = dict(line.split("  ", 1) for line in waiting.out.splitlines() if not line.startswith("depends"))

    for name, value in {
        "cwd": "/tmp",
        "environment": "SECRET",
        "cpus": "1",
        "memory": "64.0 MB",
        "walltime": "2:00:00",
        "attempts": "at most 3",
        "backoff": "30.0 s",
    }.items():
        assert facts[name].strip() == value
    assert "hidden" not in waiting.out
    assert [line.split("on", 1)[1].strip() for line in waiting.out.splitlines() if line[:7] == "depends"] == [
        f"success of {first}, met",
        f"failure of {draft}, not met yet",
    ]
    assert waiting_json["spec"]["depends_on"] == [
        {"job_id": first, "when": "success", "met": True},
        {"job_id": draft, "when": "failure", "met": None},
    ]
    assert ended.code == 0
    assert f"failure of {draft}, met" in service.run("show", job_id).out


def test_long_errors_are_cut_in_lists_and_whole_in_show(service: Commands) -> None:
    job_id = service.submit("--", "/no/such/" + 300 * "x")
    service.run("wait", job_id)

    row = service.run("ls", "--limit", "1").out.splitlines()[1]

    assert row.startswith(job_id)
    assert row.endswith("x...")
    assert len(row) < 400
    assert 300 * "x" in service.run("show", job_id).out


def test_times_name_their_zone(service: Commands) -> None:
    job_id = service.submit("--wait", "--", "true")

    shown = service.run("show", job_id, environment={"TZ": "Asia/Tokyo"}).out

    (line,) = [line for line in shown.splitlines() if line.startswith("submitted")]
    assert line.endswith(" JST")


def test_a_job_without_a_name_is_called_as_its_command(service: Commands) -> None:
    job_id = service.submit("--wait", "--", "sh", "-c", "echo 'a  b'\ntrue")

    assert service.run("show", "--json", job_id).json["name"] == """sh -c 'echo '"'"'a b'"'"' true'"""


def test_options_become_fields_of_the_job(service: Commands) -> None:
    parent = service.submit("--", "true")

    job_id = service.submit(
        *(
            "--draft",
            "--priority",
            "-7",
            "--queue",
            "default",
            "--job-id",
            "mine-1",
            "--after",
            f"{parent}:any",
        ),
        *("--not-before", "2099-01-31T18:00:00Z", "--cpus", "1", "--memory", "1MB", "--walltime", "5m"),
        *("--max-attempts", "2", "--backoff", "1s", "--env", "A=1", "--env", "HOME", "--", "env"),
    )

    shown = service.run("show", "--json", job_id).json
    assert job_id == "mine-1"
    assert shown["draft"] is True
    assert shown["priority"] == -7
    assert shown["due_at"] == "2099-01-31T18:00:00.000000Z"
    reasons = service.run("why", "--json", job_id).json["reasons"]
    assert {"draft", "not_due"} <= {reason["code"] for reason in reasons}
    assert "draft" in service.run("why", job_id).out


def test_a_relative_cwd_is_that_of_the_shell(service: Commands) -> None:
    (service.home / "here").mkdir(exist_ok=True)

    job_id = service.submit("--wait", "--cwd", "here", "--", "pwd")

    assert service.run("logs", job_id).out.strip() == str(service.home / "here")


def test_options_after_the_command_belong_to_the_command(service: Commands) -> None:
    job_id = service.submit("--wait", "echo", "--name", "-n", "x")

    assert service.run("logs", job_id).out == "--name -n x\n"


def test_ls_filters_and_prints_json(service: Commands) -> None:
    first = service.submit("--tag", "listed", "--name", "one", "--wait", "--", "true")
    second = service.submit("--tag", "listed", "--name", "two", "--draft", "--", "true")

    listed = service.run("ls", "--tag", "listed", "--json").json
    ids = service.run("ls", "--tag", "listed", "--order", "created", "--ids").out.split()
    pending = service.run(
        "ls", "--tag", "listed", "--status", "pending", "--status", "queued", "--ids"
    ).out.split()

    assert [job["job_id"] for job in listed] == [second, first]
    assert {"status", "queue", "v", "error", "attempt"} <= listed[0].keys()
    assert ids == [first, second]
    assert pending == [second]


def test_ls_says_when_it_does_not_show_all(service: Commands) -> None:
    lines = b'{"command":["true"],"draft":true,"tags":["many"]}\n' * 60
    service.run("submit", "--from", "-", stdin=lines)

    table = service.run("ls", "--tag", "many")
    ids = service.run("ls", "--tag", "many", "--ids")

    assert len(table.out.splitlines()) == 51
    assert table.err == "there are more than these 50 of 60; `--limit 0` lists all\n"
    assert len(ids.out.split()) == 60
    assert ids.err == ""


def test_ls_reads_as_many_pages_as_the_limit_needs(service: Commands) -> None:
    lines = b'{"command":["true"],"draft":true,"tags":["pages"]}\n' * 1003
    service.run("submit", "--from", "-", stdin=lines)

    some = service.run("ls", "--tag", "pages", "--ids", "--limit", "1002")
    exactly = service.run("ls", "--tag", "pages", "--ids", "--limit", "1003")

    assert len(some.out.split()) == 1002
    assert some.err == "there are more than these 1002 of 1003; `--limit 0` lists all\n"
    assert len(exactly.out.split()) == 1003
    assert exactly.err == ""


def test_ls_of_nothing_is_an_empty_list(service: Commands) -> None:
    assert service.run("ls", "--tag", "unknown", "--json").json == []
    assert service.run("ls", "--tag", "unknown", "--ids").out == ""
    assert service.run("ls", "--tag", "unknown").err == "no jobs\n"


def test_a_reader_that_goes_away_is_no_error(service: Commands) -> None:
    job_id = service.submit("--wait", "--", sys.executable, "-c", "print('x' * 3_000_000)")

    reader = subprocess.run(
        f"{sys.executable} -m jobmgr logs {job_id} | head -c 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        cwd=service.home,
        env=service.environment,
        check=False,
    )

    assert (reader.returncode, reader.stdout, reader.stderr) == (0, b"x", b"")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("show", "no-such-job"), 3, "there is no job 'no-such-job'"),
        (("show", "../queues"), 3, "there is no job '../queues'"),
        (("logs", "no-such-job"), 3, "there is no job"),
        (("logs", "-f", "no-such-job"), 3, "there is no job"),
        (("wait", "no-such-job"), 3, "there is no job"),
        (("why", "no-such-job"), 3, "there is no job"),
        (("cancel", "no-such-job"), 3, "there is no job"),
        (("queue", "pause", "typo"), 3, "there is no queue 'typo'"),
        (("queue", "limit", "default", "few"), 2, "neither a number"),
        (("queue", "limit", "default", "9" * 5000), 2, "neither a number"),
        (("queue", "limit", "default", "2.5"), 2, "max_running"),
        (("limits", "set", "min_disk_gb", "9" * 400 + ".0"), 2, "neither a number"),
        (("submit",), 2, "no command to run"),
        (("submit", "--memory", "lots", "--", "true"), 2, "resources.memory: 'lots'"),
        (("submit", "--walltime", "24:00", "--", "true"), 2, "resources.walltime: '24:00'"),
        (("submit", "--cpus", "many", "--", "true"), 2, "'many' is not a valid integer"),
        (("submit", "--draft", "--wait", "--", "true"), 2, "--wait would wait for ever"),
        (("submit", "--cpus", "0", "--", "true"), 2, "resources.cpus"),
        (("submit", "--gpus", "0", "--", "true"), 2, "resources.gpus"),
        (("submit", "--max-attempts", "0", "--", "true"), 2, "retry.max_attempts"),
        (("submit", "--priority", "99999999999", "--", "true"), 2, "priority"),
        (("submit", "--env", "NOT_SET_ANYWHERE", "--", "true"), 2, "write NOT_SET_ANYWHERE=VALUE"),
        (("submit", "--env", "JOBMGR_URL=x", "--", "true"), 2, "env.JOBMGR_URL"),
        (("submit", "--after", "x:sometimes", "--", "true"), 2, "'sometimes' is not one of"),
        (("submit", "--after", "no-such-job", "--", "true"), 2, "no-such-job"),
        (("submit", "--not-before", "tomorrow", "--", "true"), 2, "'tomorrow' is not a time"),
        (
            ("submit", "--job-id", "a/b", "--", "true"),
            2,
            "job_id: is not written as it has to be: letters, digits",
        ),
        (("submit", "--name", "a\nb", "--", "true"), 2, "control character"),
        (("submit", "--name", b"\xff", "--", "true"), 2, "not UTF-8"),
        (("submit", "--from", "-", "--name", "x"), 2, "--from takes the jobs as they are"),
        (("submit", "--from", "/no/such/file"), 2, "No such file"),
        (("submit", "--from", "-"), 2, "holds no jobs"),
        (("ls", "--status", "asleep"), 2, "asleep"),
        (("ls", "--order", "shoe-size"), 2, "order"),
        (("wait",), 2, "name the jobs"),
        (("wait", "--all", "--timeout", "soon"), 2, "--timeout: 'soon'"),
        (("dance",), 2, "No such command 'dance'"),
        (("sumbit",), 2, "No such command 'sumbit'. (Did you mean submit?)"),
        (("--url", "nonsense", "ls"), 2, "write it as http://"),
    ],
)
def test_wrong_input_has_an_exit_code_and_a_sentence(
    service: Commands, arguments: tuple[str | bytes, ...], code: int, sentence: str
) -> None:
    done = service.run(*arguments)

    assert (done.code, done.out) == (code, "")
    assert sentence in done.err
    assert "Traceback" not in done.err


def test_what_the_status_does_not_allow_is_refused(service: Commands) -> None:
    job_id = service.submit("--wait", "--", "true")

    held = service.run("hold", job_id)

    assert held.code == 4
    assert "completed" in held.err
    assert service.run("submit", "--job-id", job_id, "--", "true").code == 4


def test_job_that_asks_for_more_when_it_is_tried_again_shows_so(service: Commands) -> None:
    rules = ("--max-attempts", "2", "--backoff", "0", "--retry-on", "timeout", "--retry-on", "signal")
    growth = ("--walltime-factor", "100", "--walltime-max", "15s", "--memory-factor", "2", "--memory", "1MB")
    script = "[ $JOBMGR_ATTEMPT = 2 ] || exec sleep 60"
    refused = service.run("submit", *rules, "--walltime", "0.2s", *growth, "--", "sh", "-c", script)

    job_id = service.submit(
        *rules,
        "--retry-on",
        "out_of_memory",
        "--walltime",
        "0.2s",
        *growth,
        "--wait",
        "--",
        "sh",
        "-c",
        script,
    )

    assert (refused.code, "retry.memory_factor" in refused.err) == (2, True)
    shown = service.run("show", job_id).out
    for words in (
        "0.2 s, by now 15.0 s",
        "100 times, at most 15.0 s",
        "out_of_memory, signal, timeout",
        "GROWN",
    ):
        assert words in shown
    assert json.loads(service.run("show", "--json", job_id).out)["attempts"][1]["grown"] == {
        "walltime_s": 15.0
    }


def test_a_running_job_is_paused_and_resumed(service: Commands) -> None:
    job_id = service.submit("--", "sleep", "60")
    watched = service.run("why", job_id)
    deadline = time.monotonic() + 30
    while "is running" not in watched.out and time.monotonic() < deadline:
        watched = service.run("why", job_id)

    paused = service.run("pause", job_id)
    resumed = service.run("resume", job_id)

    assert paused.out.strip() in (f"{job_id} running (being paused)", f"{job_id} paused")
    assert resumed.out.split()[:2][0] == job_id
    assert (paused.code, resumed.code) == (0, 0)
    service.run("cancel", job_id)
    service.run("wait", job_id)
    assert service.run("pause", job_id).code == 4


def test_a_full_disk_is_said_and_a_closed_output_is_no_error(service: Commands) -> None:
    script = f"{sys.executable} -m jobmgr ls --json"

    done = [
        subprocess.run(
            f"{script} {redirection}",
            shell=True,
            capture_output=True,
            cwd=service.home,
            env=service.environment,
            check=False,
        )
        for redirection in (">/dev/full", ">&-")
    ]

    assert [(end.returncode, end.stderr) for end in done] == [
        (4, b"jobmgr: [Errno 28] No space left on device\n"),
        (0, b""),
    ]


def test_the_version_is_told(commands: Commands) -> None:
    done = commands.run("--version")

    assert (done.code, done.out.split()[0]) == (0, "jobmgr")


def test_a_job_that_can_never_run_here_is_warned_of(service: Commands) -> None:
    for asked, sentence in (
        (("--cpus", "9999"), "it asks for 9999 cpus, this machine has "),
        (("--memory", "5000GB", "--draft"), "it asks for 4.9 TB of memory, this machine has "),
    ):
        done = service.run("submit", *asked, "--", "true")
        why = service.run("why", done.out.strip())

        assert (done.code, why.code) == (0, 0)
        assert done.err.startswith(f"warning: {sentence}")
        assert sentence in why.out
        assert service.run("cancel", done.out.strip()).code == 0


def test_a_job_between_two_attempts_takes_no_time(service: Commands) -> None:
    job_id = service.submit("--max-attempts", "2", "--backoff", "1h", "--", "false")
    service.run("wait", "--timeout", "1", job_id)

    heading, row = service.run("ls", "--limit", "1").out.splitlines()

    took = slice(heading.index("TOOK"), heading.index("PRIORITY"))
    assert (row.split()[0], row[took].strip()) == (job_id, "")
    assert "pending" in row
    assert service.run("cancel", job_id).code == 0


@pytest.mark.parametrize("arguments", [(), ("queue",), ("db",)])
def test_a_group_without_a_command_shows_its_help(commands: Commands, arguments: tuple[str, ...]) -> None:
    done = commands.run(*arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err == commands.run(*arguments, "--help").out


def test_nobody_answers(commands: Commands) -> None:
    done = commands.run("--url", "http://127.0.0.1:1", "ls")

    assert done.code == 5
    assert done.err == (
        "jobmgr: no jobmgr service answers at http://127.0.0.1:1 (connection refused); "
        "start one with `jobmgr serve`\n"
    )


def test_an_unreachable_service_stops_a_list_of_verbs_at_once(commands: Commands) -> None:
    done = commands.run("--url", "http://127.0.0.1:1", "cancel", "a", "b")

    assert done.code == 5
    assert done.err.count("\n") == 1


def test_verbs_go_on_after_one_that_is_refused(service: Commands) -> None:
    ended = service.submit("--wait", "--", "true")
    waiting = service.submit("--not-before", "+1h", "--", "true")

    held = service.run("hold", ended, waiting, "no-such-job")

    assert held.code == 4
    assert held.out == f"{waiting} pending\n"
    assert held.err.count("jobmgr:") == 2
    assert service.run("release", waiting).code == 0
    assert service.run("priority", "-3", waiting).code == 0
    assert service.run("show", "--json", waiting).json["priority"] == -3
    assert service.run("cancel", waiting).out == f"{waiting} cancelled\n"


def test_drafts_are_executed(service: Commands) -> None:
    job_id = service.submit("--draft", "--", "true")

    executed = service.run("execute", job_id)

    assert executed.code == 0
    assert service.run("wait", job_id).code == 0


def test_a_draft_is_not_released(service: Commands) -> None:
    job_id = service.submit("--draft", "--", "true")

    done = service.run("release", job_id)

    assert (done.code, done.out) == (4, "")
    assert "it is a draft; `execute` queues it" in done.err
    assert service.run("cancel", job_id).code == 0


def test_ls_tells_what_pending_jobs_wait_for(service: Commands) -> None:
    draft = service.submit("--draft", "--", "true")
    child = service.submit("--after", draft, "--", "true")
    due = service.submit("--not-before", "+1h", "--", "true")
    held = service.submit("--not-before", "+1h", "--", "true")
    service.run("hold", held)

    rows = {line.split()[0]: line for line in service.run("ls", "--status", "pending").out.splitlines()}

    assert " pending (draft) " in rows[draft]
    assert " pending (waits) " in rows[child]
    assert " pending (due " in rows[due]
    assert " pending (held) " in rows[held]
    assert service.run("cancel", draft, due, held).code == 0


def test_failed_jobs_are_piped_into_a_retry(service: Commands) -> None:
    script = 'test "$JOBMGR_ATTEMPT" -gt 1'
    lines = json.dumps({"command": ["sh", "-c", script], "tags": ["again"]}).encode() + b"\n"
    first = service.run("submit", "--from", "-", "--wait", stdin=lines * 3)
    failed = service.run("ls", "--tag", "again", "--status", "failed", "--ids").out

    retried = service.run("retry", "-", stdin=failed.encode())
    waited = service.run("wait", "-", stdin=failed.encode())

    assert first.code == 1
    assert "3 failed" in first.err
    assert (retried.code, len(retried.out.splitlines())) == (0, 3)
    assert (waited.code, waited.err) == (0, "3 completed\n")


def test_listing_a_queue_that_there_is_not_says_so(service: Commands) -> None:
    done = service.run("ls", "--queue", "nope")
    empty = service.run("ls", "--queue", "default", "--tag", "no-such-tag")

    assert (done.code, done.out) == (3, "")
    assert "no queue 'nope'" in done.err
    assert empty.code == 0


def test_help_says_which_priorities_there_are(commands: Commands) -> None:
    assert "2147483647" in commands.run("priority", "--help").out
    assert "2147483647" in commands.run("submit", "--help").out


def test_queues_are_listed_limited_paused_and_resumed(service: Commands) -> None:
    limited = service.run("queue", "limit", "licences", "2")
    service.run("queue", "pause", "licences")
    job_id = service.submit("--queue", "licences", "--", "true")

    listed = {queue["name"]: queue for queue in service.run("queue", "ls", "--json").json}
    why = service.run("why", job_id).out
    service.run("queue", "resume", "licences")

    assert limited.out == "licences open, at most 2 running\n"
    assert listed["licences"]["paused"] is True
    assert listed["licences"]["max_running"] == 2
    assert listed["licences"]["counts"]["queued"] == 1
    assert "paused" in why
    assert service.run("wait", job_id).code == 0
    assert "licences" in service.run("queue", "ls").out
    assert service.run("queue", "limit", "licences", "none").out == "licences open, no limit\n"


def test_limits_are_listed_and_set(service: Commands) -> None:
    listed = service.run("limits", "ls")
    changed = service.run("limits", "set", "min_memory_gb", "0.001")
    read = service.run("limits", "ls", "--json").json
    back = service.run("limits", "set", "min_memory_gb", "none")
    refused = [
        service.run("limits", "set", *arguments)
        for arguments in (("max_concurrent_jobs", "-1"), ("min_disk_gb", "nan"), ("slots", "1"))
    ]

    assert listed.out.startswith("max_concurrent_jobs 4\nmax_cpu_percent none\n")
    assert "min_memory_gb 0.001\n" in changed.out
    assert read == {
        "max_concurrent_jobs": 4,
        "max_cpu_percent": None,
        "min_memory_gb": 0.001,
        "min_disk_gb": None,
    }
    assert back.out == listed.out
    assert [done.code for done in refused] == [2, 2, 2]
    assert "max_concurrent_jobs" in refused[0].err


def test_wait_tells_how_jobs_ended(service: Commands) -> None:
    good = service.submit("--", "true")
    bad = service.submit("--name", "bad one", "--", "sh", "-c", "exit 9")

    waited = service.run("wait", good, bad)

    assert waited.code == 1
    assert f"{bad} bad one failed: it exited with code 9" in waited.err
    assert "1 completed, 1 failed" in waited.err
    assert service.run("wait", good).code == 0


def test_wait_for_all_leaves_out_what_waits_for_people(
    commands: Commands, restartable: Callable[..., AbstractContextManager[str]]
) -> None:
    with restartable():
        commands.submit("--draft", "--", "true")
        held = commands.submit("--not-before", "+1h", "--", "true")
        commands.run("hold", held)
        commands.submit("--", "sleep", "0.2")

        done = commands.run("wait", "--all", "--timeout", "30")

    assert (done.code, done.out) == (0, "")
    assert done.err == "not waiting for 2 jobs held or saved as a draft\n"


def test_wait_says_once_why_nothing_starts(service: Commands) -> None:
    service.run("queue", "limit", "shut", "2")
    service.run("queue", "pause", "shut")
    job_ids = [service.submit("--queue", "shut", "--", "true") for _ in range(2)]

    with service.start("wait", *job_ids) as waiting:
        told_until(waiting, "waits: queue shut is paused")
        service.run("queue", "resume", "shut")
        out, err = waiting.communicate(timeout=TIMEOUT_S)

    assert (waiting.returncode, out, err) == (0, b"", b"2 completed\n")


def test_wait_gives_up_when_the_time_is_over(service: Commands) -> None:
    job_id = service.submit("--", "sleep", "60")

    waited = service.run("wait", "--timeout", "0.3", job_id)
    cancelled = service.run("cancel", job_id)
    ended = service.run("wait", job_id)

    assert waited.code == 4
    assert f"1 of 1 jobs had not ended after 0.3 s: {job_id}" in waited.err
    assert cancelled.code == 0
    assert ended.code == 1
    assert "cancelled" in ended.err


def test_ctrl_c_ends_a_wait_and_not_the_job(service: Commands) -> None:
    job_id = service.submit("--", "sh", "-c", "echo on; sleep 60")
    waiting = service.start("logs", "-f", job_id)
    with waiting:
        assert service.run("wait", "--timeout", "1", job_id).code == 4
        # It follows now: a signal that comes while a program still imports may be lost in the imports.
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == b"on\n"

        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=20)

    assert (waiting.returncode, out, err) == (130, b"", b"\n")
    assert service.run("show", "--json", job_id).json["status"] == "running"
    service.run("cancel", job_id)
