"""What a shell at a site tells of the parcels that it handed in one after the other (place.sh, `submit`)."""

from __future__ import annotations

from dataclasses import dataclass

from jobmgr.dialects.answers import number
from jobmgr.dialects.dialect import Answer

# That a shell could not be started, nor anything by it.
_NOT_STARTED = (126, 127)
_LENGTH_DIGITS = 9


@dataclass(frozen=True, slots=True)
class NotPlaced:
    """What has to lie at the site could not be stored, so nothing was handed in; some of it may lie there."""

    words: str


@dataclass(frozen=True, slots=True)
class NoPlace:
    """The work directory is not there, or not reached, so nothing was stored either."""

    words: str


@dataclass(frozen=True, slots=True)
class PlacedForOther:
    """The control directories belong to other attempts: the database is older than the work directory."""

    words: str


@dataclass(frozen=True, slots=True)
class NotAsked:
    """It was not its turn any more, for certain: one before it was not taken, or time was up."""


Heard = Answer | NotPlaced | NoPlace | PlacedForOther | NotAsked


def read(run: Answer, count: int) -> list[Heard]:
    """What became of each of `count` parcels, in their order.

    Who is not told of was not handed in if the shell came to its end in order; else whether is not known.
    """
    heard, is_whole = _told(run.stdout.encode("utf-8", "surrogateescape"))
    if run.exit_code in _NOT_STARTED and not heard:
        return [NotPlaced(run.stderr.strip() or f"sh ended with {run.exit_code}")] * count
    rest: Heard = NotAsked() if run.exit_code == 0 and is_whole else Answer(None, "", run.stderr)
    return [*heard, *[rest] * (count - len(heard))][:count]


def _told(data: bytes) -> tuple[list[Heard], bool]:
    """What was told as a whole, and whether that is all there is."""
    heard: list[Heard] = []
    while data:
        head, _, rest = data.partition(b"\n")
        kind, _, length = head.partition(b" ")
        size_bytes = _number(length)
        if size_bytes is None or len(rest) < size_bytes:
            return heard, False
        one = _one(kind, rest[:size_bytes])
        if one is None:
            return heard, False
        heard.append(one)
        data = rest[size_bytes:]
    return heard, True


def _one(kind: bytes, text: bytes) -> Heard | None:
    if kind == b"other":
        return PlacedForOther(_text(text))
    if kind == b"failed":
        return NotPlaced(_text(text))
    exit_code = _number(kind)
    return None if exit_code is None else _answer(exit_code, text)


def _answer(exit_code: int, text: bytes) -> Answer:
    said, length = text[:-_LENGTH_DIGITS], text[-_LENGTH_DIGITS:]
    size_bytes = _number(length)
    if size_bytes is None or size_bytes > len(said):
        # Whoever was to tell it was ended before.
        return Answer(None, "", _text(text))
    start = len(said) - size_bytes
    return Answer(exit_code, _text(said[start:]), _text(said[:start]))


def _number(digits: bytes) -> int | None:
    return number(digits.decode("ascii", "replace"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
