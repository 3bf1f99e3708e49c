"""Bodies of requests: a job, or a refusal that says where; never a bug."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.api import decoding
from jobmgr.api.problems import Refusal, describe
from jobmgr.api.rooms import parse_rooms
from jobmgr.api.window import Range
from jobmgr.cli import output
from jobmgr.client import bulk
from jobmgr.domain.job import EventPosition
from jobmgr.domain.resources import parse_duration, parse_memory
from jobmgr.errors import InvalidRequest
from jobmgr.hfss.config import HFSSSimulationConfig
from jobmgr.wire import requests
from jobmgr.wire.submission import JobChange, JobSubmission, to_new_job
from tests.fuzz import garbage

JOBS: list[dict[str, Any]] = [
    {
        "command": ["a", "b"], "job_id": "mine", "name": "n", "description": "d\n", "env": {"A": "1"}, "cwd": "/w",
        "site": "lab", "queue": "q", "priority": 3, "draft": True, "key": "k", "tags": ["t"], "on_lost": "retry",
        "not_before": "2026-01-31T18:00:00Z", "extended_properties": {"a": [1, {"b": None}]},
        "depends_on": [{"job_id": "x", "when": "any"}],
        "resources": {"cpus": 2, "memory": "4GB", "walltime": "1:30:00", "setup": ["x"], "mail_on": ["end"]},
        "retry": {"max_attempts": 3, "backoff": "5m", "on": ["timeout"], "memory_factor": 2.0},
        "success": {"exit_codes": [0, 3], "required_files": ["a/b"]},
    },
    {"command": ["true"], "executor": "slurm", "resources": {"walltime": 1.5}, "retry": {"backoff": 0}},
]  # fmt: skip
CHANGES = [{"name": "n", "tags": ["a"], "priority": 1, "extended_properties": {"a": 1}}, {"priority": 2}]
KINDS: dict[Any, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in vars(requests).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not msgspec.Struct
}
_JOB, _CHANGE = msgspec.json.Decoder(JobSubmission), msgspec.json.Decoder(JobChange)


def refused() -> contextlib.suppress:
    return contextlib.suppress(InvalidRequest, Refusal)


@given(body=garbage.json_bytes(*JOBS))
def test_a_submission_is_a_job_or_refused(body: bytes) -> None:
    try:
        job = to_new_job(decoding.decode(_JOB, body, "jobs[3]."), user="me", at="jobs[3].")
    except (InvalidRequest, Refusal) as error:
        # As it is answered.
        msgspec.json.encode(describe(error) if isinstance(error, InvalidRequest) else str(error))
        return

    assert job.spec.command[0]
    assert output.clean(job.name) == job.name or not job.name.isprintable()
    for text in (
        *job.spec.command,
        *job.spec.env,
        *map(str, job.spec.env.values()),
        job.name,
        job.description,
        *job.tags,
    ):
        assert "\0" not in text
        text.encode()
    assert not any("=" in name or "\n" in name or name.startswith("JOBMGR_") for name in job.spec.env)
    assert "\n" not in job.name


@given(body=garbage.json_bytes(*CHANGES, *JOBS, {"rooms": ["events"]}, {"jobs": JOBS}))
def test_any_body_is_one_of_its_kind_or_refused(body: bytes) -> None:
    decoders: list[msgspec.json.Decoder[Any]] = [_CHANGE, *KINDS.values()]
    for decoder in decoders:
        with refused():
            decoding.decode(decoder, body)


@given(lines=st.lists(garbage.json_bytes(*JOBS), max_size=4))
def test_lines_of_jobs_get_ids_and_stay_what_they_were(lines: list[bytes]) -> None:
    named, job_ids = bulk.with_ids(lines)

    assert len(named) == len(lines)
    assert len(job_ids) <= len(lines)


@given(asked=garbage.spoilt({"rooms": ["events", "job:x"]}))
def test_rooms_are_known_or_refused(asked: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        assert all(name == "events" or name.startswith("job:") for name in parse_rooms(asked).names)


@given(
    text=garbage.broken([b"bytes=0-5", b"bytes=-5", b"bytes=5-", b"bytes=1-2,4-5"]),
    size=st.integers(0, 2**40),
)
def test_a_range_lies_within_its_file(text: bytes, size: int) -> None:
    wanted = Range.parse(text.decode("utf-8", "surrogateescape"))
    if wanted is None:
        return

    offset, length = wanted.within(size)

    assert 0 <= length <= size
    assert length == 0 or 0 <= offset <= size - length
    assert wanted.asked[1] is None or wanted.asked[1] >= 0


@given(text=garbage.broken([b"epoch:17", b"17"]))
def test_a_position_is_one_or_refused(text: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert 0 <= EventPosition.parse(text.decode("utf-8", "surrogateescape")).seq < 10**18


@given(text=garbage.broken([b"4GB", b"1:30:00", b"90s", b"1.5h", b"512 MB"]))
def test_an_amount_is_one_or_refused(text: bytes) -> None:
    given_text = text.decode("utf-8", "surrogateescape")
    with contextlib.suppress(InvalidRequest):
        assert parse_memory(given_text, "memory") >= 0
    with contextlib.suppress(InvalidRequest):
        assert parse_duration(given_text, "walltime") >= 0


@given(
    body=garbage.spoilt(
        HFSSSimulationConfig(ansys_edt_path="/opt/ansysedt", project_path="/p.aedt").to_dict()
    )
)
def test_a_configuration_is_one_or_refused(body: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        HFSSSimulationConfig.from_dict(body)
