"""What keepers, warden and service tell each other, if somebody else talks."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jobmgr.executors.messages import Inbox, pack
from tests.fuzz import garbage

MESSAGES: list[dict[str, Any]] = [
    {
        "op": "start", "token": "t", "control": "/c", "run": "/r", "command": ["a"], "env": {}, "cwd": "/",
        "walltime_s": 1,
    },
    {"op": "hello", "env": {"A": "b"}, "walltime_grace_s": 1.0, "leftover_grace_s": 1.0},
    {"op": "cancel", "token": "t", "grace_s": 1.5},
    {"op": "fork", "count": 2},
    {"op": "started", "token": "t", "pid": 1, "start_ticks": 2, "boot_id": "b", "started_at": "x"},
    {"op": "refused", "token": "t", "trouble": None},
    {"op": "of a later version", "more": 1},
]  # fmt: skip


@given(
    bodies=st.lists(garbage.json_bytes(*MESSAGES), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 40), max_size=6),
)
def test_a_message_is_an_object_with_an_operation_or_refused(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(body).to_bytes(4, "big") + body for body in bodies)
    inbox = Inbox()
    messages = []
    with contextlib.suppress(ValueError):
        for cut in [*cuts, len(stream)]:
            messages += inbox.feed(stream[:cut])
            stream = stream[cut:]

    assert all(isinstance(message["op"], str) for message in messages)
    for message in messages:
        if message["op"] == "start":
            assert isinstance(message["command"], list)


@given(data=st.binary(max_size=64))
def test_any_bytes_are_messages_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert all(isinstance(message, dict) for message in Inbox().feed(data))


def test_messages_are_understood() -> None:
    assert Inbox().feed(b"".join(map(pack, MESSAGES))) == json.loads(json.dumps(MESSAGES))
