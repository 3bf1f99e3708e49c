"""Windows HPC Pack, after Microsoft's documents of its commands; none was at hand to try it on.

Head node and compute nodes have a POSIX shell (Cygwin, MSYS2, Git for Windows), which runs what is said here and the
scripts of jobs. A job has the environment of its owner's account on the node, and CCP_*; nothing of the submitter's is
copied. Sources: "job submit", "job list", "job cancel", "job modify", "node list", "cluscfg view", Get-HpcGroup and
"Environment Variables" on learn.microsoft.com, Microsoft HPC Pack 2012 R2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import assert_never

from jobmgr.dialects import request, windows_hpc_order
from jobmgr.dialects.answers import number, said, words
from jobmgr.dialects.dialect import (
    Answer,
    Cause,
    Command,
    Compliance,
    Doubtful,
    Listing,
    Node,
    NotUnderstood,
    Order,
    Partition,
    Phase,
    Refused,
    Standing,
    Submission,
    Submitted,
    Wish,
)
from jobmgr.dialects.quoting import windows_argument, word
from jobmgr.dialects.windows_hpc_order import job_file

# Programs of Windows get their arguments as they are: else MSYS2 takes `/all` for a path, and so does Git for Windows.
_AS_IT_IS = "export MSYS_NO_PATHCONV=1 MSYS2_ARG_CONV_EXCL='*'\n"
# The file is named without its directory, which job.exe would know by another path.
_SUBMIT = """
cd -- "${1%/*}" && printf '%s\\n' "$2" >job.xml || exit 1
exec job submit /jobfile:job.xml
"""
# The commands take one job each.
_CANCEL = """
code=0
for id in "$@"; do job cancel "$id" || code=$?; done
exit "$code"
"""
_PRIORITISE = """
code=0 priority=$1
shift
for id in "$@"; do job modify "$id" "/priority:$priority" || code=$?; done
exit "$code"
"""

# Source: JobState enumeration, Microsoft HPC Pack.
_STATES: dict[str, tuple[Phase, Cause | None]] = {
    "configuring": (Phase.HELD, None),
    "submitted": (Phase.PENDING, None),
    "validating": (Phase.PENDING, None),
    "externalvalidation": (Phase.PENDING, None),
    "queued": (Phase.PENDING, None),
    "running": (Phase.RUNNING, None),
    "finishing": (Phase.ENDING, None),
    "canceling": (Phase.ENDING, None),
    "finished": (Phase.ENDED, Cause.COMPLETED),
    "failed": (Phase.ENDED, Cause.FAILED),
    "canceled": (Phase.ENDED, Cause.CANCELLED),
}
_SUBMITTED = re.compile(r"Job has been submitted\. ID:\s*(\d+)")
_LOST = re.compile(r"connect|timed? ?out|unreachable|retry|RPC", re.IGNORECASE)
_PLAIN = re.compile(r"invalid|not valid|not exist|denied|exceed|not a member", re.IGNORECASE)
_OVER = re.compile(
    r"not found|not exist|already (?:finished|canceled|failed)|state of (?:finished|canceled|failed)", re.I
)

_FACT = re.compile(r"\w[\w .]*")
_COUNT = re.compile(r"^\s*(\d{1,9}) matching jobs?\b", re.MULTILINE)
_ID = re.compile(r"\d+")
_MIDDLE_PRIORITY, _HIGHEST_PRIORITY = 2000, 4000


class WindowsHpc:
    """HPC Pack's language."""

    name = "windows_hpc"
    id_word = "$CCP_JOBID"
    restarts_word = "${CCP_RETRY_COUNT:-0}"
    index_word = "${CCP_TASKINSTANCEID:-0}"
    directory_variable = ""
    array_cap: int | None = None

    def probe(self) -> tuple[Command, ...]:
        """Nothing depends on the installation."""
        return ()

    def fitted(self, answers: Sequence[Answer]) -> WindowsHpc:  # noqa: ARG002 - there are none
        """See Dialect."""
        return self

    def element(self, id_: str, index: int) -> str:
        """There are no arrays here. Raises ValueError."""
        raise ValueError(f"{id_} has no element {index}")

    def array(self, id_: str) -> str:
        """See Dialect."""
        return id_

    def installation(self) -> str:
        """See Dialect."""
        return ""

    def check_options(self, options: Sequence[str]) -> None:
        """See Dialect."""
        windows_hpc_order.options(options)

    def script(self, order: Order) -> str:
        """See Dialect. What is asked for stands in the job file; the output goes where the shell puts it."""
        job_file(order, "")
        output = f"exec >>{word(order.stdout)} 2>>{word(order.stderr)} || exit 1\n"
        return f"#!/bin/sh\n{output}cd -- {word(order.cwd)} || exit 1\n{_AS_IT_IS}{order.body}"

    def handed_in(self, path: str, order: Order) -> str:
        """See Dialect. The job file, in XML."""
        return job_file(order, f"sh {windows_argument(path, 'work_dir')}")

    def submit(self, path: str, order: Order) -> Command:
        """See Dialect. The job file lies beside the script."""
        return _command(_SUBMIT, path, self.handed_in(path, order))

    def submitted(self, answer: Answer) -> Submission:
        """See Dialect. Refusals are taken for such by their words; other failures are doubtful."""
        heard, told = said(answer), words(answer, "job submit")
        numbers = _SUBMITTED.findall(heard)
        if answer.exit_code == 0 and len(numbers) == 1:
            return Submitted(numbers[0])
        if answer.exit_code in (0, None) or numbers or _LOST.search(heard) is not None:
            return Doubtful(told)
        return Refused(told) if _PLAIN.search(heard) is not None else Doubtful(told)

    def find(self, names: Sequence[str]) -> tuple[Command, ...]:
        """See Dialect. One name is all that a list can be narrowed to."""
        narrowed = [f"/jobname:{request.name(name)}" for name in names if len(names) == 1]
        return (_list(*narrowed, "/all"),)

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> Listing:
        """See Dialect. Ended jobs are listed for as long as the cluster keeps them (TtlCompletedJobs, 5 days)."""
        listing = self.seen(answers)
        return Listing(tuple(job for job in listing.jobs if job.name in names), listing.complete, listing.why)

    def look(self, ids: Sequence[str]) -> tuple[Command, ...]:  # noqa: ARG002 - it cannot be narrowed to several ids
        """See Dialect."""
        return (_list("/all"),)

    def seen(self, answers: Sequence[Answer]) -> Listing:
        """See Dialect. Complete if as many jobs were read as the last line counts."""
        (answer,) = answers
        jobs = tuple(job for block in _blocks(answer.stdout) if (job := _standing(block)) is not None)
        count = _COUNT.search(answer.stdout)
        if answer.exit_code == 0 and count is not None and int(count[1]) == len(jobs):
            return Listing(jobs, complete=True)
        told = words(answer, "job list")[-400:]
        return Listing(jobs, complete=False, why=f"job list did not tell all: {told}")

    def ask(self, wish: Wish, ids: Sequence[str]) -> Command | None:
        """See Dialect. Jobs can only be held until a time, and not be suspended."""
        match wish:
            case Wish.CANCEL:
                return _command(_CANCEL, *_checked(ids))
            case Wish.HOLD | Wish.RELEASE | Wish.SUSPEND | Wish.RESUME:
                return None
            case _ as never:
                assert_never(never)

    def prioritise(self, priority: int, ids: Sequence[str]) -> Command | None:
        """See Dialect. From 0 to 4000; a job has 2000 by itself."""
        level = max(0, min(_HIGHEST_PRIORITY, _MIDDLE_PRIORITY + priority))
        return _command(_PRIORITISE, str(level), *_checked(ids))

    def complied(self, answer: Answer) -> Compliance:
        """See Dialect."""
        heard = said(answer)
        if answer.exit_code is None or _LOST.search(heard) is not None:
            return Compliance.DOUBTFUL
        if _OVER.search(heard) is not None:
            return Compliance.GONE
        if re.search(r"denied|permission", heard, re.IGNORECASE) is not None:
            return Compliance.REFUSED
        return Compliance.DONE if answer.exit_code == 0 else Compliance.DOUBTFUL

    def partitions(self) -> Command:
        """See Dialect. Node groups; no command but this one lists them."""
        script = "Add-PSSnapin Microsoft.HPC; Get-HpcGroup | Format-List -Property Name"
        return _program("powershell", "-NoProfile", "-NonInteractive", "-Command", script)

    def read_partitions(self, answer: Answer) -> tuple[Partition, ...]:
        """See Dialect."""
        names = [block["name"] for block in _insist(answer) if "name" in block]
        return tuple(
            Partition(name, is_default=False, is_up=True, max_walltime_s=None, nodes=None, cpus=None)
            for name in names
        )

    def nodes(self) -> Command:
        """See Dialect."""
        return _program("node", "list", "/format:list")

    def read_nodes(self, answer: Answer) -> tuple[Node, ...]:
        """See Dialect."""
        return tuple(node for block in _insist(answer) if (node := _node(block)) is not None)

    def everything(self) -> Command:
        """See Dialect."""
        return _list("/user:*", "/state:queued,running")

    def read_everything(self, answer: Answer) -> Listing:
        """See Dialect."""
        return self.seen([answer])

    def version(self) -> Command:
        """See Dialect."""
        return _program("cluscfg", "view")

    def read_version(self, answer: Answer) -> str | None:
        """See Dialect."""
        match = re.search(r"^[ \t]*(?:\w+ )*Version\s*:\s*(\d[\d.]*)", answer.stdout, re.MULTILINE)
        return f"Windows HPC Pack {match[1]}" if answer.exit_code == 0 and match is not None else None


def _list(*options: str) -> Command:
    return _program("job", "list", "/format:list", *options)


def _program(*argv: str) -> Command:
    return _command('exec "$@"', *argv)


def _command(text: str, *arguments: str) -> Command:
    return Command(("sh", "-c", _AS_IT_IS + text, "sh", *arguments))


def _checked(ids: Sequence[str]) -> Sequence[str]:
    if any(_ID.fullmatch(each) is None for each in ids):
        raise ValueError(f"ids of Windows HPC jobs are numbers: {ids!r}")
    return ids


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """What is printed as `Name  : value`, one thing after the other with empty lines between, by name in small."""
    facts: dict[str, str] = {}
    for line in [*text.splitlines(), ""]:
        name, colon, value = line.partition(":")
        if colon and _FACT.fullmatch(name.strip()) is not None:
            facts.setdefault(name.strip().lower(), value.strip())
        elif not line.strip() and facts:
            yield facts
            facts = {}


def _standing(facts: dict[str, str]) -> Standing | None:
    id_ = facts.get("id") or facts.get("job id") or ""
    state = facts.get("state", "")
    if _ID.fullmatch(id_) is None or not state:
        return None
    phase, cause = _STATES.get(state.lower(), (Phase.UNKNOWN, None))
    return Standing(id_, facts.get("name", ""), phase, state, cause)


def _node(facts: dict[str, str]) -> Node | None:
    name = facts.get("node name") or facts.get("name")
    if name is None or "state" not in facts:
        return None
    return Node(
        name=name,
        state=facts["state"],
        is_up=facts["state"].lower() == "online",
        cpus=number(facts.get("number of cores") or facts.get("cores")),
        cpus_used=None,
        memory_bytes=None,
        gpus=None,
        partitions=(),
    )


def _insist(answer: Answer) -> list[dict[str, str]]:
    blocks = list(_blocks(answer.stdout))
    if answer.exit_code != 0 or not blocks:
        raise NotUnderstood(words(answer, "HPC Pack"))
    return blocks
