from typing import Any

import msgspec
import pytest

from jobmgr.domain.job import NewJob, When
from jobmgr.errors import InvalidRequest
from jobmgr.wire.submission import JobSubmission, to_new_job


def read(**fields: Any) -> NewJob:
    asked = msgspec.convert({"command": ["true"], **fields}, JobSubmission)
    return to_new_job(asked, user="ada", at="jobs[3].")


def test_only_a_command_is_required() -> None:
    job = read()

    assert (job.spec.command, job.queue, job.site, job.priority, job.user) == (
        ("true",),
        "default",
        "local",
        0,
        "ada",
    )
    assert len(job.job_id) == 20
    assert job.spec.resources.cpus is None


def test_sizes_and_durations_become_numbers() -> None:
    job = read(
        resources={"memory": "2GB", "walltime": "0:01:30", "cpus": 2},
        retry={"max_attempts": 3, "backoff": "5m"},
    )

    assert job.spec.resources.memory_bytes == 2 * 1024**3
    assert job.spec.resources.walltime_s == 90
    assert job.spec.retry.backoff_s == 300


def test_dependencies_keep_their_condition() -> None:
    job = read(depends_on=[{"job_id": "a"}, {"job_id": "b", "when": "any"}])

    assert [(one.job_id, one.when) for one in job.depends_on] == [("a", When.SUCCESS), ("b", When.ANY)]


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"command": ["a\0b"]}, "command[0]"),
        ({"command": [""]}, "command[0]"),
        ({"command": ["true", "\ud800"]}, "command[1]"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "\x1b[31m"}, "name"),
        ({"env": {"A=B": "1"}}, "env.'A=B'"),
        ({"env": {"": "1"}}, "env.''"),
        ({"env": {"A": "nul\0"}}, "env.A"),
        ({"env": {"JOBMGR_JOB_ID": "x"}}, "env.JOBMGR_JOB_ID"),
        ({"cwd": "relative/path"}, "cwd"),
        ({"resources": {"memory": "0"}}, "resources.memory"),
        ({"resources": {"memory": "lots"}}, "resources.memory"),
        ({"resources": {"walltime": 0}}, "resources.walltime"),
        ({"resources": {"walltime": "24:00"}}, "resources.walltime"),
        ({"retry": {"backoff": "soon"}}, "retry.backoff"),
        ({"not_before": "2026-01-01T00:00:00"}, "not_before"),
        ({"depends_on": [{"job_id": "a"}, {"job_id": "a"}]}, "depends_on[1]"),
        ({"success": {"required_files": ["../secret"]}}, "success.required_files[0]"),
        ({"success": {"required_files": ["/etc/passwd"]}}, "success.required_files[0]"),
        ({"tags": ["ok", "\x00"]}, "tags[1]"),
        ({"extended_properties": {"a": "\0"}}, "extended_properties"),
        ({"extended_properties": {"a": "x" * 70_000}}, "extended_properties"),
        ({"job_id": "ends-with-newline\n"}, "job_id"),
    ],
)
def test_what_a_schema_cannot_say_is_refused_by_field(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)

    assert caught.value.field == "jobs[3]." + where


@pytest.mark.parametrize(
    "fields",
    [
        {"unknown": 1},
        {"command": []},
        {"command": "true"},
        {"priority": "high"},
        {"priority": 2**40},
        {"priority": True},
        {"job_id": "../../etc"},
        {"job_id": ""},
        {"resources": {"cpus": 0}},
        {"on_lost": "maybe"},
    ],
)
def test_what_the_schema_says_is_refused_by_the_schema(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(**fields)
