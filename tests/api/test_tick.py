"""What is sent of one batch: to each its own, and each thing encoded once."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.transcript import WebSocket, payload
from jobmgr.api.frames import Frames
from jobmgr.api.rooms import Rooms
from jobmgr.api.tick import Tick
from jobmgr.domain.job import Event

BATCH = [
    Event(seq, datetime.now(UTC), kind, job_id, "u", 1, {})
    for seq, (kind, job_id) in enumerate(
        [("queued", "a"), ("started", "b"), ("limits_updated", None), ("failed", "a")], 7
    )
]


def told(frames: Frames) -> list[Any]:
    """The messages as a client reads them from its WebSocket."""
    found, start = [], 0
    while (end := WebSocket().end(frames.data, start)) is not None:
        found.append(json.loads(payload(frames.data[start:end]).removeprefix(b"42")))
        start = end
    assert start == len(frames.data)
    return found


@pytest.mark.parametrize(
    ("rooms", "seqs"),
    [
        (Rooms(everything=True, job_ids=frozenset({"a"})), [[7, 8, 9, 10]]),
        (Rooms(everything=False, job_ids=frozenset({"a", "c"})), [[7, 10]]),
        (Rooms(everything=False, job_ids=frozenset({"c"})), []),
        (Rooms(everything=False, job_ids=frozenset()), []),
    ],
)
def test_who_is_in_rooms_is_told_what_happened_there_in_one_message_each(
    rooms: Rooms, seqs: list[list[int]]
) -> None:
    tick = Tick("e", BATCH, [("job_queued", {})])

    messages = [message for frames in tick.frames(rooms) for message in told(frames)]

    assert [name for name, _ in messages] == ["events"] * len(seqs)
    assert [[event["seq"] for event in data["events"]] for _, data in messages] == seqs


@pytest.mark.parametrize("size", [1, 100, 1000, 100_000])
def test_who_is_in_no_room_is_told_each_message(size: int) -> None:
    messages = [("job_queued", {"job_id": "a"}), ("job_completed", {"name": "n" * size})]

    (frames,) = Tick("e", BATCH, messages).frames(None)

    assert told(frames) == [list(message) for message in messages]
    assert [json.loads(packet.encode().removeprefix("42")) for packet in frames.packets] == told(frames)


def test_each_thing_is_encoded_once_for_all_who_are_sent_it() -> None:
    tick = Tick("e", BATCH, [("job_queued", {})])
    of_a = Rooms(everything=False, job_ids=frozenset({"a"}))
    everything = Rooms(everything=True, job_ids=frozenset())

    for rooms in (of_a, everything, None):
        (one,), (other,) = tick.frames(rooms), tick.frames(rooms)
        assert one.data is other.data
