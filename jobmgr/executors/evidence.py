"""What the control directory and the process table say about an attempt. It only reads, and may block."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from jobmgr.domain.job import JobError, Origin
from jobmgr.executors import gate, process
from jobmgr.executors.protocol import ExitRecord

_CLOCK_TOLERANCE_S = 60.0


class Finding(StrEnum):
    """What the control directory of an attempt says."""

    UNDECIDED = "undecided"
    DOUBTFUL = "doubtful"
    VOID = "void"
    ENDED = "ended"
    OPEN = "open"
    BARE = "bare"
    OTHER_BOOT = "other_boot"
    OTHER_ATTEMPT = "other_attempt"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A finding with what belongs to it: the record if ENDED, the gate if OPEN, a sentence otherwise.

    BARE: its start was seen, and its control files are gone. DOUBTFUL: there is no gate, and it may have run all the
    same; it is over once the gate is void. OTHER_BOOT: it may have run, and is over.
    """

    finding: Finding
    record: ExitRecord | None = None
    gate: gate.Content | None = None
    detail: str = ""


def look(control: str, token: str, origin: Origin | None = None) -> Sighting:
    """Read the control directory of an attempt. A file that cannot be read or understood decides nothing."""
    sighting = _look(control, token, origin)
    if sighting.finding is not Finding.UNDECIDED or origin is None:
        return sighting
    if origin.work_id and gate.work_id(origin.work_dir) != origin.work_id:
        detail = f"its work directory {origin.work_dir} is not there, or another one is in its place"
        return Sighting(Finding.UNREACHABLE, detail=detail)
    is_of_this_boot = origin.boot_id == process.boot_id()
    if origin.has_started:
        detail = f"it was running, and its control files in {control} are gone"
        if is_of_this_boot or origin.host == process.host():
            return Sighting(Finding.BARE, detail=detail)
        return Sighting(Finding.UNREACHABLE, detail=f"{detail}; that was on the machine {origin.host}")
    # Files that nobody synced may be gone with the power: an absent gate proves nothing any more.
    return sighting if is_of_this_boot else Sighting(Finding.DOUBTFUL, detail=_doubt(origin))


def _doubt(origin: Origin) -> str:
    if origin.host == process.host():
        return f"this machine was restarted since it was claimed (boot {origin.boot_id}); it may have run"
    return f"it was claimed on the machine {origin.host} (boot {origin.boot_id}), and may have run there"


def _look(control: str, token: str, origin: Origin | None) -> Sighting:
    try:
        gate.check_token(control, token)
        record = gate.read_exit(control)
        decision = gate.read(control) if record is None else None
        found = record or decision
        if found is None:
            return Sighting(Finding.UNDECIDED)
        gate.check_content(control, found, token)
        if record is not None:
            return Sighting(Finding.ENDED, record=exit_record(record))
    except FileNotFoundError:
        return Sighting(Finding.UNDECIDED)
    except gate.OtherToken as error:
        return Sighting(Finding.OTHER_ATTEMPT, detail=str(error))
    except gate.ControlFileGarbled as error:
        is_over = _is_of_an_earlier_boot(error.path, origin)
        return Sighting(Finding.OTHER_BOOT if is_over else Finding.UNREACHABLE, detail=str(error))
    except (OSError, ValueError) as error:
        return Sighting(Finding.UNREACHABLE, detail=str(error))
    assert decision is not None
    return _void_gate(decision) if decision["decision"] == gate.VOID else _open_gate(control, decision)


def _is_of_an_earlier_boot(path: str, origin: Origin | None) -> bool:
    """Whether whoever wrote this file is gone with a boot of this machine.

    A power cut leaves files without their content. A file of this boot was whole when it got its name, so somebody
    spoilt it and nothing can be concluded.
    """
    if origin is not None:
        return origin.host == process.host() and origin.boot_id != process.boot_id()
    try:
        return Path(path).lstat().st_ctime < process.booted_at() - _CLOCK_TOLERANCE_S
    except OSError:
        return False


def _void_gate(decision: gate.Content) -> Sighting:
    doubt = decision.get("doubt")
    return Sighting(Finding.OTHER_BOOT, detail=doubt) if doubt else Sighting(Finding.VOID)


def _open_gate(control: str, decision: gate.Content) -> Sighting:
    holder = decision["holder"]
    if not gate.is_local_gate(decision):
        return Sighting(Finding.UNREACHABLE, detail=f"{control} is held at the site {holder['site']}")
    if holder["boot_id"] != process.boot_id():
        if holder["host"] != process.host():
            return Sighting(Finding.UNREACHABLE, detail=f"{control} is held on the machine {holder['host']}")
        detail = f"this machine was restarted since (boot {holder['boot_id']}), and there is no exit record"
        return Sighting(Finding.OTHER_BOOT, detail=detail)
    if holder["pid_ns"] != process.pid_namespace():
        return Sighting(Finding.UNREACHABLE, detail=f"{control} is held in another pid namespace (container)")
    return Sighting(Finding.OPEN, gate=decision)


def exit_record(content: dict[str, Any]) -> ExitRecord:
    """The record that a holder wrote. Raises ValueError if it is not one."""
    try:
        error = content["error"]
        return ExitRecord(
            token=content["token"],
            exit_code=content["exit_code"],
            signal=content["signal"],
            error=None if error is None else JobError(error["code"], error["message"]),
            ended_by=content["ended_by"],
            started_at=_moment(content["started_at"]),
            ended_at=datetime.fromisoformat(content["ended_at"]),
            cpu_s=content["cpu_s"],
            peak_memory_bytes=content["peak_memory_bytes"],
            leftovers=content["leftovers"],
        )
    except (KeyError, TypeError) as error_found:
        raise ValueError(f"not an exit record: {error_found!r} in {content}") from error_found


def handle_of(note: gate.Content) -> str:
    """The handle of a started command, as its holder noted or told it."""
    return f"{note['pid']}@{note['boot_id']}:{note['start_ticks']}"


def running_processes(control: str, decision: gate.Content) -> list[process.ProcessStat]:
    """What still runs of an attempt without a holder.

    That is all that carries its token or bears its keeper's mark, its noted leader, and what is below them.
    """
    found = {stat.pid: stat for stat in (*process.carriers(decision["token"]), *_bearers(decision))}
    note = gate.read_note(control, decision["nonce"])
    if note is not None and note.get("pid") and process.is_alive(note["pid"], note["start_ticks"]):
        leader = process.read_stat(note["pid"])
        if leader is not None:
            found[leader.pid] = leader
    table = process.living_processes()
    return process.below(found, table)


def _bearers(decision: gate.Content) -> list[process.ProcessStat]:
    """What bears the mark of the attempt's dead keeper: also parts that put the token away (`env -i`)."""
    holder = decision.get("holder", {})
    mark = holder.get("mark")
    # A keeper that lives and does not hold this attempt saw its tree empty, and what is below it now is another's.
    if mark is None or process.is_alive(holder["pid"], holder["start_ticks"]):
        return []
    # The same for one that died with a later attempt, whose parts show that one's token.
    return [stat for stat in process.bearers(mark) if process.token_of(stat.pid) in (None, decision["token"])]


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
