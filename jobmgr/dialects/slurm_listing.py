"""What squeue, sacct and sinfo print, in the forms that they are asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from jobmgr.dialects.answers import number, printed
from jobmgr.dialects.dialect import Answer, Cause, Node, NotUnderstood, Partition, Phase, Standing

# Characters that no name, reason or list of nodes has: Unit Separator and Record Separator of ASCII.
FIELD_END = "\x1f"
RECORD_END = "\x1e"
QUEUE_FIELDS = (
    "JobArrayID", "State", "RestartCnt", "exit_code", "StartTime", "EndTime", "NodeList", "Reason", "Name",
)  # fmt: skip
# What is asked of everybody's jobs besides.
WHOSE_FIELDS = ("Partition", "UserName", "tres-alloc")
ACCOUNT_FIELDS = (
    "JobID", "State", "ExitCode", "Start", "End", "NodeList", "TotalCPU", "MaxRSS", "JobName",
)  # fmt: skip

# Source: squeue(1) and sacct(1), "JOB STATE CODES". Newer versions have more: what is not here is UNKNOWN.
_PHASES = {
    "PENDING": Phase.PENDING,
    "CONFIGURING": Phase.PENDING,  # it has nodes, and they are booting
    "REQUEUED": Phase.PENDING,
    "REQUEUE_FED": Phase.PENDING,
    "REQUEUE_HOLD": Phase.HELD,
    "SPECIAL_EXIT": Phase.HELD,
    "RESV_DEL_HOLD": Phase.HELD,
    "RUNNING": Phase.RUNNING,
    "RESIZING": Phase.RUNNING,
    "SIGNALING": Phase.RUNNING,
    "SUSPENDED": Phase.SUSPENDED,
    "STOPPED": Phase.SUSPENDED,
    "COMPLETING": Phase.ENDING,
    "STAGE_OUT": Phase.ENDING,
}
_CAUSES = {
    "COMPLETED": Cause.COMPLETED,
    "FAILED": Cause.FAILED,
    "CANCELLED": Cause.CANCELLED,
    "TIMEOUT": Cause.TIMEOUT,
    "NODE_FAIL": Cause.NODE_FAIL,
    "PREEMPTED": Cause.PREEMPTED,
    "OUT_OF_MEMORY": Cause.OUT_OF_MEMORY,
    "BOOT_FAIL": Cause.BOOT_FAIL,
    "DEADLINE": Cause.DEADLINE,
    "REVOKED": Cause.REVOKED,
}
# In accounting this is how a former run ended; in the queue the job waits for its next one.
_REQUEUED = "REQUEUED"
# What accounting calls a job whose name did not reach it (yet): for good, if it is cancelled when requeued.
_NAMELESS = "allocation"
# What SLURM puts for a script that a node could not start (error 4021, cut to eight bits); it is no signal.
_LAUNCH_FAILED_SIGNAL = 53

_ARRAY = re.compile(r"(\d+)_\[([0-9,:\-]+)(?:%\d+)?\]")
_STEP = re.compile(r"[^.\[]+\..+")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9})(?::([1-9]\d{0,8}))?)?")
_CPU_TIME = re.compile(r"(?:(?:(\d{1,9})-)?(\d{1,9}):)?(\d{1,9}):(\d{1,9}(?:\.\d{1,9})?)")
_LIMIT = re.compile(r"(?:(\d{1,9})-)?(?:(\d{1,9}):)?(\d{1,9}):(\d{1,9})")
_UP_STATES = frozenset({"idle", "mixed", "allocated", "completing", "reserved", "planned"})
_STATE = re.compile(r"([a-z_]+)(\*?)")
_MEBIBYTE = 1024**2
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)([KMGTP]?)")
_SIZE_BYTES = {"K": 1024, "": _MEBIBYTE, "M": _MEBIBYTE, "G": 1024**3, "T": 1024**4, "P": 1024**5}
# As seconds since 1970: the end of the year 9999, after which there are no dates.
_END_OF_TIME = 253_402_300_800
# The largest MaxArraySize that there is. Source: slurm.conf(5), "MaxArraySize".
_MAX_ELEMENTS = 4_000_001


def read_queue(answer: Answer, asked: Sequence[str] = QUEUE_FIELDS) -> tuple[dict[str, Standing], bool]:
    """By id, in the order given; and whether this is all of it."""
    live = {}
    is_whole = answer.exit_code == 0
    *records, rest = answer.stdout.split(RECORD_END)
    for record in records:
        fields = record.removeprefix("\n").split(FIELD_END)
        if len(fields) == len(asked):
            standing = _queued(fields)
            live[standing.id] = standing
        else:
            is_whole = False
    return live, is_whole and not rest.strip()


def _queued(fields: list[str]) -> Standing:
    """One line of squeue. What it says about codes of jobs that wait is that of a former run."""
    id_, word, restarts, status, start, end, nodes, reason, name, *whose = fields
    partition, user, holds = whose or ("", "", "")
    held = dict(part.split("=", 1) for part in holds.split(",") if "=" in part)
    cause = _CAUSES.get(word)
    phase = Phase.ENDED if cause else _PHASES.get(word, Phase.UNKNOWN)
    if phase is Phase.PENDING and "held" in reason.lower():
        phase = Phase.HELD
    is_waiting = phase in {Phase.PENDING, Phase.HELD}
    earlier = number(restarts)
    has_never_run = earlier == 0 and not nodes and (is_waiting or cause is not None)
    code, signal = (None, None) if has_never_run else _status(cause, status, reason)
    return Standing(
        id=id_,
        name=name,
        phase=phase,
        word=word,
        cause=cause,
        reason="" if reason == "None" else reason,
        exit_code=code,
        signal=signal,
        restarts=earlier,
        has_run=False if has_never_run else None,
        expected_start=_time(start) if is_waiting else None,
        started_at=None if is_waiting or has_never_run else _time(start),
        # Of what runs this is when its time will be over.
        ended_at=_time(end) if cause else None,
        nodes=nodes,
        index=_index(id_),
        user=user,
        partition=partition,
        node_count=number(held.get("node", "")),
        cpus=number(held.get("cpu", "")),
        memory_bytes=_size_bytes(held.get("mem", "")),
    )


def _size_bytes(text: str) -> int | None:
    """Of `300M` or `1.50G`; without a unit they are mebibytes."""
    match = _SIZE.fullmatch(text)
    return None if match is None else int(float(match[1]) * _SIZE_BYTES[match[2]])


def _status(cause: Cause | None, text: str, reason: str = "") -> tuple[int | None, int | None]:
    """Exit code and signal, of `7:0` (sacct) or of a wait status (squeue)."""
    if cause is None or reason == "JobLaunchFailure":
        return None, None
    if ":" in text:
        code, signal = (number(part) or 0 for part in text.split(":", 1))
    elif (status := number(text)) is not None:
        code, signal = status >> 8 & 0xFF, status & 0x7F
    else:
        return None, None
    if signal == _LAUNCH_FAILED_SIGNAL:
        return None, None
    if signal:
        return None, signal
    # The 0 of a job that was cancelled, or lost its node, is nobody's exit code.
    return (code, None) if code or cause is Cause.COMPLETED else (None, None)


@dataclass(frozen=True, slots=True)
class _Record:
    """One line of sacct: a run of a job, or a step of it."""

    id: str
    word: str
    status: str
    start: str
    end: str
    nodes: str
    cpu: str
    peak: str
    name: str


def read_accounting(answer: Answer) -> tuple[dict[tuple[str, str], list[Standing]], bool]:
    """The runs by id and name, oldest first; and whether this is all of it.

    An id can have been another job's in former times, hence the name. Steps follow the run that they are of. A line
    that comes again is no other run: no two of a job begin and end at the same time.
    """
    runs: dict[tuple[str, str], list[Standing]] = {}
    is_whole = answer.exit_code == 0
    current: list[list[Standing]] = []
    names: dict[str, str] = {}
    told: set[_Record] = set()
    for line in answer.stdout.split("\n")[:-1]:
        fields = line.split(FIELD_END)
        if len(fields) != len(ACCOUNT_FIELDS):
            is_whole = False
            continue
        record = _Record(*fields)
        if _STEP.fullmatch(record.id):
            for known in current:
                known[-1] = _with_step(known[-1], record)
            continue
        current = []
        if record in told:
            continue
        told.add(record)
        for id_ in _expanded(record.id):
            name = names.get(id_, _NAMELESS) if record.name == _NAMELESS else record.name
            names[id_] = name
            known = runs.setdefault((id_, name), [])
            known.append(replace(_accounted(id_, record, len(known)), name=name))
            current.append(known)
    # A whole answer ends with its last line; one that was cut off does not.
    return runs, is_whole and (not answer.stdout or answer.stdout.endswith("\n"))


def _expanded(id_: str) -> list[str]:
    """`12_[4-6,9%5]` as its elements; they wait, and have one line. What squeue lists is known already."""
    match = _ARRAY.fullmatch(id_)
    if match is None:
        return [id_]
    found: list[str] = []
    for part in match[2].split(","):
        bounds = _RANGE.fullmatch(part)
        if bounds is None:
            return []
        indices = range(int(bounds[1]), int(bounds[2] or bounds[1]) + 1, int(bounds[3] or 1))
        if len(found) + len(indices) > _MAX_ELEMENTS:
            return []
        found += [f"{match[1]}_{index}" for index in indices]
    return found


def _accounted(id_: str, record: _Record, earlier: int) -> Standing:
    """A run, of which there were `earlier` ones."""
    # `CANCELLED by 1000`
    state = record.word.split(" ", 1)[0]
    cause = Cause.REQUEUED if state == _REQUEUED else _CAUSES.get(state)
    phase = Phase.ENDED if cause else _PHASES.get(state, Phase.UNKNOWN)
    nodes = "" if record.nodes == "None assigned" else record.nodes
    # A start is told also for what never had one: that of its end.
    has_never_run = cause is not None and earlier == 0 and not nodes
    code, signal = (None, None) if has_never_run else _status(cause, record.status)
    return Standing(
        id=id_,
        name=record.name,
        phase=phase,
        word=record.word,
        cause=cause,
        exit_code=code,
        signal=signal,
        restarts=earlier,
        has_run=False if has_never_run else None,
        started_at=None if has_never_run else _time(record.start),
        ended_at=_time(record.end) if cause else None,
        nodes=nodes,
        cpu_s=_cpu_s(record.cpu) if cause else None,
        index=_index(id_),
    )


def _with_step(run: Standing, step: _Record) -> Standing:
    """The most memory that one of its steps had in use; the script itself is the step `batch`."""
    peak_bytes = number(step.peak)
    if peak_bytes is None:
        return run
    return replace(run, peak_memory_bytes=max(run.peak_memory_bytes or 0, peak_bytes))


def merged(
    live: dict[str, Standing], runs: dict[tuple[str, str], list[Standing]], *, is_queue_known: bool
) -> Iterable[Standing]:
    """Every run once. Takes those that the queue knows out of `runs`."""
    for standing in live.values():
        known = runs.pop((standing.id, standing.name), []) or runs.pop((standing.id, _NAMELESS), [])
        known = [replace(run, name=standing.name) for run in known]
        earlier = standing.restarts if standing.restarts is not None else max(0, len(known) - 1)
        yield from known[:earlier]
        last = known[earlier] if earlier < len(known) else None
        # Accounting lags; but once it knows the end too, it knows more about it.
        if standing.cause is not None and last is not None and last.cause is not None:
            yield replace(last, reason=standing.reason)
        else:
            yield standing
    for known in runs.values():
        yield from (_unseen(standing) if is_queue_known else standing for standing in known)


def _unseen(standing: Standing) -> Standing:
    """What accounting takes for alive, and the queue does not know: it has ended, and how is not told yet."""
    return standing if standing.cause is not None else replace(standing, phase=Phase.MISSING)


def _index(id_: str) -> int | None:
    """Of an element (`12_4`)."""
    return number(id_.partition("_")[2])


def _time(text: str) -> datetime | None:
    """A time that is not known is `Unknown`, `None`, `NONE` or `N/A`."""
    seconds = number(text)
    return datetime.fromtimestamp(seconds, UTC) if seconds and 0 < seconds < _END_OF_TIME else None


def _cpu_s(text: str) -> float | None:
    """Of `[[days-]hours:]minutes:seconds[.fraction]`."""
    match = _CPU_TIME.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def table(answer: Answer, width: int) -> list[list[str]]:
    """The rows of an answer of sinfo. Raises NotUnderstood if one has not `width` fields."""
    rows = [line.split(FIELD_END) for line in printed(answer, "sinfo").splitlines() if line.strip()]
    wrong = next((row for row in rows if len(row) != width), None)
    if wrong is not None:
        raise NotUnderstood(f"not {width} fields: {FIELD_END.join(wrong)[:200]!r}")
    return rows


def partition(fields: list[str]) -> Partition:
    """What is said about a partition."""
    name, marked, state, limit, nodes, cpus = fields
    return Partition(
        name=name,
        is_default=marked == f"{name}*",
        is_up=state == "up",
        max_walltime_s=_limit_s(limit),
        nodes=number(nodes),
        cpus=number(cpus.split("/")[-1]),
    )


def node(fields: list[str]) -> Node:
    """What is said about a machine, in one of its partitions."""
    name, partition, state, cpus, memory, resources = fields
    # A star says that the machine does not answer; other marks speak of its power.
    match = _STATE.match(state)
    used, all_cpus = cpus.split("/")[0], cpus.split("/")[-1]
    memory_mebibytes = number(memory)
    return Node(
        name=name,
        state=state,
        is_up=match is not None and match[1] in _UP_STATES and not match[2],
        cpus=number(all_cpus),
        cpus_used=number(used),
        memory_bytes=None if memory_mebibytes is None else memory_mebibytes * _MEBIBYTE,
        gpus=sum(int(found) for found in re.findall(r"\bgpu(?::[^:,(]+)?:(\d{1,9})(?![^,(])", resources)),
        partitions=(partition,),
    )


def _limit_s(text: str) -> float | None:
    """Of `[days-][hours:]minutes:seconds`, or `infinite`."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
