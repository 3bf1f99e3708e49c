"""The ledger: a file to which each command appends one line before it does anything else, and what each job is for.

A line is `job_id attempt token`, written by one write(2) on a descriptor opened with O_APPEND.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_SIGN = 'echo "$JOBMGR_JOB_ID $JOBMGR_ATTEMPT $JOBMGR_ATTEMPT_TOKEN" >> "$0"; '
_AWAIT = 'while [ ! -e "$1" ]; do sleep 0.02; done; '
# What a command leaves behind or does to its holder before it ends. Whoever kills keeper and warden waits for the rest.
_EXTRAS = {
    "plain": "",
    "child": "sleep 20 & ",
    "daemon": "(setsid sleep 20 &) ; ",
    # Whoever ignores TERM goes only after the holder's grace for leftovers, 5 s.
    "stubborn child": '(trap "" TERM; exec sleep 20) & ',
    "stubborn": 'trap "" TERM; ',
    "stopped child": "sleep 20 & kill -STOP $!; ",
}
KINDS = tuple(_EXTRAS)


@dataclass(slots=True)
class Plan:
    """One job: what it runs, how it has to end, and what was asked about it since."""

    job_id: str
    command: list[str]
    exit_code: int | None = 0
    signal: int | None = None
    error_code: str | None = None  # of a command that cannot be started
    times_out: bool = False
    may_lack_space: bool = False  # an attempt may fail because there is none for its files
    max_attempts: int = 1
    parents: Mapping[str, str] = field(default_factory=dict)  # job id -> when
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_answered: bool = False  # its submission
    cancel_asked: bool = False
    retries_asked: int = 0

    def submission(self) -> dict[str, Any]:
        """The body of its submission."""
        asked: dict[str, Any] = {"command": self.command, "job_id": self.job_id, **self.fields}
        if self.max_attempts > 1:
            asked["retry"] = {"max_attempts": self.max_attempts, "backoff": 0.05}
        if self.parents:
            asked["depends_on"] = [{"job_id": job_id, "when": when} for job_id, when in self.parents.items()]
        return asked


@dataclass(frozen=True, slots=True)
class Line:
    """One start."""

    job_id: str
    number: int
    token: str


class Ledger:
    """The file, and the commands that sign in it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"
        self._go = folder / "go"
        self._go.mkdir()

    def ending(
        self, job_id: str, exit_code: int, duration_s: float = 0.0, kind: str = "plain", **rest: Any
    ) -> Plan:
        """A job that runs for a while and exits with its own code; `kind` is one of KINDS."""
        pause = f"sleep {duration_s:.3f}; " if duration_s else ""
        script = f"{_SIGN}{_EXTRAS[kind]}{pause}exit {exit_code}"
        return Plan(job_id, ["sh", "-c", script, str(self.path)], exit_code, **rest)

    def waiting(self, job_id: str, exit_code: int, kind: str = "plain", **rest: Any) -> Plan:
        """A job that runs until it is let go."""
        script = f"{_SIGN}{_EXTRAS[kind]}{_AWAIT}exit {exit_code}"
        return Plan(job_id, ["sh", "-c", script, str(self.path), str(self._go / job_id)], exit_code, **rest)

    def let_go(self, job_id: str) -> None:
        """Let such a job end."""
        (self._go / job_id).touch()

    def dying(self, job_id: str, duration_s: float = 0.0) -> Plan:
        """A job that kills itself."""
        script = f"{_SIGN}sleep {duration_s:.3f}; kill -KILL $$"
        return Plan(job_id, ["sh", "-c", script, str(self.path)], exit_code=None, signal=9)

    def overlong(self, job_id: str, walltime_s: float, kind: str = "plain", **rest: Any) -> Plan:
        """A job that runs into its time limit."""
        script = f"{_SIGN}{_EXTRAS[kind]}sleep 60; sleep 60; exit 1"
        fields = {"resources": {"walltime": walltime_s}}
        command = ["sh", "-c", script, str(self.path)]
        return Plan(job_id, command, exit_code=None, times_out=True, fields=fields, **rest)

    def due(self, job_id: str, exit_code: int, delay_s: float) -> Plan:
        """A job that may not start before a moment from now."""
        plan = self.ending(job_id, exit_code)
        plan.fields = {"not_before": (datetime.now(UTC) + timedelta(seconds=delay_s)).isoformat()}
        return plan

    def impossible(self, job_id: str) -> Plan:
        """A job whose program does not exist."""
        return Plan(job_id, ["/nowhere/program"], exit_code=None, error_code="program_not_found")

    def lines(self) -> list[Line]:
        """All starts, in their order. Raises ValueError on a line that is not one."""
        if not self.path.exists():
            return []
        found = []
        for text in self.path.read_text().splitlines():
            job_id, number, token = text.split()
            found.append(Line(job_id, int(number), token))
        return found
