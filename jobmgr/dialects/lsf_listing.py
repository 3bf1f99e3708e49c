"""What LSF's listings print: bjobs, bhist, bqueues, bhosts, lshosts. Exit codes differ by version: texts decide."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jobmgr.dialects.answers import number
from jobmgr.dialects.dialect import Answer, Cause, Listing, Node, Partition, Phase, Standing

# Source: bjobs(1) of IBM Spectrum LSF 10.1, "Job states".
_PHASES = {
    "PEND": Phase.PENDING,
    "PROV": Phase.PENDING,
    "FWD_PEND": Phase.PENDING,
    "WAIT": Phase.PENDING,
    "PSUSP": Phase.HELD,
    "RUN": Phase.RUNNING,
    "USUSP": Phase.SUSPENDED,
    "SSUSP": Phase.SUSPENDED,
    "DONE": Phase.ENDED,
    "EXIT": Phase.ENDED,  # also for seconds before a requeued job waits again
    "POST_DONE": Phase.ENDED,
    "POST_ERR": Phase.ENDED,
    "UNKWN": Phase.UNKNOWN,
    "ZOMBI": Phase.UNKNOWN,
}
_WAITING = (Phase.PENDING, Phase.HELD)

# Source: "Termination reasons displayed by bacct, bhist, and bjobs", IBM Spectrum LSF 10.1.
_CAUSES = {
    "TERM_OWNER": Cause.CANCELLED,
    "TERM_ADMIN": Cause.CANCELLED,
    "TERM_FORCE_OWNER": Cause.CANCELLED,
    "TERM_FORCE_ADMIN": Cause.CANCELLED,
    "TERM_RUNLIMIT": Cause.TIMEOUT,
    "TERM_CPULIMIT": Cause.TIMEOUT,
    "TERM_DEADLINE": Cause.DEADLINE,
    "TERM_MEMLIMIT": Cause.OUT_OF_MEMORY,
    "TERM_SWAP": Cause.OUT_OF_MEMORY,
    "TERM_PREEMPT": Cause.PREEMPTED,
    "TERM_REQUEUE_OWNER": Cause.REQUEUED,
    "TERM_REQUEUE_ADMIN": Cause.REQUEUED,
}

FIELDS = "jobid jobindex stat job_name exec_host exit_code exit_reason pend_reason cpu_used max_mem"
WHOSE_FIELDS = "user queue"  # what is asked of everybody's jobs besides

# Printed before the real answer while a command tries again; sites can change the words before "Please wait".
NOISE = re.compile(r"still trying|Please wait|Retrying in")
_ABSENT = re.compile(r"Job <[^>]*> is not found\.?|No (?:unfinished )?job found|No matching job found")
_ROW = re.compile(
    r"(?P<id>\d+)\s+(?P<user>\S+)\s+(?P<word>[A-Z_]+)\s+(?P<queue>\S+)\s+\S+\s+(?P<host>\S+)\s+(?P<name>.*?)"
    r"\s+[A-Z][a-z]{2} [ \d]\d (?:\d\d:\d\d|\d{4})\s*"
)
# A row of any table of bjobs: with and without the hosts of a job.
_WAITER = re.compile(
    r"(?P<id>\d+)\s.*?(?:\[(?P<index>\d{1,18})\])?\s+[A-Z][a-z]{2} [ \d]\d (?:\d\d:\d\d|\d{4})\s*"
)
_PAST = re.compile(r"(?P<id>\d+(?:\[\d+\])?)\s+\S+\s+(?P<name>.*?)(?:\s+\d+){7}\s*")
_HOST = re.compile(r"(?:(\d{1,9})\*)?([^:\s]+)")
_INDEX = re.compile(r"\[(\d{1,18})\]$")
_REASON = re.compile(r"TERM_\w+")
_SECONDS = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) second")
# `6.5 Mbytes` in bjobs, `251.8G` in what LSF says of machines; a number alone has a unit that is not told.
_BYTES = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([KMGTP])(?:bytes|B)?|bytes)")
_FACTOR = {None: 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
_DOWN = ("unavail", "unreach", "unlicensed", "closed_Adm", "closed_LIM", "closed_Lock")


@dataclass(frozen=True, slots=True)
class _Lines:
    """An answer without what is printed while waiting; lines that say that a job is not there are taken out too."""

    rest: tuple[str, ...]
    says_absent: bool


def table(answer: Answer) -> Listing:
    """What `bjobs -w` answered."""
    lines = _lines(answer)
    jobs = tuple(_row(match) for line in lines.rest if (match := _ROW.fullmatch(line)) is not None)
    strange = [line for line in lines.rest if not line.startswith("JOBID") and _ROW.fullmatch(line) is None]
    return _listing(answer, jobs, strange, is_said=bool(jobs) or lines.says_absent)


def with_reasons(listing: Listing, answers: Iterable[Answer]) -> Listing:
    """The same with what `bjobs -w -p` answered about who waits: lines below a row, each with a blank before it.

    The rest of that is of another moment, and decides nothing.
    """
    told = {id_: reason for answer in answers for id_, reason in _reasons(answer.stdout)}
    jobs = (
        replace(job, reason=told.get(job.id, "")) if job.phase in _WAITING else job for job in listing.jobs
    )
    return replace(listing, jobs=tuple(jobs)) if told else listing


def _reasons(text: str) -> Iterator[tuple[str, str]]:
    id_, found = "", list[str]()
    for line in (*text.splitlines(), ""):
        if line.startswith(" ") and id_:
            found.append(line.strip(" ;"))
            continue
        if found:
            yield id_, "; ".join(found)
        match = _WAITER.fullmatch(line)
        id_, found = (_waiter(match) if match is not None else ""), []


def _waiter(match: re.Match[str]) -> str:
    return match["id"] if match["index"] is None else f"{match['id']}[{match['index']}]"


def records(answer: Answer) -> Listing:
    """What `bjobs -o … -json` answered."""
    start = answer.stdout.find("{")
    if start < 0:
        return table(answer)
    try:
        said = json.loads(answer.stdout[start:], strict=False)["RECORDS"]
        jobs = tuple(_record(record) for record in said if "ERROR" not in record)
        strange = [
            error for record in said if _ABSENT.fullmatch(error := record.get("ERROR", "")) is None and error
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return Listing(
            (), complete=False, why=f"bjobs printed what is no list of jobs: {answer.stdout[:200]!r}"
        )
    errors = _lines(Answer(answer.exit_code, "", answer.stderr)).rest
    return _listing(answer, jobs, [*strange, *errors], is_said=True)


def past(answer: Answer) -> Listing:
    """What `bhist -a -w` answered: it knows jobs that bjobs has forgotten, but not how they stand."""
    lines = _lines(answer)
    jobs = tuple(
        Standing(match["id"], _base(match["name"]), Phase.UNKNOWN, "", index=_index(match["id"]))
        for line in lines.rest
        if (match := _PAST.fullmatch(line)) is not None
    )
    headings = ("JOBID", "Summary of time")
    strange = [line for line in lines.rest if not line.startswith(headings) and _PAST.fullmatch(line) is None]
    return _listing(answer, jobs, strange, is_said=bool(jobs) or lines.says_absent)


QUEUE_HEADINGS = ("QUEUE_NAME", "STATUS", "MAX", "PEND", "RUN")
HOST_HEADINGS = ("HOST_NAME", "STATUS", "MAX", "NJOBS")
MEMORY_HEADINGS = ("HOST_NAME", "maxmem")


def rows(text: str, headings: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a table whose cells have no blanks, by heading; it has these headings, and ends before an
    empty line.
    """
    names: list[str] = []
    for line in text.splitlines():
        cells = line.split()
        if cells[:1] == [headings[0]] and set(headings) <= set(cells):
            names = cells
        elif names and len(cells) >= len(names):
            yield dict(zip(names, cells, strict=False))
        elif names:
            return


def partition(row: Mapping[str, str], default: str | None) -> Partition:
    """A row of bqueues. LSF counts the slots of jobs, not jobs; limits of walltime are in its long form only."""
    return Partition(
        name=row["QUEUE_NAME"],
        is_default=row["QUEUE_NAME"] == default,
        is_up=row["STATUS"] == "Open:Active",
        max_walltime_s=None,
        nodes=None,
        cpus=number(row["MAX"]),
        jobs_running=number(row["RUN"]),
        jobs_pending=number(row["PEND"]),
    )


def node(row: Mapping[str, str], memory: str) -> Node:
    """A row of bhosts, whose cpus are slots, with `maxmem` of lshosts. GPUs are told elsewhere, queues nowhere."""
    return Node(
        name=row["HOST_NAME"],
        state=row["STATUS"],
        is_up=not row["STATUS"].startswith(_DOWN),
        cpus=number(row["MAX"]),
        cpus_used=number(row["NJOBS"]),
        memory_bytes=_size_bytes(memory),
        gpus=None,
        partitions=(),
    )


def _lines(answer: Answer) -> _Lines:
    lines = [line.strip() for line in (answer.stdout + "\n" + answer.stderr).splitlines()]
    said = [line for line in lines if line and NOISE.search(line) is None]
    rest = tuple(line for line in said if _ABSENT.fullmatch(line) is None)
    return _Lines(rest, says_absent=len(rest) < len(said))


def _listing(answer: Answer, jobs: tuple[Standing, ...], strange: list[str], *, is_said: bool) -> Listing:
    """Complete if LSF said who is there or that nobody is, and nothing else. Silence is no answer."""
    if strange:
        return Listing(jobs, complete=False, why="; ".join(strange)[:500])
    if answer.exit_code is None or not is_said:
        return Listing(jobs, complete=False, why=answer.stderr.strip()[:500] or "LSF did not answer")
    return Listing(jobs, complete=True)


def _row(match: re.Match[str]) -> Standing:
    phase = _PHASES.get(match["word"], Phase.UNKNOWN)
    id_ = _id(match["id"], match["name"])
    slots = _slots(match["host"])
    return Standing(
        id=id_,
        name=_base(match["name"]),
        phase=phase,
        word=match["word"],
        cause=_cause(match["word"], ""),
        nodes=",".join(slots),
        index=_index(id_),
        user=match["user"],
        partition=match["queue"],
        node_count=len(slots) or None,
        cpus=sum(slots.values()) or None,
    )


def _record(record: Mapping[str, Any]) -> Standing:
    word = str(record["STAT"])
    name = str(record.get("JOB_NAME", ""))
    index = str(record.get("JOBINDEX", "0"))
    code = number(str(record.get("EXIT_CODE", "")))
    phase = _PHASES.get(word, Phase.UNKNOWN)
    cpu = _SECONDS.search(str(record.get("CPU_USED", "")))
    slots = _slots(str(record.get("EXEC_HOST", "")))
    id_ = f"{record['JOBID']}[{index}]" if (number(index) or 0) > 0 else _id(str(record["JOBID"]), name)
    return Standing(
        id=id_,
        name=_base(name),
        phase=phase,
        word=word,
        cause=_cause(word, str(record.get("EXIT_REASON", ""))),
        reason=str(record.get("PEND_REASON", "")).strip("- ") if phase in _WAITING else "",
        exit_code=code if word == "EXIT" else None,
        nodes=",".join(slots),
        cpu_s=float(cpu[1]) if cpu is not None else None,
        peak_memory_bytes=_size_bytes(str(record.get("MAX_MEM", ""))),
        index=_index(id_),
        user=str(record.get("USER", "")),
        partition=str(record.get("QUEUE", "")),
        node_count=len(slots) or None,
        cpus=sum(slots.values()) or None,
    )


def _size_bytes(text: str) -> int | None:
    """What is not told is a dash, or empty."""
    match = _BYTES.fullmatch(text.strip())
    return None if match is None else int(float(match[1]) * _FACTOR[match[2]])


def _slots(hosts: str) -> dict[str, int]:
    """How many slots a job has on each host, of `2*h1:h2:h2`, which is how both forms have it, or `-`."""
    found: dict[str, int] = {}
    for count, host in _HOST.findall(hosts):
        if host != "-":
            found[host] = found.get(host, 0) + int(count or 1)
    return found


def _cause(word: str, reason: str) -> Cause | None:
    """As LSF has it. DONE was seen of jobs that were killed, EXIT of jobs that ended well while their node was away."""
    if word in ("DONE", "POST_DONE", "POST_ERR"):
        return Cause.COMPLETED
    if word != "EXIT":
        return None
    match = _REASON.search(reason)
    return _CAUSES.get(match[0], Cause.FAILED) if match is not None else Cause.FAILED


def _id(number: str, name: str) -> str:
    """All elements of an array have its number; the index is told in their names."""
    match = _INDEX.search(name)
    return number if match is None else f"{number}[{match[1]}]"


def _index(id_: str) -> int | None:
    """Of an element. LSF counts from 1."""
    match = _INDEX.search(id_)
    return int(match[1]) - 1 if match is not None else None


def _base(name: str) -> str:
    """The name as it was given; what is in brackets is the index, or an array's specification that was not taken."""
    return name.partition("[")[0]
