"""JSON to structs: every error names its field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.api.decoding import MAX_CONTAINERS, MAX_DEPTH, check_keys, decode
from jobmgr.api.problems import Refusal
from jobmgr.errors import InvalidRequest
from jobmgr.wire.requests import BulkSubmission
from jobmgr.wire.submission import JobSubmission

ANYTHING = msgspec.json.Decoder(Any)
BULK = msgspec.json.Decoder(BulkSubmission)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("text", "field", "known"),
    [
        (b'{"jobs": [{"command": ["a"], "x": 1}]}', "jobs[0].x", "command, job_id"),
        (
            b'{"jobs": [{"command": ["a"], "retry": {"x": 1}}]}',
            "jobs[0].retry.x",
            "max_attempts, backoff, on",
        ),
        (
            b'{"jobs": [{"command": ["a"], "depends_on": [{"x": 1}]}]}',
            "jobs[0].depends_on[0].x",
            "job_id, when",
        ),
        (b'{"x": 1}', "x", "jobs"),
        (b'{"": 1}', "", "jobs"),
    ],
)
def test_unknown_field_at_any_depth_lists_its_neighbours(text: bytes, field: str, known: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(BULK, text)

    assert caught.value.field == field
    assert f"known ones: {known}" in caught.value.message


def test_error_is_placed_where_the_text_stood() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(msgspec.json.Decoder(JobSubmission), b'{"command": ["a", 1]}', "jobs[3].")

    assert caught.value.field == "jobs[3].command[1]"


def test_error_of_the_whole_is_placed_at_the_whole() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(msgspec.json.Decoder(JobSubmission), b"[]", "jobs[3].")

    assert (caught.value.field, caught.value.message) == ("jobs[3]", "expected `object`, got `array`")


@given(JSON)
def test_what_is_encoded_has_no_key_twice(value: Any) -> None:
    encoded = msgspec.json.encode(value)

    decode(ANYTHING, encoded)


@given(st.dictionaries(st.text(), JSON, min_size=1), st.data())
def test_key_that_stands_twice_is_found_anywhere(value: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    inner = msgspec.json.encode(value)[:-1] + b"," + msgspec.json.encode(key) + b":null}"
    text = b'[{"a":' + inner + b"}]"

    with pytest.raises(InvalidRequest, match="twice"):
        check_keys(text, "")


def test_depth_has_a_limit() -> None:
    decode(ANYTHING, b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)

    with pytest.raises(Refusal, match="deeper"):
        decode(ANYTHING, b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


def test_brackets_in_strings_are_no_depth() -> None:
    decode(ANYTHING, msgspec.json.encode(['[{"' * 200, "\\" * 201]))


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_string_that_never_ends_is_read_once(end: bytes) -> None:
    # Were each quote in it tried as the beginning of a string, this would take hours.
    raw = b'"' + b'\\"' * 500_000 + b"[" * (MAX_CONTAINERS + 1) + end

    with pytest.raises(Refusal):
        decode(ANYTHING, raw)


@pytest.mark.parametrize("rest", [b"", b", ", b'"', b', "tags": ' + b"[" * 5000, b', "name": "\xff"'])
def test_a_wrong_variable_before_something_worse_is_told(rest: bytes) -> None:
    job = msgspec.json.Decoder(JobSubmission)

    with pytest.raises(InvalidRequest) as refused:
        decode(job, b'{"command": ["a"], "env": {"A": 1}' + rest)

    assert refused.value.field == "env"
