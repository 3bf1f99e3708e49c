"""What the files of an attempt and the words of its scheduler say together. Pure: the one place that judges.

The gate says which run holds the attempt, its record how that ended. What the scheduler says of any other run under
the same name says nothing about the attempt, and what it does not list is absent only when it listed everything, and
for some time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from jobmgr.dialects.dialect import Cause, Phase, Standing
from jobmgr.dialects.holder import REFUSED
from jobmgr.domain.job import JobError
from jobmgr.executors import gate
from jobmgr.executors.evidence import exit_record
from jobmgr.executors.pace import Pace
from jobmgr.executors.place import Files
from jobmgr.executors.protocol import RAN_BEFORE, Ended, ExitRecord, Final, Lost, NeverRan
from jobmgr.failure import Failure

# A job may have written its record itself.
_TIMES = re.compile(r"(\d{1,9})m(\d{1,9}(?:\.\d{1,9})?)s\s+(\d{1,9})m(\d{1,9}(?:\.\d{1,9})?)s", re.ASCII)
_FAILURES = {
    Cause.TIMEOUT: Failure.TIMEOUT,
    Cause.DEADLINE: Failure.TIMEOUT,
    Cause.OUT_OF_MEMORY: Failure.OUT_OF_MEMORY,
    Cause.NODE_FAIL: Failure.NODE_FAIL,
    Cause.BOOT_FAIL: Failure.NODE_FAIL,
    Cause.PREEMPTED: Failure.PREEMPTED,
    Cause.REQUEUED: Failure.PREEMPTED,
    Cause.REVOKED: Failure.PREEMPTED,
}
# What schedulers say that tell no more than the exit code does, of a run that somebody ended too.
_PLAIN = frozenset({None, Cause.COMPLETED, Cause.FAILED})
_WAITS = frozenset({Phase.PENDING, Phase.HELD})
_LIVE = frozenset({Phase.PENDING, Phase.HELD, Phase.RUNNING, Phase.SUSPENDED, Phase.ENDING})


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing has ended, as far as can be told."""


@dataclass(frozen=True, slots=True)
class ToVoid:
    """No run of the attempt is left that could start it. If its gate can be voided that is its end."""

    error: JobError | None


@dataclass(frozen=True, slots=True)
class ToSettle:
    """The holder is gone and wrote a record that is not linked."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Vanished:
    """The run that holds the attempt is gone, and nobody can tell how it ended; `why` says so to people."""

    why: str


Verdict = Wait | ToVoid | ToSettle | Vanished | Final


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an attempt besides: whether it is to be cancelled, for how long no run of it was seen alive.

    `heeds_memory`: a plain exit code is not enough, because it matters whether it came from a want of memory.
    `recorded_s` is for how long its record is known, `waits_s` for how long its holder's job has waited again.
    `has_started`: a run of it was seen to pass its gate.
    """

    token: str
    is_cancelled: bool
    gone_s: float
    pace: Pace
    heeds_memory: bool = False
    recorded_s: float = 0.0
    waits_s: float = 0.0
    has_started: bool = False


def is_alive(files: Files, standings: Sequence[Standing]) -> bool:
    """Whether the scheduler has a run that may yet start the attempt, or that holds it."""
    holder = _holder(files)
    return any(one.phase in _LIVE and (holder is None or _is_of(holder, one)) for one in standings)


def is_put_back(holder_id: str, standings: Sequence[Standing]) -> bool:
    """Whether the job of the run that passed the gate is said to wait, by a scheduler that counts no restarts."""
    runs = [one for one in standings if one.id == holder_id and one.phase is not Phase.ENDED]
    return bool(runs) and all(one.restarts is None and one.phase in _WAITS for one in runs)


def judge(
    known: Known, files: Files, standings: Sequence[Standing], *, complete: bool, has_queue: bool
) -> Verdict:
    """The verdict on one attempt.

    `standings` are the jobs of its name; they are all if it is `complete`, and all that wait or run if it `has_queue`.
    """
    if files.token and files.token != known.token:
        return Lost(known.token, RAN_BEFORE)
    # Accounting may never learn of the end of what the queue does not know any more.
    listed = [one for one in standings if one.phase is not Phase.MISSING]
    complete, standings = complete and len(listed) == len(standings), listed
    if files.record is not None:
        return _recorded(known, files.record, _run_of(files, standings))
    if _holder(files) is not None:
        return _held(known, files, standings, complete=complete, has_queue=has_queue)
    if left := _left(known, files):
        return _spoilt(known, left, standings, complete=complete, has_queue=has_queue)
    if files.gate is not None:
        return NeverRan(known.token, None)
    return _undecided(known, standings, has_queue=has_queue)


def _left(known: Known, files: Files) -> str:
    """What a run left behind that cannot be told any more; empty if there may have been none."""
    if files.gate is None and files.garbled:
        return f"its holder left files ({files.garbled}) that cannot be understood"
    return "it was running, and its control files are gone" if known.has_started else ""


def _recorded(known: Known, record: gate.Content, run: Standing | None) -> Verdict:
    end = exit_record(record)
    cpu_s = _cpu_s(record.get("times", ""))
    end = replace(end, cpu_s=cpu_s if end.cpu_s is None else end.cpu_s)
    was_hit = bool(record.get("signals")) or (end.exit_code or 0) > 128
    heeds_memory = known.heeds_memory and end.exit_code != 0
    if end.exit_code is None or not (was_hit or known.is_cancelled or heeds_memory):
        return Ended(known.token, end)
    # Perhaps somebody ended it, or a part of it: a program whose step ran out of memory may well exit with 1, a shell
    # whose program is hit before itself with 0. Who, the scheduler knows.
    has_ended = run is not None and run.phase is Phase.ENDED
    # Some schedulers never learn of an end.
    is_awaited = known.gone_s < known.pace.record_comes_s and known.recorded_s < known.pace.ghost_s
    if not has_ended and is_awaited:
        return Wait()
    if run is not None:
        end = replace(end, peak_memory_bytes=run.peak_memory_bytes)
    cause = run.cause if run is not None and has_ended else None
    is_cancel = cause is Cause.CANCELLED or (was_hit and known.is_cancelled and cause in _PLAIN)
    if is_cancel and (was_hit or known.is_cancelled):
        return Ended(known.token, replace(end, ended_by="cancel"))
    if not end.exit_code or not (was_hit or cause is Cause.OUT_OF_MEMORY):
        return Ended(known.token, end)
    if cause in _FAILURES and run is not None:
        error = JobError(_FAILURES[cause], _said(run))
        return Ended(known.token, replace(end, exit_code=None, error=error))
    return Ended(known.token, end)


def _undecided(known: Known, standings: Sequence[Standing], *, has_queue: bool) -> Verdict:
    # What is not in the queue may be voided, also where nobody knows what has ended: a late run would be refused.
    if not has_queue or any(one.phase is not Phase.ENDED for one in standings):
        return Wait()
    if not standings:
        return ToVoid(None) if known.gone_s >= known.pace.absent_s else Wait()
    if known.gone_s < known.pace.record_comes_s:
        return Wait()
    last = standings[-1]
    if last.cause is Cause.CANCELLED or known.is_cancelled:
        return ToVoid(JobError("cancelled", f"cancelled before it started: {_said(last)}"))
    failure = _FAILURES.get(last.cause) if last.cause else None
    return ToVoid(JobError(failure or Failure.SPAWN_FAILED, f"it never started: {_said(last)}"))


def _spoilt(
    known: Known, left: str, standings: Sequence[Standing], *, complete: bool, has_queue: bool
) -> Verdict:
    """Nothing can start any more, and something may have run: nobody can tell which run it was; `left` says why."""
    if not has_queue or any(one.phase is not Phase.ENDED for one in standings):
        return Wait()
    if known.gone_s < (known.pace.record_comes_s if standings else known.pace.absent_s):
        return Wait()
    if standings:
        return Lost(known.token, f"{_said(standings[-1])}, and {left}")
    return _absent(known, left, complete=complete)


def _held(
    known: Known, files: Files, standings: Sequence[Standing], *, complete: bool, has_queue: bool
) -> Verdict:
    run = _run_of(files, standings)
    holder = _holder(files)
    assert holder is not None
    # Requeued by somebody: the run that holds the attempt is over, and the next one is refused. One answer that its job
    # waits may be older than its start.
    has_waited = known.waits_s >= known.pace.record_comes_s
    was_refused = run is not None and _was_refused(run)
    is_requeued = (
        has_waited
        or was_refused
        or any(one.id == holder["id"] and (one.restarts or 0) > holder["restarts"] for one in standings)
    )
    if run is not None and run.phase is not Phase.ENDED and not is_requeued:
        return Wait()
    if run is None and not is_requeued and not (has_queue and known.gone_s >= known.pace.absent_s):
        return Wait()
    if known.gone_s < known.pace.record_comes_s and not has_waited:
        return Wait()
    if files.note is not None:
        assert files.gate is not None
        return ToSettle(files.gate["nonce"])
    if run is None and not is_requeued:
        return _absent(known, f"{holder['id']} at {holder['site']} left no record", complete=complete)
    has_ended = run is not None and run.phase is Phase.ENDED and not was_refused
    return _ended_as(known, holder, run if has_ended else None)


def _was_refused(run: Standing) -> bool:
    """Whether it is a later run of the same job that ended so; a scheduler that counts restarts tells them apart."""
    return (
        run.phase is Phase.ENDED and run.restarts is None and run.exit_code == REFUSED and run.cause in _PLAIN
    )


def _absent(known: Known, left: str, *, complete: bool) -> Final | Vanished:
    """A run that left no record and is not in the queue any more; `left` says what there is of it."""
    if complete:
        return Lost(known.token, f"{left}, and the scheduler does not know it any more")
    # Where the scheduler remembers no ends its silence is no proof: the record may be on a disk that is away.
    gone = f"{left} and is gone from the queue, and the scheduler tells no end of it"
    if known.is_cancelled:
        return Lost(known.token, f"{gone}; its end was wished")
    return Vanished(f"{gone}; `cancel` ends the attempt as lost")


def _ended_as(known: Known, holder: gate.Content, run: Standing | None) -> Final:
    """The end of a run that left no record, as its scheduler tells it."""
    cause = run.cause if run is not None else Cause.REQUEUED
    said = _said(run) if run is not None else f"{holder['id']} was requeued"
    # Who heeds no warning is killed, with his holder; not every scheduler tells why.
    if cause is Cause.CANCELLED or (run is not None and known.is_cancelled and cause in _PLAIN):
        return Ended(known.token, _end(known.token, holder, run, JobError("cancelled", said), "cancel"))
    if cause in _FAILURES:
        return Ended(known.token, _end(known.token, holder, run, JobError(_FAILURES[cause], said), "self"))
    return Lost(known.token, f"{said}, and its holder left no record")


def _end(
    token: str, holder: gate.Content, run: Standing | None, error: JobError, ended_by: str
) -> ExitRecord:
    return ExitRecord(
        token=token,
        exit_code=None,
        signal=None,
        error=error,
        ended_by=ended_by,
        started_at=datetime.fromisoformat(holder["at"]),
        ended_at=(run and run.ended_at) or datetime.now(UTC),
        cpu_s=run.cpu_s if run else None,
        peak_memory_bytes=run.peak_memory_bytes if run else None,
        leftovers=0,
    )


def _holder(files: Files) -> gate.Content | None:
    if files.gate is None or files.gate["decision"] == gate.VOID:
        return None
    holder: gate.Content = files.gate["holder"]
    return holder


def _is_of(holder: gate.Content, one: Standing) -> bool:
    return one.id == holder["id"] and one.restarts in (None, holder["restarts"])


def _run_of(files: Files, standings: Sequence[Standing]) -> Standing | None:
    """The run that holds the attempt, as the scheduler sees it: alive if it says so anywhere."""
    holder = _holder(files)
    if holder is None:
        return None
    runs = [one for one in standings if _is_of(holder, one)]
    return min(runs, key=lambda one: one.phase is Phase.ENDED, default=None)


def _cpu_s(times: str) -> float | None:
    match = _TIMES.fullmatch(times.strip())
    if match is None:
        return None
    return float(match[1]) * 60 + float(match[2]) + float(match[3]) * 60 + float(match[4])


def _said(one: Standing) -> str:
    code = "" if one.exit_code is None else f", exit code {one.exit_code}"
    signal = f", signal {one.signal}" if one.signal else ""
    reason = f" ({one.reason})" if one.reason else ""
    return f"job {one.id} is {one.word}{reason}{code}{signal}"
