"""The hold on one attempt: its leader, its limits, the emptying of its tree, its record.

Keepers hold what they started; the warden holds what a dead keeper left. Both drive a Hold by telling it when
a child ended and calling `advance` when something may be due.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Protocol

from jobmgr import fault
from jobmgr.executors import gate, process
from jobmgr.executors.messages import Message
from jobmgr.executors.note import Assignment, Leader, Note, Status

_RESCAN_S = (
    0.05  # Between two rounds of KILL or STOP: a tree that forks meanwhile is found by the next round.
)


NEVER_STARTED = {
    "code": "keeper_died_before_start",
    "message": "the process that was to start the command, or to become it, was killed; the command never ran",
}


class Family(Protocol):
    """The processes of one attempt, as its holder can find them."""

    def members(self) -> list[process.ProcessStat]:
        """The living ones, the leader among them. Raises OSError if they cannot be seen now."""
        ...

    def is_gone(self) -> bool:
        """Whether none is left, for certain. The leader is reaped. Raises OSError as `members`."""
        ...


class Hold:
    """One started attempt in the hands of this process."""

    def __init__(
        self,
        assignment: Assignment,
        leader: Leader,
        family: Family,
        space: gate.ExitSpace,
        note: Note | None = None,
    ) -> None:
        self.token = assignment.token
        self.pid = leader.pid
        # What a service is told about the running command, and what is noted on disk about it.
        self.started: Message = {
            "op": "started",
            "v": gate.VERSION,
            "token": self.token,
            "pid": leader.pid,
            "start_ticks": leader.start_ticks,
            "boot_id": process.boot_id(),
            "started_at": gate.utc(leader.started_at_ns),
        }
        self._assignment = assignment
        self._leader = leader
        self._family = family
        self._space = space
        self._note = note
        self._status: Status | None = None
        self._error: Message | None = None
        self._cpu_s: float | None = None
        self._peak_memory_bytes: int | None = None
        self._ended_by = "self"
        self._kill_at: float | None = None
        self._press_at = 0.0
        self._paused_since: float | None = None
        self._stop_at = 0.0
        self._is_still = False  # Every process of the paused tree was seen stopped.
        self._news: Message | None = None
        self._leftovers: set[tuple[int, int]] = set()

    def take_over(self, note: Note) -> None:
        """Continue where a dead keeper was."""
        self._status = note.status
        if note.usage is not None:
            self._cpu_s, self._peak_memory_bytes = note.usage
        ended_by, kill_at = note.press
        if ended_by != "self":
            self._ended_by = ended_by
            self._kill_at = kill_at
        elif note.paused_since and self._status is None:
            self._paused_since = note.paused_since

    def leader_exited(self, child: process.Exited) -> None:
        """The leader ended: note its status, so that no death of ours loses it, and only then reap it.

        Raises OSError if it cannot be seen now; then it is still there.
        """
        never_started = self._never_became_the_command(child)
        self._status = Status(child.exit_code, child.signal)
        if self._note is not None:
            self._note.left(self._status)
            fault.reach("hold.left")
        if never_started:
            self._status, self._error = Status(None, None), NEVER_STARTED
            process.reap(child.pid)
            return
        self.child_exited(child.pid)
        if self._note is not None and self._cpu_s is not None and self._peak_memory_bytes is not None:
            self._note.reaped(self._cpu_s, self._peak_memory_bytes)
            fault.reach("hold.reaped")

    def _never_became_the_command(self, child: process.Exited) -> bool:
        # Who started it was told by posix_spawn of an exec that failed, but not of a kill before it.
        if self._note is not None and child.signal is None:
            return False
        try:
            seen = process.read_stat(child.pid)
        except OSError:
            if self._note is None:
                raise
            return False  # Started and killed is nearly always the truth.
        return seen is not None and not seen.has_executed

    def child_exited(self, pid: int) -> None:
        """A process of the tree ended and is ours to reap; what it used counts for the attempt."""
        usage = process.reap(pid)
        if usage is not None:
            self._cpu_s = (self._cpu_s or 0.0) + usage.cpu_s
            self._peak_memory_bytes = max(self._peak_memory_bytes or 0, usage.peak_memory_bytes)

    def attach(self) -> Message:
        """What a service that has just connected is told first."""
        self._is_still = False  # A paused tree is looked at, and told of, anew.
        self._stop_at = 0.0
        return self.started

    def take_news(self) -> Message | None:
        """What the service has to be told now, once."""
        news, self._news = self._news, None
        return news

    def obey(self, wish: Message) -> None:
        """Carry out what a service wants."""
        if wish["op"] == "cancel":
            self.end("cancel", wish["grace_s"])
        elif wish["op"] == "pause":
            self._pause()
        elif wish["op"] == "resume":
            self._resume()

    def _pause(self) -> None:
        """Stop the tree; its time limit stands still meanwhile. Not if it ended or is being ended."""
        if self._status is None and self._kill_at is None and self._paused_since is None:
            self._paused_since = time.monotonic()
            self._is_still = False
            self._stop_at = 0.0
            if self._note is not None:
                self._note.paused(self._paused_since)
                fault.reach("hold.stopping")

    def _resume(self) -> None:
        if self._status is not None:
            return
        # Before it is noted: who holds it after our death stops what was noted as paused, and says so. And also if no
        # pause is known, which may be for the same reason.
        process.send_signals(self._members() or (), signal.SIGCONT)
        fault.reach("hold.continuing")
        if self._paused_since is not None:
            if self._leader.deadline:
                deadline = self._leader.deadline + time.monotonic() - self._paused_since
                self._leader = self._leader._replace(deadline=deadline)
                if self._note is not None:
                    self._note.running(self._leader)
            self._forget_pause()
        # Also when there was nothing to do: the service does not know.
        self._news = {"op": "resumed", "token": self.token}

    def _forget_pause(self) -> None:
        self._paused_since = None
        if self._note is not None:
            self._note.paused(0.0)

    def end(self, ended_by: str, grace_s: float) -> None:
        """Begin to end the tree: TERM and CONT now, KILL after the grace.

        A later call can only shorten the grace. If the leader ended by itself before, that stands.
        """
        kill_at = time.monotonic() + grace_s
        if self._kill_at is not None:
            self._kill_at = min(self._kill_at, kill_at)
            self._press_at = min(self._press_at, self._kill_at)
            if self._note is not None:
                self._note.pressed(self._ended_by, self._kill_at)
            return
        if self._status is None:
            self._ended_by = ended_by
            if self._note is not None:
                self._note.pressed(ended_by, kill_at)
                fault.reach("hold.pressed")
        self._kill_at = kill_at
        self._forget_pause()
        self._ask_to_end(kill_at)

    def _ask_to_end(self, kill_at: float) -> None:
        # CONT comes second: a stopped process wakes up with TERM pending and cannot run on in between.
        process.send_signals(self._members() or (), signal.SIGTERM, signal.SIGCONT)
        self._press_at = kill_at

    def advance(self) -> Message | None:
        """Do what is due now; the exit record once the attempt is over."""
        now = time.monotonic()
        if self._status is None and self._paused_since is not None:
            self._keep_stopped(now)
        elif self._status is None:
            if self._leader.deadline and now >= self._leader.deadline and self._kill_at is None:
                self.end("walltime", self._assignment.walltime_grace_s)
        elif self._is_gone():
            return self._publish()
        elif self._kill_at is None:
            # Emptying takes time; should we and the warden die meanwhile, the next service reads the status.
            note_down(self._space, self._record())
            fault.reach("hold.emptying")
            self.end(self._ended_by, self._assignment.leftover_grace_s)
        if self._kill_at is not None and now >= self._press_at:
            self._press(now, self._kill_at)
        return None

    def _press(self, now: float, kill_at: float) -> None:
        if now < kill_at:
            # Taken over within the grace: the dead keeper may not have come to it.
            self._ask_to_end(kill_at)
            return
        process.send_signals(self._members() or (), signal.SIGKILL)
        self._press_at = now + _RESCAN_S

    def _keep_stopped(self, now: float) -> None:
        if self._is_still or now < self._stop_at:
            return
        members = self._members()
        if members is None:
            self._stop_at = now + _RESCAN_S
            return
        process.send_signals((member for member in members if not member.is_stopped), signal.SIGSTOP)
        self._stop_at = now + _RESCAN_S
        if not process.moving(members):
            self._is_still = True
            self._news = {"op": "paused", "token": self.token}

    def wake_at(self) -> float | None:
        """When `advance` is due by the (monotonic) clock, if no child ends before."""
        if self._kill_at is not None:
            return self._press_at
        if self._paused_since is not None and self._status is None:
            return None if self._is_still else self._stop_at
        return self._leader.deadline or None if self._status is None else time.monotonic() + _RESCAN_S

    def _is_gone(self) -> bool:
        try:
            return self._family.is_gone()
        except OSError as error:
            log(f"attempt {self.token}: its processes cannot be seen now: {error}")
            return False

    def _members(self) -> list[process.ProcessStat] | None:
        """The living processes; None if they cannot be seen now."""
        try:
            members = self._family.members()
        except OSError as error:
            log(f"attempt {self.token}: its processes cannot be seen now: {error}")
            return None
        if self._status is not None:
            self._leftovers.update((member.pid, member.start_ticks) for member in members)
        return members

    def _record(self) -> Message:
        assert self._status is not None
        return exit_record(
            self._assignment.token,
            self._status,
            error=self._error,
            started=None if self._error else self.started,
            ended_by=self._ended_by,
            cpu_s=self._cpu_s,
            peak_memory_bytes=self._peak_memory_bytes,
            leftovers=len(self._leftovers),
        )

    def _publish(self) -> Message:
        return publish(self._space, self._record())


def note_down(space: gate.ExitSpace, content: Message) -> None:
    """Write down what is known so far, if that is possible; who writes it must live on without."""
    try:
        space.note(content)
    except OSError as error:
        log(f"attempt {content['token']}: its state could not be written down: {error}")


def publish(space: gate.ExitSpace, record: Message) -> Message:
    """Link the record as the exit of the attempt; the one that stands."""
    try:
        return space.publish(record)
    except (OSError, ValueError) as error:
        # The control directory was deleted or spoilt under us; who listens is still told the truth.
        log(f"attempt {record['token']}: the exit record could not be written: {error}")
        return record


def exit_record(
    token: str,
    status: Status,
    *,
    error: Message | None = None,
    started: Message | None = None,
    ended_by: str = "self",
    cpu_s: float | None = None,
    peak_memory_bytes: int | None = None,
    leftovers: int = 0,
) -> Message:
    """The content of an exit record; either `error` or `started` (see Hold) is given."""
    return {
        "v": gate.VERSION,
        "token": token,
        "exit_code": status.exit_code,
        "signal": status.signal,
        "error": error,
        "ended_by": ended_by,
        "started_at": started["started_at"] if started else None,
        "ended_at": gate.utc(time.time_ns()),
        "cpu_s": cpu_s,
        "peak_memory_bytes": peak_memory_bytes,
        "leftovers": leftovers,
        "pid": started["pid"] if started else None,
        "start_ticks": started["start_ticks"] if started else None,
        "boot_id": process.boot_id(),
    }


def log(text: str) -> None:
    """A line in the log that keepers and wardens share: their standard error, opened for appending."""
    # Paths and errors may hold what looks like another line.
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    # A full disk must not end who writes this: there is an outcome to keep.
    with contextlib.suppress(OSError):
        os.write(2, f"{gate.utc(time.time_ns())} {os.getpid()} {shown}\n".encode())
