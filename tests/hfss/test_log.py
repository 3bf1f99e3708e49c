"""What logs say of progress: as the original read whole ones, and while they grow."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobmgr.hfss.log import LogReader, job_named
from tests.hfss.recorded import DIRECTORY, LOGS

CONVERGED = (DIRECTORY / "converged.log").read_bytes()
PIECES = [line + b"\n" for line in CONVERGED.split(b"\n")]


def read(*pieces: bytes) -> LogReader:
    reader = LogReader()
    for piece in pieces:
        reader.feed(piece)
    return reader


def untimed(state: dict[str, Any]) -> dict[str, Any]:
    """Without what the original always takes for 0, and what only we tell."""
    sweep = state["sweep"] and state["sweep"] | {"elapsed_sec": 0}
    adaptive = [each | {"elapsed_sec": 0} for each in state["adaptive"]]
    parser = {"is_converged": state["log_parser"]["is_converged"]}
    return state | {"sweep": sweep, "adaptive": adaptive, "log_parser": parser}


@pytest.mark.parametrize("name", sorted(LOGS))
def test_a_log_is_read_as_the_original_read_it(name: str) -> None:
    state = read((DIRECTORY / name).read_bytes()).state()

    assert untimed(state) == LOGS[name]


def test_times_and_ends_are_read_too() -> None:
    state = read(CONVERGED).state()

    assert [each["elapsed_sec"] for each in state["adaptive"]] == [21, 29, 3662]
    assert state["sweep"]["elapsed_sec"] == 123
    assert state["log_parser"]["is_completed"]
    unfinished = read((DIRECTORY / "not_converged.log").read_bytes()).state()["log_parser"]
    assert not unfinished["is_completed"]
    assert unfinished["errors"] == ["[error] Script macro error: something is wrong"]


@given(st.lists(st.integers(0, len(CONVERGED)), max_size=8))
def test_it_does_not_matter_in_which_pieces_it_comes(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(CONVERGED)]
    pieces = [CONVERGED[start:end] for start, end in itertools.pairwise(bounds)]

    assert read(*pieces).state() == read(CONVERGED).state()


def test_a_torn_number_is_not_taken_for_a_whole_one() -> None:
    reader = read(b"[PROFILE] Adaptive Pass 1 : Frequency: 5GHz\n Tetrahedra: 81")
    torn = reader.state()["log_parser"]["current_pass"]
    reader.feed(b"23\n")

    assert torn["tetrahedra"] == 0
    assert reader.state()["log_parser"]["current_pass"]["tetrahedra"] == 8123


def test_progress_is_told_line_by_line() -> None:
    reader, told = LogReader(), [""]
    for line in PIECES:
        reader.feed(line)
        told += [reader.progress()] if reader.progress() != told[-1] else []

    assert told == [
        "",
        "initial mesh",
        "initial mesh, 8,123 tetrahedra",
        "pass 1",
        "pass 1, 8,123 tetrahedra",
        "pass 2, 8,123 tetrahedra",
        "pass 2, 10,560 tetrahedra",
        "pass 2, 10,560 tetrahedra, delta S 0.18423",
        "pass 3, 10,560 tetrahedra, delta S 0.18423",
        "pass 3, 13,731 tetrahedra, delta S 0.18423",
        "pass 3, 13,731 tetrahedra, delta S 0.01204",
        "converged after 3 passes, 13,731 tetrahedra, delta S 0.01204",
        "converged after 3 passes, 13,731 tetrahedra, delta S 0.01204, sweep 0/201",
        "converged after 3 passes, 13,731 tetrahedra, delta S 0.01204, sweep 1/201",
        "converged after 3 passes, 13,731 tetrahedra, delta S 0.01204, sweep 2/201",
        "converged after 3 passes, 13,731 tetrahedra, delta S 0.01204, sweep 3/201",
    ]


def test_a_log_names_the_job_that_it_is_of() -> None:
    step = CONVERGED.replace(b"-jobid patch_1 ", b"-distributed ")

    assert job_named(CONVERGED) == "patch_1"
    assert job_named(step) is None
    assert job_named(CONVERGED[:200]) is None


def test_what_is_not_there_yet_is_null_and_not_an_error() -> None:
    state = LogReader().state()

    assert (state["init_mesh"], state["adaptive"], state["sweep"]) == (None, [], None)
    assert state["project"] == {"name": "", "file": "", "design": "", "user": "", "cmd_line": ""}
    assert not state["log_parser"]["is_converged"]


def test_the_first_mesh_is_not_mixed_up_with_that_of_a_pass() -> None:
    state = read(
        b"[PROFILE] Initial Meshing\n Tetrahedra: 10 : Memory 1.5 G : Real Time 01:02 : CPU Time 1:00:01\n",
        b"[PROFILE] Adaptive Pass 1 : Frequency: 2.5 GHz\n Tetrahedra: 20 : Real Time 00:09\n",
    ).state()

    assert state["init_mesh"] == {
        "tetrahedra": 10, "memory_mb": 1536.0, "real_time_sec": 62, "cpu_time_sec": 3601
    }  # fmt: skip
    assert state["log_parser"]["current_pass"]["freq_hz"] == 2.5e9


@settings(max_examples=300)
@given(
    st.lists(
        st.binary(max_size=60)
        | st.sampled_from(PIECES)
        | st.tuples(st.sampled_from(PIECES), st.integers(0, 80), st.binary(max_size=9)).map(
            lambda cut: cut[0][: cut[1]] + cut[2]
        ),
        max_size=20,
    )
)
def test_any_bytes_are_read_and_what_comes_of_them_is_json(pieces: list[bytes]) -> None:
    reader = read(*pieces, b"\n")

    json.dumps(reader.state(), allow_nan=False)
    assert isinstance(reader.progress(), str)


@pytest.mark.parametrize(
    "line",
    [
        b"Tetrahedra: " + b"9" * 5000,
        b"Max Mag. Delta S: 1e999",
        b"Max Mag. Delta S: 999999999999999e999",
        b"Adaptive Pass 1 Frequency: 1e999GHz",
        b"Adaptive Pass 1 Frequency: " + b"1" * 400 + b"GHz",
        b"Tetrahedra: \xc2\xb2\xc2\xb3",
    ],
)
def test_numbers_that_are_none_are_passed_over(line: bytes) -> None:
    reader = read(b"[PROFILE] Adaptive Pass 1 : Frequency: 5GHz\n", line + b"\n")

    json.dumps(reader.state(), allow_nan=False)
    assert reader.state()["log_parser"]["current_pass"]["pass_nr"] == 1


def test_a_line_without_end_is_not_kept_and_the_next_one_is_read() -> None:
    reader, piece = LogReader(), b"Tetrahedra: 5 " * 10_000
    tracemalloc.start()
    for _ in range(20):
        reader.feed(piece)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reader.feed(b"\n[PROFILE] Adaptive Pass 1 : Frequency: 5GHz\n")

    assert held_bytes < len(piece)
    assert reader.state()["log_parser"]["current_pass"]["tetrahedra"] == 0


@pytest.mark.parametrize(
    "word",
    [b"[CONVERGE]", b"pass number", b"Adaptive Pass 1 ", b"Elapsed time", b"Project:a", b"Running as user"],
)
def test_a_line_of_one_word_over_and_over_takes_no_time(word: bytes) -> None:
    # The limit of every test is the judge: a pattern that goes back and forth would take hours for these.
    reader = read(b"[PROFILE] Adaptive Pass 1 : Frequency: 5GHz\n")
    for _ in range(20):
        reader.feed((word + b"pass number x") * (8000 // len(word + b"pass number x")) + b"\n")

    assert reader.state()["adaptive"] == []
