"""Readers that are compared with one transcript: whatever pieces they get, and in whatever order they come."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from benchmarks.transcript import Framing, Reader, Sse, Transcript, WebSocket


def socket_frame(packet: bytes) -> bytes:
    size = len(packet)
    if size < 126:
        return bytes([0x81, size]) + packet
    if size < 2**16:
        return bytes([0x81, 126]) + size.to_bytes(2, "big") + packet
    return bytes([0x81, 127]) + size.to_bytes(8, "big") + packet


STREAMS: dict[str, tuple[Framing, list[bytes], bytes]] = {
    "sse": (Sse(), [b"id: %d\ndata: %s\n\n" % (n, b"x" * n) for n in range(200)], b": alive\nid: 7\n\n"),
    "socket": (WebSocket(), [socket_frame(b"42" + b"x" * 9**n) for n in range(7)] * 9, socket_frame(b"2")),
}


def pieces(frames: Sequence[bytes], rng: random.Random) -> list[bytes]:
    """The same bytes, cut anywhere."""
    data = b"".join(frames)
    cuts = sorted(rng.sample(range(len(data)), k=60))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("seed", range(5))
def test_readers_of_the_same_frames_are_complete_however_they_are_cut(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    framing, frames, beat = STREAMS[kind]
    transcript = Transcript(framing)
    readers = [Reader(transcript) for _ in range(5)]
    left = []
    for _reader in readers:
        # What keeps a connection alive may come anywhere, and to each at another time.
        own = [*frames]
        own.insert(rng.randrange(len(own)), beat)
        left.append(pieces(own, rng))
    others: list[bytes] = []

    while any(left):
        index = rng.choice([index for index, some in enumerate(left) if some])
        others += readers[index].feed(left[index].pop(0), at=1.0)

    assert list(transcript.frames()) == frames
    assert all(reader.is_complete for reader in readers)
    assert others == [beat] * len(readers)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("what", ["missed", "doubled", "swapped", "cut off"])
def test_reader_that_got_something_else_is_not_complete(kind: str, what: str) -> None:
    framing, frames, _ = STREAMS[kind]
    transcript = Transcript(framing)
    one, another = Reader(transcript), Reader(transcript)
    one.feed(b"".join(frames), at=1.0)
    wrong = {
        "missed": [*frames[:3], *frames[4:]],
        "doubled": [*frames[:3], *frames[2:]],
        "swapped": [*frames[:2], frames[3], frames[2], *frames[4:]],
        "cut off": frames[:-1],
    }

    another.feed(b"".join(wrong[what]), at=1.0)

    assert one.is_complete
    assert not another.is_complete


def test_frame_has_arrived_when_the_last_of_it_has() -> None:
    framing, frames, _ = STREAMS["sse"]
    transcript = Transcript(framing)
    one, another = Reader(transcript), Reader(transcript)
    one.feed(b"".join(frames[:4]), at=1.0)

    another.feed(frames[0] + frames[1][:5], at=2.0)
    another.feed(frames[1][5:] + frames[2], at=3.0)

    assert list(one.arrivals()) == [1.0] * 4
    assert list(another.arrivals()) == [2.0, 3.0, 3.0]
