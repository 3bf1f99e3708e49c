"""A job's way through its events: each attempt is claimed once, started at most once and ended once, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.crash.record import Row


class Walk:
    """One job, event by event."""

    def __init__(self) -> None:
        self._v = 0
        self._number = 0
        self._is_live = False
        self._has_started = False
        self._has_ended = False
        self._cancel_asked = False

    def follow(self, events: Sequence[Row]) -> Iterator[str]:
        """What is wrong with all events of the job, as they stand in the log."""
        for index, event in enumerate(events):
            where = f"{event.kind} (number {event.seq}): "
            if (event.kind == "submitted") != (index == 0):
                yield where + "not stored once, and first"
            if event.v <= self._v:
                yield where + f"version {event.v} after {self._v}"
            self._v = event.v
            for breach in self._step(event.kind, event.data.get("attempt")):
                yield where + breach
        if not self._has_ended:
            yield "the last one is no end"

    def _step(self, kind: str, number: int | None) -> Iterator[str]:
        match kind:
            case "claimed":
                yield from self._claim(number)
            case "started" | "paused" | "resumed":
                yield from self._go_on(kind, number)
            case "completed" | "failed" | "cancelled":
                yield from self._end(number)
            case "retrying" if number is None:
                yield from self._reopen()
            case "retrying" | "released":
                yield from self._give_back(number)
            case "cancel_requested":
                self._cancel_asked = True

    def _claim(self, number: int | None) -> Iterator[str]:
        if self._is_live or self._has_ended:
            yield "while it was live, or after its end"
        if number != self._number + 1:
            yield f"attempt {number} after attempt {self._number}"
        if self._cancel_asked:
            yield "after somebody asked for its end"
        self._number, self._is_live, self._has_started = self._number + 1, True, False

    def _go_on(self, kind: str, number: int | None) -> Iterator[str]:
        if not self._is_live or number != self._number:
            yield f"attempt {number} is not live"
        if (kind == "started") == self._has_started:
            yield f"attempt {number} had started already, or not yet"
        self._has_started = True

    def _end(self, number: int | None) -> Iterator[str]:
        if self._has_ended:
            yield "for the second time"
        if self._is_live != (number is not None) or (self._is_live and number != self._number):
            yield f"of attempt {number}, while attempt {self._number} is live: {self._is_live}"
        self._is_live, self._has_ended = False, True

    def _reopen(self) -> Iterator[str]:
        if not self._has_ended:
            yield "a job that has not ended"
        self._has_ended = self._cancel_asked = False

    def _give_back(self, number: int | None) -> Iterator[str]:
        if not self._is_live or number != self._number:
            yield f"attempt {number} is not live"
        if self._cancel_asked:
            yield "although somebody asked for its end"
        self._is_live = False
