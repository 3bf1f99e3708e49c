"""Finding the holder of an attempt again, or the proof that it has none."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from jobmgr import fault
from jobmgr.executors import evidence, gate, process
from jobmgr.executors.evidence import Finding, Sighting
from jobmgr.executors.links import Link, connect
from jobmgr.executors.messages import Message
from jobmgr.executors.protocol import (
    RAN_BEFORE,
    Ended,
    Final,
    Launch,
    Lost,
    NeverRan,
    Paused,
    Resumed,
    Started,
)

logger = logging.getLogger(__name__)

_RETRY_FIRST_S = 0.02
_RETRY_MAX_S = 1.0
_TIMES_LOST_MAX = 10
_UNREACHABLE_RETRY_S = 30.0
_WATCH_S = 0.25
_GONE_RECHECK_S = 0.2
_ORPHAN_WALLTIME_GRACE_S = 10.0


@dataclass(eq=False, slots=True)
class Live:
    """An attempt that has not got its final report. `link` leads to its holder, once there is one."""

    launch: Launch
    control: str
    run: str
    link: Link | None = None
    is_handed_over: bool = False
    has_started: bool = False
    is_unreachable: bool = False
    is_over: bool = False
    is_overdue: bool = False  # it had no holder, and was ended because its walltime was over
    times_lost: int = 0
    shortage: str | None = None  # what the executor was short of when it should have started
    cancel_grace_s: float | None = None
    wish: Literal["pause", "resume"] | None = None  # the last one, for a holder that is reached later
    kick: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def token(self) -> str:
        """The attempt's name."""
        return self.launch.token


class _Holder(StrEnum):
    """What asking the processes that the gate names has shown."""

    FOUND = "found"
    UNSURE = "unsure"
    GONE = "gone"


class Pursuit:
    """Follows attempts whose connection is lost, or that an earlier service started."""

    def __init__(
        self,
        report_started: Callable[[Live, Started], None],
        report_unreachable: Callable[[Live, str], None],
        report_turn: Callable[[Live, Paused | Resumed], None],
        on_message: Callable[[Link, Message], None],
        on_lost: Callable[[Link], None],
    ) -> None:
        self._report_started = report_started
        self._report_unreachable = report_unreachable
        self._report_turn = report_turn
        self._on_message = on_message
        self._on_lost = on_lost

    async def follow(self, live: Live) -> Final | None:
        """The final report of the attempt; None once its holder is connected and will tell."""
        # Two services that both believe to own the attempt take its keeper from each other, slower each time.
        await _pause(live, _RETRY_FIRST_S * (2**live.times_lost - 1))
        live.times_lost = min(live.times_lost + 1, _TIMES_LOST_MAX)
        retry_s = _RETRY_FIRST_S
        times_gone = 0
        while not live.is_over:
            sighting = await asyncio.to_thread(evidence.look, live.control, live.token, live.launch.origin)
            report = settled(live.token, sighting)
            if report is not None:
                return report
            wait_s = retry_s
            retry_s = min(retry_s * 2, _RETRY_MAX_S)
            if sighting.finding in (Finding.UNDECIDED, Finding.DOUBTFUL):
                # Who claimed it may live elsewhere and start it yet. The gate keeps the doubt, should we die now.
                await self._void(live, sighting.detail)
            elif sighting.finding is Finding.UNREACHABLE:
                self._report_unreachable(live, sighting.detail)
                wait_s = _UNREACHABLE_RETRY_S
            elif sighting.finding is Finding.BARE:
                # Without its files only the process table can tell whether it still runs.
                if not await self._watch(live, {"token": live.token, "nonce": ""}):
                    return Lost(live.token, sighting.detail + _overdue(live))
            else:
                assert sighting.gate is not None
                holder = await self._attach(live, sighting.gate)
                if holder is _Holder.FOUND:
                    return None
                times_gone = times_gone + 1 if holder is _Holder.GONE else 0
                if times_gone and await self._watch(live, sighting.gate):
                    times_gone = 0
                elif times_gone > 1:
                    return await _lost(live, sighting.gate)
                wait_s = _GONE_RECHECK_S if times_gone else wait_s
            await _pause(live, wait_s)
        return None

    async def _void(self, live: Live, doubt: str) -> None:
        reason = "recovered before it was started"
        try:
            await asyncio.to_thread(gate.void, live.control, live.token, reason, doubt=doubt)
        except (OSError, ValueError) as error:
            logger.warning("the gate of attempt %s cannot be voided now: %s", live.token, error)

    async def _attach(self, live: Live, decision: gate.Content) -> _Holder:
        """Ask the keeper in the gate, then its warden."""
        keeper = decision["holder"]
        result = _Holder.GONE
        for who in (keeper, keeper["warden"]):
            answer = await self._ask(live, who)
            if answer == "started":
                return _Holder.FOUND
            if answer != "unknown":
                result = _Holder.UNSURE
        return result

    async def _ask(self, live: Live, who: dict[str, Any]) -> str:
        """`started` if this process holds the attempt and is connected; `unknown` if it does not hold it."""
        if not process.is_alive(who["pid"], who["start_ticks"]):
            return "unknown"
        try:
            link = await connect(who["socket"], self._on_message, self._on_lost)
        except OSError:
            return "busy"  # Ending just now, or stopped; the next round tells.
        try:
            link.token = live.token
            answer = await link.ask({"op": "attach", "token": live.token})
        except OSError:
            link.close()
            return "busy"
        except BaseException:
            link.close()
            raise
        if answer["op"] != "started" or (link.is_closed and not live.is_over):
            link.close()
            return str(answer["op"]) if answer["op"] != "started" else "busy"
        live.link = link
        fault.reach("pursuit.attached")
        if live.cancel_grace_s is not None:
            link.send({"op": "cancel", "token": live.token, "grace_s": live.cancel_grace_s})
        elif live.wish is not None:
            link.send({"op": live.wish, "token": live.token})
        return "started"

    async def _watch(self, live: Live, decision: gate.Content) -> bool:
        """Watch a command that runs on without a holder until it is gone; False if there is no process."""
        found = await asyncio.to_thread(evidence.running_processes, live.control, decision)
        if not found:
            return False
        note = await asyncio.to_thread(gate.read_note, live.control, decision["nonce"])
        self._report_started(live, _started(live.token, note, found))
        born_ticks = _born_ticks(note, found)
        kill_at: float | None = None
        stood_still = False
        while left := _living(found):
            stands_still = not process.moving(left)
            if stands_still and not stood_still:
                # A pause of its dead keeper, or its own doing. Unless somebody wants it paused, it is told to go on.
                self._report_turn(live, Paused(live.token))
            stood_still = stands_still
            grace_s = _due_grace_s(live, process.age_s(born_ticks))
            if kill_at is None and grace_s is not None:
                kill_at = time.monotonic() + grace_s
                live.is_overdue = live.cancel_grace_s is None
                process.send_signals(found, signal.SIGTERM, signal.SIGCONT)
            elif kill_at is not None and time.monotonic() >= kill_at:
                process.send_signals(found, signal.SIGKILL)
            elif kill_at is None and live.wish is not None:
                await self._obey(live, decision)
            await _pause(live, _WATCH_S)
        return True

    async def _obey(self, live: Live, decision: gate.Content) -> None:
        """Pause a command without a holder, round by round until all of it stands still, or let it go on."""
        found = await asyncio.to_thread(evidence.running_processes, live.control, decision)
        if live.wish == "resume":
            live.wish = None
            process.send_signals(found, signal.SIGCONT)
            self._report_turn(live, Resumed(live.token))
            return
        process.send_signals((one for one in found if not one.is_stopped), signal.SIGSTOP)
        if found and not process.moving(found):
            live.wish = None
            self._report_turn(live, Paused(live.token))


def settled(token: str, sighting: Sighting) -> Final | None:
    """The final report that follows from the control directory alone, if one does."""
    if sighting.finding is Finding.ENDED:
        assert sighting.record is not None
        return Ended(token, sighting.record)
    if sighting.finding is Finding.VOID:
        return NeverRan(token, None)
    if sighting.finding is Finding.OTHER_BOOT:
        return Lost(token, sighting.detail)
    if sighting.finding is Finding.OTHER_ATTEMPT:
        return Lost(token, RAN_BEFORE)
    return None


def _living(found: list[process.ProcessStat]) -> list[process.ProcessStat]:
    """Those that have not ended, as they are now."""
    seen = [(process.read_stat(one.pid), one) for one in found if process.is_alive(one.pid, one.start_ticks)]
    return [now for now, one in seen if now is not None and now.start_ticks == one.start_ticks]


def _due_grace_s(live: Live, age_s: float) -> float | None:
    """The grace with which the command, started `age_s` ago, is to be ended now; None while it may run."""
    if live.cancel_grace_s is not None:
        return live.cancel_grace_s
    walltime_s = live.launch.walltime_s
    if walltime_s is not None and age_s > walltime_s:
        return _ORPHAN_WALLTIME_GRACE_S
    return None


def _started(token: str, note: gate.Content | None, found: list[process.ProcessStat]) -> Started:
    if note is not None and note.get("pid") and note.get("started_at"):
        return Started(token, evidence.handle_of(note), datetime.fromisoformat(note["started_at"]))
    first = min(found, key=lambda one: one.start_ticks)
    return Started(token, f"{first.pid}@{process.boot_id()}:{first.start_ticks}", datetime.now(UTC))


def _born_ticks(note: gate.Content | None, found: list[process.ProcessStat]) -> int:
    if note is not None and note.get("start_ticks"):
        return int(note["start_ticks"])
    return min(one.start_ticks for one in found)


async def _lost(live: Live, decision: gate.Content) -> Final:
    # The holder may have decided the status and died while it ended the leftovers.
    await asyncio.to_thread(gate.settle_exit, live.control, decision["nonce"])
    sighting = await asyncio.to_thread(evidence.look, live.control, live.token)
    keeper, warden = decision["holder"]["pid"], decision["holder"]["warden"]["pid"]
    return settled(live.token, sighting) or Lost(
        live.token,
        f"its keeper (pid {keeper}) and warden (pid {warden}) do not hold it, no process carries its token "
        "or bears its mark, "
        f"and there is no exit record{_overdue(live)}",
    )


def _overdue(live: Live) -> str:
    return "; it was ended because its walltime was over" if live.is_overdue else ""


async def _pause(live: Live, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await live.kick.wait()
    except TimeoutError:
        return
    live.kick.clear()
