"""What qstat, qselect and pbsnodes print: OpenPBS, and the Torque flavour that comes with SLURM."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from jobmgr.dialects.answers import number
from jobmgr.dialects.dialect import Cause, Node, Partition, Phase, Standing

# Source: qstat(1B), "job_state", OpenPBS 23.06; C and U as SLURM 22.05's contribs/torque/qstat.pl writes them.
# Its U is any other state, also one that has ended.
_OPENPBS_PHASES = {
    "Q": Phase.PENDING,
    "T": Phase.PENDING,
    "W": Phase.PENDING,
    "H": Phase.HELD,
    "B": Phase.RUNNING,  # an array of which something began
    "R": Phase.RUNNING,
    "S": Phase.SUSPENDED,
    "U": Phase.SUSPENDED,
    "E": Phase.ENDING,
    "F": Phase.ENDED,
    "X": Phase.ENDED,  # an element of an array that still runs
}
_TORQUE_PHASES = _OPENPBS_PHASES | {"C": Phase.ENDED, "U": Phase.UNKNOWN}

# Source: OpenPBS 23.06, src/include/job.h, JOB_EXEC_*; -4, -20 and -29 were seen.
_CAUSES = {
    -4: Cause.NODE_FAIL,
    -20: Cause.NODE_FAIL,
    -26: Cause.OUT_OF_MEMORY,
    -27: Cause.OUT_OF_MEMORY,
    -28: Cause.TIMEOUT,
    -29: Cause.TIMEOUT,
}
_DELETED = "91"  # the substate of jobs that were deleted

_SIZE = re.compile(r"(\d{1,18})(b|kb|mb|gb|tb)?")
_SIZE_BYTES = {None: 1, "b": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3, "tb": 1024**4}
_CLOCK = re.compile(r"(\d{1,18}):(\d\d):(\d\d)")
_ELEMENT = re.compile(r"\[(\d{1,18})\]")
_COUNT = re.compile(r"(\w{1,32}):(\d{1,18})")
_DOWN = re.compile(r"down|offline|unknown|stale|unresolvable|provisioning|drain|fail|maint")


JOB = re.compile(r"(Job Id):\s*(\S+)")
QUEUE = re.compile(r"(Server|Queue):\s*(\S+)")
NODE = re.compile(r"()(\S+)")


@dataclass(frozen=True, slots=True)
class Block:
    """One thing that was printed in full; `kind` is `Job Id`, `Queue`, `Server`, or empty for a node."""

    kind: str
    name: str
    facts: dict[str, str] = field(default_factory=dict)


def blocks(text: str, header: re.Pattern[str], indent: str = "    ") -> Iterator[Block]:
    """The things printed. Their lines are indented by `indent`; lines that were folded go on after a tab.

    The full text is read rather than JSON. Asked for several ids, `qstat -f -F json` of 23.06 prints the first job
    and ends with 0; it makes numbers of names that look like numbers, and one value that is not UTF-8 spoils the
    whole list. What cannot be read here spoils its own line.
    """
    block: Block | None = None
    key = ""
    for line in text.split("\n"):
        start = header.fullmatch(line)
        if start is not None:
            if block is not None:
                yield block
            block, key = Block(start[1], start[2]), ""
        elif block is not None:
            key = _read(line, indent, key, block.facts)
    if block is not None:
        yield block


def _read(line: str, indent: str, key: str, facts: dict[str, str]) -> str:
    """Read a line into `facts`; the answer is the key of the fact that a folded line would go on with."""
    attribute, separator, value = line.removeprefix(indent).strip().partition(" = ")
    if line.startswith(indent) and separator and " " not in attribute:
        facts.setdefault(attribute, value)
        return attribute
    if line.startswith("\t") and key:
        facts[key] += line.removeprefix("\t")
    return key


def standing(block: Block, *, is_torque: bool = False) -> Standing:
    """What is said about a job.

    It tells no restarts: `run_count` counts tries to send the job to a node, also to one that is down, and no runs of
    its script. Source: OpenPBS 23.06, svr_strtjob2().
    """
    phases = _TORQUE_PHASES if is_torque else _OPENPBS_PHASES
    word = block.facts.get("job_state", "")
    phase = phases.get(word, Phase.UNKNOWN)
    facts = _own(block)
    has_ended = phase is Phase.ENDED
    status = _exit_status(facts.get("Exit_status", ""))
    return Standing(
        id=block.name,
        name=block.facts.get("Job_Name", ""),
        phase=phase,
        word=word,
        cause=_cause(phase, status, facts) if facts and not is_torque else None,
        reason=facts.get("comment", "") if phase in (Phase.PENDING, Phase.HELD) else "",
        exit_code=status if has_ended and status is not None and 0 <= status <= 255 else None,
        signal=status - 256 if has_ended and status is not None and status > 256 else None,
        has_run=_has_run(facts, phase),
        expected_start=_moment(facts.get("estimated.start_time")),
        started_at=_moment(facts.get("stime")),
        ended_at=_moment(facts.get("obittime")) if has_ended else None,
        nodes=_nodes(facts.get("exec_host", "")),
        cpu_s=_clock_s(facts.get("resources_used.cput")),
        peak_memory_bytes=_size_bytes(facts.get("resources_used.mem")),
        index=int(element[1]) if (element := _ELEMENT.search(block.name)) is not None else None,
        user=block.facts.get("Job_Owner", "").partition("@")[0],
        partition=block.facts.get("queue", ""),
        node_count=number(block.facts.get("Resource_List.nodect")),
        cpus=number(block.facts.get("Resource_List.ncpus")),
        memory_bytes=_size_bytes(block.facts.get("Resource_List.mem")),
    )


def _own(block: Block) -> dict[str, str]:
    """What is said of this job itself. An element without a run has the facts of its whole array, also its exit
    status, and that of an array is that of any of its elements.
    """
    if block.facts.get("array") == "True":
        return {key: value for key, value in block.facts.items() if key in ("stime", "obittime", "comment")}
    if _ELEMENT.search(block.name) is not None and "run_count" not in block.facts:
        return {}
    return block.facts


def partition(block: Block, default: str | None) -> Partition:
    """What is said about a queue."""
    facts = block.facts
    counts = {word: int(count) for word, count in _COUNT.findall(facts.get("state_count", ""))}
    return Partition(
        name=block.name,
        is_default=block.name == default,
        is_up=all(facts.get(word, "").lower() in ("true", "yes") for word in ("enabled", "started")),
        max_walltime_s=_clock_s(facts.get("resources_max.walltime")),
        nodes=None,
        cpus=None,
        jobs_running=counts.get("Running"),
        jobs_pending=sum(counts.get(word, 0) for word in ("Queued", "Held", "Waiting")) if counts else None,
    )


def node(block: Block) -> Node:
    """What is said about a machine."""
    facts = block.facts
    state = facts.get("state", "")
    cpus = number(facts.get("resources_available.ncpus") or facts.get("np") or facts.get("pcpus"))
    gpus = number(facts.get("resources_available.ngpus") or facts.get("gpus"))
    return Node(
        name=block.name,
        state=state,
        is_up=bool(state) and _DOWN.search(state) is None,
        cpus=cpus,
        cpus_used=number(facts.get("resources_assigned.ncpus")),
        memory_bytes=_size_bytes(facts.get("resources_available.mem")),
        gpus=gpus,
        partitions=tuple(word for word in facts.get("queue", "").split(",") if word),
    )


def _has_run(facts: Mapping[str, str], phase: Phase) -> bool | None:
    if phase in (Phase.RUNNING, Phase.SUSPENDED, Phase.ENDING) or number(facts.get("run_count")):
        return True
    never = facts.get("job_state") == "F" and "Exit_status" not in facts and "stime" not in facts
    return False if never else None


def _cause(phase: Phase, status: int | None, facts: Mapping[str, str]) -> Cause | None:
    if phase is Phase.PENDING and status is not None:  # of an earlier run
        return Cause.NODE_FAIL if _CAUSES.get(status) is Cause.NODE_FAIL else Cause.REQUEUED
    if phase is not Phase.ENDED:
        return None
    if status is None:
        return Cause.CANCELLED if _has_run(facts, phase) is False else None
    if status == 0:
        return Cause.COMPLETED
    if status > 256 and facts.get("substate") == _DELETED:
        return Cause.CANCELLED
    return _CAUSES.get(status, Cause.FAILED)


def _exit_status(text: str) -> int | None:
    """Below zero PBS itself ended the run."""
    size = number(text.removeprefix("-"))
    return -size if size is not None and text.startswith("-") else size


def _nodes(text: str) -> str:
    """Names of `n1/0+n1/1*2+n2/0`, each once."""
    return ",".join(dict.fromkeys(part.partition("/")[0] for part in text.split("+") if part))


def _clock_s(text: str | None) -> float | None:
    match = _CLOCK.fullmatch(text or "")
    return float(int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])) if match else None


def _size_bytes(text: str | None) -> int | None:
    match = _SIZE.fullmatch(text or "")
    return int(match[1]) * _SIZE_BYTES[match[2]] if match else None


def _moment(text: str | None) -> datetime | None:
    """Times are printed without their zone; the commands are run in UTC."""
    try:
        return datetime.strptime(text or "", "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    except ValueError:
        return None
