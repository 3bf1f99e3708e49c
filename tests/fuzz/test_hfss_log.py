"""Logs of simulations: however they are cut, and whatever stands in them."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from jobmgr.hfss.log import LogReader, job_named
from tests.fuzz import garbage

_LINES = [
    b"Project:a, Design:b", b"Running as user : me", b'Using command line: "a" -jobid j1', b"Batch Solve/Save: /p",
    b"[PROFILE] Initial Meshing", b"Tetrahedra: 12", b"Matrix size: 7", b"Memory 12.5e3 M", b"Real Time 00:01:02",
    b"CPU Time 1:2", b"Adaptive Pass 1 at Frequency: 5.5 GHz", b"Max Mag. Delta S: 0.02", b"Elapsed time : 00:10:11",
    b"[CONVERGE] Solution has converged at pass number 1", b"Adaptive Passes converged", b"Interpolating sweep",
    b"11 Frequencies", b"Frequency - 1e300 THz", b"[error] no", b"*** ERROR ***",
]  # fmt: skip
"""A line of each kind that is understood."""


@given(
    data=garbage.broken([b"\n".join(_LINES) + b"\n"])
    | st.lists(st.sampled_from(_LINES) | garbage.broken(_LINES), max_size=30).map(b"\n".join),
    cuts=st.lists(st.integers(1, 200), max_size=8),
)
def test_a_log_says_the_same_in_pieces_as_at_once(data: bytes, cuts: list[int]) -> None:
    whole, cut = LogReader(), LogReader()
    whole.feed(data)
    rest = data
    for size in cuts:
        cut.feed(rest[:size])
        rest = rest[size:]
    cut.feed(rest)
    for reader in (whole, cut):
        reader.feed(b"\n")

    assert whole.state() == cut.state()
    json.dumps(whole.state(), allow_nan=False)
    assert whole.progress().isprintable()
    job_named(data)


def test_the_lines_are_understood() -> None:
    reader = LogReader()
    reader.feed(b"\n".join(_LINES) + b"\n")

    assert reader.state()["sweep"] is not None
    assert reader.state()["init_mesh"] is not None
    assert reader.is_converged
