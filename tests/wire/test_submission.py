"""What is submitted, and what is refused with the name of its field."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.domain.job import Dependency, NewJob, OnLost, When
from jobmgr.domain.retry import Growth
from jobmgr.errors import InvalidRequest
from jobmgr.failure import Failure
from jobmgr.wire.mismatch import invalid
from jobmgr.wire.submission import JobSubmission, check_properties, to_new_job

SURROGATE = "\udcff"


def submitted(**fields: Any) -> NewJob:
    """As Python hands it over: values, not JSON text."""
    return to_new_job(
        msgspec.convert({"command": ["true"], **fields}, JobSubmission), user="me", at="jobs[3]."
    )


def refusal(**fields: Any) -> str:
    """The field that is named when this is refused."""
    with pytest.raises((InvalidRequest, msgspec.ValidationError)) as refused:
        submitted(**fields)
    if isinstance(refused.value, InvalidRequest):
        return refused.value.field
    return "jobs[3]." + str(refused.value).rpartition("`$.")[2].rstrip("`")


def test_only_the_command_is_required() -> None:
    job = submitted()

    assert job.spec.command == ("true",)
    assert (job.user, job.queue, job.site, job.priority, job.draft) == ("me", "default", "local", 0, False)
    assert (job.spec.retry.max_attempts, job.spec.on_lost, job.spec.success.exit_codes) == (
        1,
        OnLost.FAIL,
        (0,),
    )
    assert len(job.job_id) == 20


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("local", None)),
        ({"site": None, "executor": None}, ("local", None)),
        ({"site": "there"}, ("there", None)),
        ({"executor": "slurm"}, (None, "slurm")),
        ({"site": "local", "executor": "slurm"}, ("local", "slurm")),
        ({"site": ""}, ("", None)),
    ],
)
def test_site_is_local_only_if_nothing_else_is_asked_for(
    fields: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    job = submitted(**fields)

    assert (job.site, job.executor) == expected


def test_growth_is_read_with_its_units() -> None:
    job = submitted(
        resources={"memory": "2GB", "walltime": "1h"},
        retry={
            "max_attempts": 3,
            "memory_factor": 2,
            "memory_max": "8GB",
            "walltime_factor": 1.5,
            "walltime_max": "3h",
        },
    )

    assert job.spec.retry.growth == Growth(2, 8 * 2**30, 1.5, 10_800.0)


@pytest.mark.parametrize(
    ("retry", "resources", "field", "remedy"),
    [
        ({"memory_factor": 2}, {}, "memory_factor", "resources.memory"),
        ({"walltime_factor": 2}, {"memory": "1GB"}, "walltime_factor", "resources.walltime"),
        ({"memory_factor": 2, "max_attempts": 1}, {"memory": "1GB"}, "memory_factor", "max_attempts"),
        ({"memory_factor": 2, "on": ["timeout"]}, {"memory": "1GB"}, "memory_factor", "out_of_memory"),
        ({"walltime_factor": 2, "on": ["exit_code"]}, {"walltime": 9}, "walltime_factor", "timeout"),
        ({"memory_max": "8GB"}, {"memory": "1GB"}, "memory_max", "memory_factor"),
        ({"walltime_max": "3h"}, {"walltime": 9}, "walltime_max", "walltime_factor"),
        ({"memory_factor": 2, "memory_max": "1MB"}, {"memory": "1GB"}, "memory_max", "resources.memory"),
        ({"walltime_factor": 2, "walltime_max": 5}, {"walltime": 9}, "walltime_max", "resources.walltime"),
        ({"memory_factor": 2, "memory_max": "much"}, {"memory": "1GB"}, "memory_max", "4GB"),
    ],
)
def test_growth_that_would_never_come_is_refused(
    retry: dict[str, Any], resources: dict[str, Any], field: str, remedy: str
) -> None:
    with pytest.raises(InvalidRequest, match=remedy) as refused:
        submitted(retry={"max_attempts": 2, **retry}, resources=resources)

    assert refused.value.field == f"jobs[3].retry.{field}"


@pytest.mark.parametrize("factor", [1, 0, -2, 101, "twice"])
def test_factor_of_growth_is_more_than_one(factor: object) -> None:
    assert refusal(retry={"memory_factor": factor}) == "jobs[3].retry.memory_factor"


def test_new_ids_differ() -> None:
    assert len({submitted().job_id for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/opt/bin/solve", "case 1", "-n", "4"], "solve 'case 1' -n 4"),
        (["sh", "-c", "a\n\tb\x1b[31m"], "sh -c 'a b?[31m'"),
        (["echo", "\u202eoverride"], "echo '?override'"),
        (["python", "-c", "x" * 10_000], "python -c " + "x" * 47 + "..."),
    ],
)
def test_a_job_without_a_name_is_called_as_its_command(command: list[str], name: str) -> None:
    assert submitted(command=command).name == name


def test_everything_is_carried_over() -> None:
    job = submitted(
        job_id="my.job-1_a",
        env={"A": "b", "MIXED_case": ""},
        cwd="/tmp",
        priority=-3,
        resources={"cpus": 2, "memory": "4GB", "gpus": 1, "walltime": "1:00:00", "nodes": 2},
        retry={"max_attempts": 3, "backoff": "2m", "on": ["timeout"]},
        not_before="2031-01-31T18:00:00+02:00",
        depends_on=[{"job_id": "p"}, {"job_id": "q", "when": "any"}],
        tags=["z", "a", "z"],
        success={"exit_codes": [0, 7], "required_files": ["out/result.txt"]},
        on_lost="retry",
    )

    assert job.job_id == "my.job-1_a"
    assert job.spec.resources.memory_bytes == 4 * 2**30
    assert job.spec.resources.walltime_s == 3600
    assert (job.spec.retry.max_attempts, job.spec.retry.backoff_s) == (3, 120)
    assert job.due_at == datetime(2031, 1, 31, 16, tzinfo=UTC)
    assert job.spec.depends_on == (Dependency("p"), Dependency("q", When.ANY))
    assert job.tags == ("a", "z")
    assert job.spec.success.required_files == ("out/result.txt",)
    assert job.spec.on_lost is OnLost.RETRY


@pytest.mark.parametrize(
    "fields",
    [
        {"comand": ["true"]},
        {"resources": {"cpu": 1}},
        {"retry": {"tries": 2}},
        {"depends_on": [{"job_id": "p", "if": "any"}]},
        {"success": {"codes": [0]}},
    ],
)
def test_unknown_field_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        submitted(**fields)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"command": []}, "command"),
        ({"command": "true"}, "command"),
        ({"command": [1]}, "command[0]"),
        ({"command": [""]}, "command[0]"),
        ({"command": ["a", "b\0c"]}, "command[1]"),
        ({"command": ["a", SURROGATE]}, "command[1]"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "\x1b[31m"}, "name"),
        ({"name": "\x7f"}, "name"),
        ({"name": SURROGATE}, "name"),
        ({"name": "x" * 1025}, "name"),
        ({"description": "a\0b"}, "description"),
        ({"description": "x" * 2049}, "description"),
        ({"queue": "a\nb"}, "queue"),
        ({"site": "a\0b"}, "site"),
        ({"site": SURROGATE}, "site"),
        ({"executor": "a\0b"}, "executor"),
        ({"executor": SURROGATE}, "executor"),
        ({"env": {"": "x"}}, "env.''"),
        ({"env": {"A=B": "x"}}, "env.'A=B'"),
        ({"env": {"A\0": "x"}}, "env.'A\\x00'"),
        ({"env": {"A": "x\0y"}}, "env.A"),
        ({"env": {"A": SURROGATE}}, "env.A"),
        ({"env": {SURROGATE: "x"}}, "env.'\\udcff'"),
        ({"env": {"JOBMGR_JOB_ID": "x"}}, "env.JOBMGR_JOB_ID"),
        ({"env": {"JOBMGR_JOB_ID": {"secret": "env:A"}}}, "env.JOBMGR_JOB_ID"),
        ({"env": {"A": {"secret": "env:JOBMGR_TOKEN"}}}, "env.A.secret"),
        ({"env": {"A": {"secret": "env:PGPASSWORD"}}}, "env.A.secret"),
        ({"env": {"A": {"secret": "env:A B"}}}, "env.A.secret"),
        ({"env": {"A": {"secret": "keyring:service"}}}, "env.A.secret"),
        ({"env": {"A": {"secret": "file:/a\0b"}}}, "env.A.secret"),
        ({"env": {"A": {"secret": f"file:/{SURROGATE}"}}}, "env.A.secret"),
        ({"env": {"A": 1}}, "env[...]"),
        ({"cwd": "relative/path"}, "cwd"),
        ({"cwd": ""}, "cwd"),
        ({"cwd": "/a\0b"}, "cwd"),
        ({"cwd": "/" + SURROGATE}, "cwd"),
        ({"job_id": "../x"}, "job_id"),
        ({"job_id": "a/b"}, "job_id"),
        ({"job_id": ""}, "job_id"),
        ({"job_id": ".hidden"}, "job_id"),
        ({"job_id": "a\n"}, "job_id"),
        ({"job_id": "x" * 129}, "job_id"),
        ({"priority": 2**31}, "priority"),
        ({"priority": -(2**31)}, "priority"),
        ({"priority": 10**40}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": "high"}, "priority"),
        ({"priority": True}, "priority"),
        ({"resources": {"cpus": 0}}, "resources.cpus"),
        ({"resources": {"cpus": 10**30}}, "resources.cpus"),
        ({"resources": {"memory": "lots"}}, "resources.memory"),
        ({"resources": {"memory": "0"}}, "resources.memory"),
        ({"resources": {"memory": "4"}}, "resources.memory"),
        ({"resources": {"memory": "9999999999T"}}, "resources.memory"),
        ({"resources": {"walltime": 0}}, "resources.walltime"),
        ({"resources": {"walltime": -1}}, "resources.walltime"),
        ({"resources": {"walltime": float("inf")}}, "resources.walltime"),
        ({"resources": {"walltime": float("nan")}}, "resources.walltime"),
        ({"resources": {"walltime": "9" * 60}}, "resources.walltime"),
        ({"resources": {"walltime": "24:00"}}, "resources.walltime"),
        ({"resources": {"partition": "a\nb"}}, "resources.partition"),
        ({"retry": {"max_attempts": 0}}, "retry.max_attempts"),
        ({"retry": {"max_attempts": 1001}}, "retry.max_attempts"),
        ({"retry": {"backoff": "soon"}}, "retry.backoff"),
        ({"retry": {"backoff": float("nan")}}, "retry.backoff"),
        ({"retry": {"on": ["timeout", "timout"]}}, "retry.on[1]"),
        ({"retry": {"on": ["lost"]}}, "retry.on[0]"),
        ({"retry": {"on": ["timeout"] * 65}}, "retry.on"),
        ({"not_before": "2031-01-31T18:00:00"}, "not_before"),
        ({"not_before": "0001-01-01T00:00:00+14:00"}, "not_before"),
        ({"not_before": "tomorrow"}, "not_before"),
        ({"depends_on": [{"job_id": "p"}, {"job_id": "p", "when": "any"}]}, "depends_on[1]"),
        ({"depends_on": [{"job_id": "p", "when": "always"}]}, "depends_on[0].when"),
        ({"tags": ["a\nb"]}, "tags[0]"),
        ({"tags": [""]}, "tags[0]"),
        ({"tags": [SURROGATE]}, "tags[0]"),
        ({"success": {"exit_codes": []}}, "success.exit_codes"),
        ({"success": {"exit_codes": [256]}}, "success.exit_codes[0]"),
        ({"success": {"required_files": ["../x"]}}, "success.required_files[0]"),
        ({"success": {"required_files": ["/etc/passwd"]}}, "success.required_files[0]"),
        ({"success": {"required_files": ["a", "b\0"]}}, "success.required_files[1]"),
        ({"on_lost": "shrug"}, "on_lost"),
        ({"extended_properties": {"a": "b\0c"}}, "extended_properties"),
        ({"extended_properties": {"a\0b": 1}}, "extended_properties"),
        ({"extended_properties": {"a": [SURROGATE]}}, "extended_properties"),
        ({"extended_properties": {SURROGATE: 1}}, "extended_properties"),
        ({"extended_properties": {"a": "x" * 70_000}}, "extended_properties"),
        ({"extended_properties": {"a": {1, 2}}}, "extended_properties"),
        ({"extended_properties": {"a": float("nan")}}, "extended_properties"),
        ({"extended_properties": {"a": [float("inf")]}}, "extended_properties"),
    ],
)
def test_bad_value_is_refused_by_the_name_of_its_field(fields: dict[str, Any], where: str) -> None:
    assert refusal(**fields) == "jobs[3]." + where


def test_code_to_retry_on_that_no_attempt_fails_with_is_answered_with_the_codes_there_are() -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        submitted(retry={"on": ["timout"]})

    message = invalid(refused.value, JobSubmission).message
    assert set(message.partition("known ones: ")[2].split(", ")) == set(Failure)


def test_codes_of_schedulers_may_be_retried_on() -> None:
    codes = ["node_fail", "preempted", "out_of_memory", "timeout"]

    assert submitted(retry={"on": codes}).spec.retry.on == frozenset(codes)


@pytest.mark.parametrize(
    "value",
    [
        r"C:\udata\x", r"\u0000 written out", r"C:\\udc00", "ü", "\U0001f600", "two\nlines\t", "\x7f", "' OR 1=1; --",
        2**63 - 1, -(10**30), 1.5, None, True, [{"deep": [1, [2]]}], "",
    ],
)  # fmt: skip
def test_property_that_any_database_can_store_is_taken(value: object) -> None:
    assert check_properties({"a": value}, "where") == {"a": value}


@given(st.text())
def test_text_of_properties_is_refused_exactly_if_it_cannot_be_stored(text: str) -> None:
    storable = "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
    try:
        check_properties({"a": text}, "where")
    except InvalidRequest:
        assert not storable
    else:
        assert storable


@given(st.text(min_size=1))
def test_name_is_taken_or_refused_by_its_field(text: str) -> None:
    try:
        assert submitted(name=text).name == text
    except InvalidRequest as refused:
        assert refused.field == "jobs[3].name"
    except msgspec.ValidationError as refused:
        assert len(text) > 1024, refused


def test_body_of_json_is_decoded_like_the_same_values() -> None:
    body = {"command": ["true"], "job_id": "a", "priority": 3, "resources": {"walltime": 90}}

    by_json = msgspec.json.decode(json.dumps(body).encode(), type=JobSubmission)

    assert by_json == msgspec.convert(body, JobSubmission)


@pytest.mark.parametrize("name", ["", " ", "a b", "ü", "../x", "x" * 129, "a\n"])
def test_what_cannot_be_a_queue_is_not_looked_for(name: str) -> None:
    with pytest.raises(InvalidRequest, match=r"queue: .* is not a queue name"):
        to_new_job(JobSubmission(command=["true"], queue=name), user="me")
