"""Writes what executors report, in batches, fenced; keeps at it while the database is away."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from jobmgr.dispatch.outputs import Outputs
from jobmgr.dispatch.roster import Roster, key_of
from jobmgr.dispatch.sites import Sites
from jobmgr.domain.job import JobError
from jobmgr.domain.outcome import End, Outcome, Rules, decide
from jobmgr.domain.status import Status
from jobmgr.errors import StoreUnavailable
from jobmgr.executors.protocol import (
    Ended,
    ExitRecord,
    Final,
    Lost,
    NeverRan,
    Paused,
    Report,
    Resumed,
    Scheduled,
    Started,
    Told,
    Unreachable,
    Waiting,
)
from jobmgr.store import attempts, ownership
from jobmgr.store.attempts import Finish, Schedule, Start, Turn
from jobmgr.store.claims import Claimed
from jobmgr.store.engine import Batch, Database

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Kind = TypeVar("Kind", bound=Report)

_REPEAT_FIRST_S = 0.25
_REPEAT_MAX_S = 30.0
_QUICK_S = 0.02  # Ends that follow a commit within this time come in quick succession,
_GATHER_S = 0.002  # and then so much is waited for more of them.
_TRIES = 3  # What cannot be written as it is so many times is written as far as it can be.


class Completer:
    """Takes reports in, writes starts and ends out. What is not written yet stays here; the truth is on disk."""

    def __init__(
        self, database: Database, roster: Roster, sites: Sites, freed: Callable[[], Awaitable[None]]
    ) -> None:
        self._database = database
        self._roster = roster
        self._sites = sites
        self._freed = freed
        self._outputs = Outputs(roster, sites, self._take_looked)
        self._inbox: list[Report] = []
        # Of ends whose files were looked for, those that were not there.
        self._missing: dict[Report, tuple[str, ...]] = {}
        # How often each report was refused that is to be written again later.
        self._refused: dict[Report, int] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._written_at = 0.0

    def take(self, report: Report) -> None:
        """Accept a report from an executor. An end frees its room at once: the process is gone."""
        claimed = self._roster.get(report.token)
        if claimed is None:
            return
        if isinstance(report, Unreachable):
            self._roster.unreachable.add(report.token)
        elif isinstance(report, Started):
            self._roster.unreachable.discard(report.token)
        elif isinstance(report, Final):
            self._roster.free(report.token)
        if isinstance(report, Ended) and report.record.exit_code is not None and claimed.required_files:
            self._outputs.add(report)
        else:
            self._take_in(report)

    @property
    def has_ends(self) -> bool:
        """Whether ends wait that are not being written yet."""
        return any(isinstance(report, Final) for report in self._inbox)

    async def settle(self) -> None:
        """Wait until everything reported so far is written, but for ends whose files nobody can look for now."""
        await self._outputs.settle()
        await self._idle.wait()

    async def run(self) -> None:
        """Write for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._outputs.run())
            group.create_task(self._write_for_ever())

    async def _write_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._inbox:
                await self._gather_more()
                if self.has_ends:
                    # What is claimed into the room that was freed goes into the same commit.
                    await self._freed()
                batch, self._inbox = self._inbox, []
                await self._write_until_done(batch)
                self._written_at = time.monotonic()
            self._idle.set()

    async def _gather_more(self) -> None:
        """Where ends come in quick succession, let some more come: a commit costs as much as several jobs in it."""
        if time.monotonic() - self._written_at < _QUICK_S and self._roster.occupied.slots:
            await asyncio.sleep(_GATHER_S)

    async def _write_until_done(self, batch: Sequence[Report]) -> None:
        while True:
            try:
                await self._write(batch)
            except StoreUnavailable:
                await self._database.pause()
            except Exception as error:  # noqa: BLE001  # boundary: what cannot be written must not stop the others
                if len(batch) == 1:
                    self._repeat_later(batch[0], error)
                    return
                for report in batch:
                    await self._write_until_done([report])
                return
            else:
                for report in batch:
                    self._refused.pop(report, None)
                    self._missing.pop(report, None)
                return

    def _repeat_later(self, report: Report, error: Exception) -> None:
        """Take the report in again after a pause: without it its job would seem to run for ever."""
        claimed = self._roster.get(report.token)
        name = claimed.job_id if claimed else report.token
        tries = self._refused[report] = self._refused.get(report, 0) + 1
        logger.error("what is reported of job %s cannot be written, try %d", name, tries, exc_info=error)
        asyncio.get_running_loop().call_later(repeat_after_s(tries), self._take_in, report)

    def _take_looked(self, report: Ended, missing: tuple[str, ...]) -> None:
        self._missing[report] = missing
        self._take_in(report)

    def _take_in(self, report: Report) -> None:
        self._inbox.append(report)
        self._idle.clear()
        self._wake.set()

    async def _write(self, batch: Sequence[Report]) -> None:
        ends = {report.token: report for report in batch if isinstance(report, Final)}
        # A fast job's start is written with its end.
        started = {report.token: report for report in batch if isinstance(report, Started)}
        starts = [report for token, report in started.items() if token not in ends]
        # Only where it stands now matters, and an end is all there is to say.
        turns = {report.token: report for report in batch if isinstance(report, Paused | Resumed)}
        # All go into one commit, in this order. Writing any of them twice changes nothing, so each may be repeated.
        results = await asyncio.gather(
            self._write_each(attempts.schedule, _of(batch, Scheduled), _schedule),
            self._write_each(attempts.explain, _of(batch, Waiting), _reason),
            self._write_each(attempts.tell, _of(batch, Told), _told),
            self._write_each(attempts.start, starts, self._start),
            self._write_each(ownership.unreachable, _of(batch, Unreachable), _unreachable),
            self._write_each(
                attempts.turn, [turn for token, turn in turns.items() if token not in ends], _turn
            ),
            self._write_ends(list(ends.values()), started),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _write_each(
        self, write: Batch[Item, Any], reports: Iterable[Kind], make: Callable[[Claimed, Kind], Item]
    ) -> None:
        """Write what is reported of attempts that are in our hands."""
        items = [
            make(claimed, report)
            for report in reports
            if (claimed := self._roster.get(report.token)) is not None
        ]
        if items:
            await self._database.write_all(write, items)

    def _start(self, claimed: Claimed, report: Started) -> Start:
        directory = _storable(self._run_directory(claimed))
        return Start(key_of(claimed), report.handle, report.started_at, directory)

    async def _write_ends(self, reports: Sequence[Final], started: Mapping[str, Started]) -> None:
        items = []
        for report in reports:
            claimed = self._roster.get(report.token)
            if claimed is None:
                continue
            if self._refused.get(report, 0) >= _TRIES:
                items.append(_least(claimed))
            else:
                items.append(self._finish(claimed, report, started.get(report.token)))
        outcomes = await self._database.write_all(attempts.finish, items) if items else []
        for item, outcome in zip(items, outcomes, strict=True):
            self._log(item, outcome)
            held = self._roster.get(item.key.token)
            # An attempt that was taken up again meanwhile has a newer lease, and its end is told again.
            if held is not None and held.lease == item.key.lease:
                self._roster.drop(item.key.token)

    def _log(self, item: Finish, outcome: Outcome | None) -> None:
        claimed = self._roster.get(item.key.token)
        name = claimed.job_id if claimed else item.key.token
        if outcome is None and claimed is not None and claimed.lease != item.key.lease:
            logger.info(
                "job %s attempt %s was taken up again; its end is looked at anew", name, item.key.number
            )
        elif outcome is None:
            logger.warning("job %s attempt %s is another dispatcher's now", name, item.key.number)
        else:
            error = f" ({outcome.error.code})" if outcome.error else ""
            exited = "" if item.end.exit_code is None else f", exit code {item.end.exit_code}"
            ended = f"{outcome.attempt}{error}{exited}"
            logger.info("job %s is %s: attempt %s %s", name, outcome.status, item.key.number, ended)

    def _finish(self, claimed: Claimed, report: Final, started: Started | None) -> Finish:
        record = report.record if isinstance(report, Ended) else None
        directory = self._run_directory(claimed)
        end = _end(report)
        return Finish(
            key=key_of(claimed),
            end=end,
            decide=partial(_decide, end, self._missing.get(report, ()), random.random()),
            started_at=record.started_at if record else None,
            finished_at=record.ended_at if record else datetime.now(UTC),
            work_dir=_storable(directory),
            handle=started.handle if started else None,
            cpu_s=record.cpu_s if record else None,
            peak_memory_bytes=record.peak_memory_bytes if record else None,
            leftovers=record.leftovers if record else 0,
        )

    def _run_directory(self, claimed: Claimed) -> str:
        executor = self._sites.executor(claimed.site)
        assert executor is not None, "only executors report"
        return executor.run_directory(self._sites.launch_of(claimed))


def repeat_after_s(tries: int) -> float:
    """The pause after so many refusals of one report, from 1: twice as long each time, up to a limit."""
    # The exponent is bounded too: a disk that is full for hours makes for more refusals than a float has powers.
    return min(_REPEAT_FIRST_S * 2.0 ** min(tries - 1, 30), _REPEAT_MAX_S)


def _of(batch: Iterable[Report], kind: type[Kind]) -> list[Kind]:
    return [report for report in batch if isinstance(report, kind)]


def _schedule(claimed: Claimed, report: Scheduled) -> Schedule:
    return Schedule(key_of(claimed), report.handle)


def _reason(claimed: Claimed, report: Waiting) -> attempts.Reason:
    return attempts.Reason(key_of(claimed), _storable(report.reason))


def _told(claimed: Claimed, report: Told) -> attempts.Told:
    return attempts.Told(key_of(claimed), report.wished)


def _unreachable(claimed: Claimed, report: Unreachable) -> ownership.Unreachable:
    return ownership.Unreachable(key_of(claimed), _storable(report.why))


def _turn(claimed: Claimed, report: Paused | Resumed) -> Turn:
    return Turn(key_of(claimed), is_paused=isinstance(report, Paused))


def _decide(end: End, missing: tuple[str, ...], jitter: float, rules: Rules, now: datetime) -> Outcome:
    outcome = decide(end, rules, missing, now, jitter)
    if outcome.error is None:
        return outcome
    code, message = outcome.error.code, outcome.error.message
    return replace(outcome, error=JobError(code, _storable(message)))


def _storable(text: str) -> str:
    """The text without what databases refuse: bytes of names that are not UTF-8 (lone surrogates), and NUL."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


_INTERNAL = JobError(
    "internal_error",
    "it has ended, but how could not be stored; the service's log and its exit record say more",
)


def _least(claimed: Claimed) -> Finish:
    """The end of an attempt with nothing in it that could be refused. Not retried: the command may have succeeded."""
    return Finish(
        key=key_of(claimed),
        end=End(error=_INTERNAL),
        decide=lambda _rules, _now: Outcome(Status.FAILED, Status.FAILED, _INTERNAL),
        started_at=None,
        finished_at=datetime.now(UTC),
        work_dir=None,
    )


def _end(report: Final) -> End:
    match report:
        case Ended(record=record):
            return _end_of_record(record)
        case NeverRan(error=error):
            return End(error=error)
        case Lost(evidence=evidence):
            return End(error=_lost(evidence), lost=True)


def _end_of_record(record: ExitRecord) -> End:
    return End(record.exit_code, record.signal, record.error, record.ended_by)


def _lost(evidence: str) -> JobError:
    return JobError("lost", f"nobody knows how it ended: {evidence}")
