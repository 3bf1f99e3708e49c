"""What jobs write about themselves: when they ran, and that they ran."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jobmgr.domain.job import Job

Span = tuple[int, int]

_SPAN = 'a=$(date +%s%N); sleep "$0"; echo "$a $(date +%s%N)"'


def spanning(duration_s: float = 0.1) -> list[str]:
    """A command that writes when it began and ended."""
    return ["sh", "-c", _SPAN, f"{duration_s:g}"]


def span_of(job: Job) -> Span:
    """When a job with such a command ran, in nanoseconds."""
    assert job.work_dir is not None
    start, end = (Path(job.work_dir) / "stdout").read_text().split()
    return int(start), int(end)


def most_at_once(spans: Sequence[Span]) -> int:
    """How many of these were going on at the same time, at most."""
    steps = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    going = most = 0
    for _, step in steps:
        going += step
        most = max(most, going)
    return most


def signing(ledger: Path, duration_s: float = 0.0, exit_code: int = 0) -> list[str]:
    """A command that adds its job id to a file all jobs share."""
    script = 'echo "$JOBMGR_JOB_ID" >> "$0"; sleep "$1"; exit "$2"'
    return ["sh", "-c", script, str(ledger), f"{duration_s:g}", str(exit_code)]


def signatures(ledger: Path) -> list[str]:
    """The job ids in that file, in the order of their starts."""
    return ledger.read_text().split() if ledger.exists() else []
