"""What a keeper notes down for its warden: shared memory that outlives the keeper's sudden death.

Writing costs no system call. Each step writes its fields first and the one byte that makes them valid last,
so that a keeper killed between two instructions leaves the step before.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
from enum import IntEnum
from typing import NamedTuple

_BYTES = 16384
_STATE = 0
_ENDED_BY = 1
_LEADER = struct.Struct(
    "=IQQd"
)  # pid, start ticks, started at (ns since 1970), deadline (monotonic; 0: none)
_LEADER_AT = 8
_PRESS = struct.Struct("=d")  # when KILL is due (monotonic)
_PRESS_AT = 40
_STATUS = struct.Struct("=ii")  # exit code or -1, signal or -1
_STATUS_AT = 48
_USAGE = struct.Struct("=dQ")  # cpu seconds, peak memory in bytes
_USAGE_AT = 56
_LENGTH = struct.Struct("=I")
_LENGTH_AT = 72
_PAUSED = struct.Struct("=d")  # since when the tree is stopped (monotonic); 0: it is not
_PAUSED_AT = 80
_TEXT_AT = 88

ENDED_BY = ("self", "cancel", "walltime")


class Step(IntEnum):
    """How far a keeper is with its attempt."""

    FREE = 0
    PREPARING = 1  # The gate may be passed or not: it has to be read.
    PASSED = 2  # The command may run or not: a child tells.
    RUNNING = 3  # The leader is known.
    LEFT = 4  # The leader's status is known; it may be reaped or not.
    REAPED = 5


class Assignment(NamedTuple):
    """One attempt as its holder needs to know it. The paths are absolute."""

    control: str
    token: str
    nonce: str
    walltime_s: float | None
    walltime_grace_s: float
    leftover_grace_s: float

    def deadline(self) -> float:
        """When a command that starts now has run for too long (monotonic); 0 if it has no limit."""
        return 0.0 if self.walltime_s is None else time.monotonic() + self.walltime_s


class Leader(NamedTuple):
    """The process that was started for an attempt. `deadline` is monotonic, 0 for none."""

    pid: int
    start_ticks: int
    started_at_ns: int
    deadline: float


class Status(NamedTuple):
    """How the leader ended; exactly one is set."""

    exit_code: int | None
    signal: int | None


class Note:
    """One keeper's page; made before the fork, written by the keeper, read by the warden after its death."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BYTES)  # Anonymous and shared.

    def assign(self, assignment: Assignment) -> None:
        """A new attempt; its gate is not passed yet. Raises ValueError if its paths are absurdly long."""
        text = json.dumps(assignment).encode()
        if _TEXT_AT + len(text) > _BYTES:
            raise ValueError("the path of the work directory is too long")
        memory = self._memory
        memory[_TEXT_AT : _TEXT_AT + len(text)] = text
        _LENGTH.pack_into(memory, _LENGTH_AT, len(text))
        memory[_ENDED_BY] = 0
        self.paused(0.0)
        memory[_STATE] = Step.PREPARING

    def passed(self) -> None:
        """The gate is this keeper's; the command is started next."""
        self._memory[_STATE] = Step.PASSED

    def running(self, leader: Leader) -> None:
        """The command was started."""
        _LEADER.pack_into(self._memory, _LEADER_AT, *leader)
        self._memory[_STATE] = Step.RUNNING

    def pressed(self, ended_by: str, kill_at: float) -> None:
        """TERM is about to be sent, for this reason."""
        _PRESS.pack_into(self._memory, _PRESS_AT, kill_at)
        self._memory[_ENDED_BY] = ENDED_BY.index(ended_by)

    def paused(self, since: float) -> None:
        """The tree is about to be stopped; 0: it goes on."""
        _PAUSED.pack_into(self._memory, _PAUSED_AT, since)

    def left(self, status: Status) -> None:
        """The leader ended; it is reaped next."""
        values = (-1 if value is None else value for value in status)
        _STATUS.pack_into(self._memory, _STATUS_AT, *values)
        self._memory[_STATE] = Step.LEFT

    def reaped(self, cpu_s: float, peak_memory_bytes: int) -> None:
        """The leader was reaped, and this is what it used."""
        _USAGE.pack_into(self._memory, _USAGE_AT, cpu_s, peak_memory_bytes)
        self._memory[_STATE] = Step.REAPED

    def clear(self) -> None:
        """The record is linked, or the attempt is not this keeper's."""
        self._memory[_STATE] = Step.FREE

    @property
    def step(self) -> Step:
        """How far the keeper is, or came."""
        return Step(self._memory[_STATE])

    @property
    def assignment(self) -> Assignment:
        """Valid unless FREE."""
        (length,) = _LENGTH.unpack_from(self._memory, _LENGTH_AT)
        return Assignment(*json.loads(self._memory[_TEXT_AT : _TEXT_AT + length]))

    @property
    def leader(self) -> Leader:
        """Valid from RUNNING on."""
        return Leader(*_LEADER.unpack_from(self._memory, _LEADER_AT))

    @property
    def press(self) -> tuple[str, float]:
        """Why and until when the tree is being ended; (`self`, …) if it is not."""
        (kill_at,) = _PRESS.unpack_from(self._memory, _PRESS_AT)
        return ENDED_BY[self._memory[_ENDED_BY]], kill_at

    @property
    def paused_since(self) -> float:
        """Since when the tree is stopped; 0 if it is not."""
        since: float = _PAUSED.unpack_from(self._memory, _PAUSED_AT)[0]
        return since

    @property
    def status(self) -> Status | None:
        """How the leader ended, if that was noted."""
        if self.step < Step.LEFT:
            return None
        exit_code, signal = _STATUS.unpack_from(self._memory, _STATUS_AT)
        return Status(None if exit_code < 0 else exit_code, None if signal < 0 else signal)

    @property
    def usage(self) -> tuple[float, int] | None:
        """Cpu seconds and peak memory of the leader, if they were noted."""
        return _USAGE.unpack_from(self._memory, _USAGE_AT) if self.step is Step.REAPED else None

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
