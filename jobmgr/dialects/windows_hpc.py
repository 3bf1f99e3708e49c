"""Windows HPC Pack, after Microsoft's documents of its commands; none was at hand to try it on.

A job has the environment of its owner's account on the node, and CCP_*; nothing of the submitter's is copied.
Scripts are read by cmd.exe, bodies too. Sources: "job submit", "job list", "job cancel", "job modify", "node list",
"cluscfg view" and Get-HpcGroup on learn.microsoft.com, Microsoft HPC Pack 2012 R2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import assert_never

from jobmgr.dialects import request
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
from jobmgr.dialects.quoting import cmd_path
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest

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
_VALUE = re.compile(r"[A-Za-z0-9_.@-]+(?:,[A-Za-z0-9_.@-]+)*")
_OPTION = re.compile(r"(/[a-z]+):([A-Za-z0-9_.+,-]+)")
_OPTIONS = frozenset({"/jobtemplate", "/nodegroupop", "/orderby", "/priority", "/requestednodes"})
_MIDDLE_PRIORITY, _HIGHEST_PRIORITY = 2000, 4000
_MB = 1024**2
_UNSAYABLE = {
    "qos": "name a job template in `directives`, as /jobtemplate:fast",
    "gpus": "ask for a partition that has them",
    "gpu_type": "ask for a partition that has them",
    "memory_per_cpu_bytes": "ask for memory of a node",
    "reservation": "ask for a partition",
    "constraint": "ask for a partition, or name nodes in `directives`, as /requestednodes:n1,n2",
    "modules": "there are no modules on Windows",
}


class WindowsHpc:
    """HPC Pack's language."""

    name = "windows_hpc"
    id_word = "%CCP_JOBID%"
    restarts_word = "%CCP_RETRY_COUNT%"
    index_word = "%CCP_TASKINSTANCEID%"
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

    def script(self, order: Order) -> str:
        """See Dialect. All options are on the command line, so that one file does."""
        _options(order)
        lines = ["@echo off", f"cd /d {cmd_path(order.cwd, 'cwd')} || exit /b 1", *order.body.splitlines()]
        return "".join(f"{line}\r\n" for line in lines)

    def submit(self, path: str, order: Order) -> Command:
        """See Dialect."""
        return Command(("job", "submit", *_options(order), "cmd", "/c", path))

    def submitted(self, answer: Answer) -> Submission:
        """See Dialect. Refusals are taken for such by their words; other failures are doubtful."""
        said = f"{answer.stdout.strip()}\n{answer.stderr.strip()}".strip()[:2000]
        numbers = _SUBMITTED.findall(said)
        if answer.exit_code == 0 and len(numbers) == 1:
            return Submitted(numbers[0])
        if answer.exit_code in (0, None) or numbers or _LOST.search(said) is not None:
            return Doubtful(said or "job submit did not answer")
        return Refused(said) if _PLAIN.search(said) is not None else Doubtful(said or "job submit failed")

    def find(self, name: str) -> tuple[Command, ...]:
        """See Dialect."""
        return (_list(f"/jobname:{request.name(name)}", "/all"),)

    def found(self, name: str, answers: Sequence[Answer]) -> Listing:
        """See Dialect. Ended jobs are listed for as long as the cluster keeps them (TtlCompletedJobs, 5 days)."""
        listing = self.seen(answers)
        return Listing(tuple(job for job in listing.jobs if job.name == name), listing.complete, listing.why)

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
        said = answer.stderr.strip() or answer.stdout.strip()[-200:]
        return Listing(jobs, complete=False, why=f"job list did not tell all: {said}"[:500])

    def ask(self, wish: Wish, ids: Sequence[str]) -> Command | None:
        """See Dialect. Jobs can only be held until a time, and not be suspended."""
        match wish:
            case Wish.CANCEL:
                return _each("job cancel %i", ids)
            case Wish.HOLD | Wish.RELEASE | Wish.SUSPEND | Wish.RESUME:
                return None
            case _ as never:
                assert_never(never)

    def prioritise(self, priority: int, ids: Sequence[str]) -> Command | None:
        """See Dialect. From 0 to 4000; a job has 2000 by itself."""
        number = max(0, min(_HIGHEST_PRIORITY, _MIDDLE_PRIORITY + priority))
        return _each(f"job modify %i /priority:{number}", ids)

    def complied(self, answer: Answer) -> Compliance:
        """See Dialect."""
        said = f"{answer.stdout}\n{answer.stderr}"
        if answer.exit_code is None or _LOST.search(said) is not None:
            return Compliance.DOUBTFUL
        if _OVER.search(said) is not None:
            return Compliance.GONE
        if re.search(r"denied|permission", said, re.IGNORECASE) is not None:
            return Compliance.REFUSED
        return Compliance.DONE if answer.exit_code == 0 else Compliance.DOUBTFUL

    def partitions(self) -> Command:
        """See Dialect. Node groups; no command but this one lists them."""
        script = "Add-PSSnapin Microsoft.HPC; Get-HpcGroup | Format-List -Property Name"
        return Command(("powershell", "-NoProfile", "-NonInteractive", "-Command", script))

    def read_partitions(self, answer: Answer) -> tuple[Partition, ...]:
        """See Dialect."""
        names = [block["name"] for block in _insist(answer) if "name" in block]
        return tuple(
            Partition(name, is_default=False, is_up=True, max_walltime_s=None, nodes=None, cpus=None)
            for name in names
        )

    def nodes(self) -> Command:
        """See Dialect."""
        return Command(("node", "list", "/format:list"))

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
        return Command(("cluscfg", "view"))

    def read_version(self, answer: Answer) -> str | None:
        """See Dialect."""
        match = re.search(r"^[ \t]*(?:\w+ )*Version\s*:\s*(\d[\d.]*)", answer.stdout, re.MULTILINE)
        return f"Windows HPC Pack {match[1]}" if answer.exit_code == 0 and match is not None else None


def _list(*options: str) -> Command:
    return Command(("job", "list", "/format:list", *options))


def _each(command: str, ids: Sequence[str]) -> Command:
    """The commands take one job each."""
    if any(_ID.fullmatch(each) is None for each in ids):
        raise ValueError(f"ids of Windows HPC jobs are numbers: {ids!r}")
    return Command(("cmd", "/c", f"for %i in ({' '.join(ids)}) do @{command}"))


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
    number = facts.get("id") or facts.get("job id") or ""
    word = facts.get("state", "")
    if _ID.fullmatch(number) is None or not word:
        return None
    phase, cause = _STATES.get(word.lower(), (Phase.UNKNOWN, None))
    return Standing(number, facts.get("name", ""), phase, word, cause)


def _node(facts: dict[str, str]) -> Node | None:
    name = facts.get("node name") or facts.get("name")
    if name is None or "state" not in facts:
        return None
    cores = facts.get("number of cores") or facts.get("cores") or ""
    return Node(
        name=name,
        state=facts["state"],
        is_up=facts["state"].lower() == "online",
        cpus=int(cores) if cores.isdecimal() and len(cores) < 19 else None,
        cpus_used=None,
        memory_bytes=None,
        gpus=None,
        partitions=(),
    )


def _insist(answer: Answer) -> list[dict[str, str]]:
    blocks = list(_blocks(answer.stdout))
    if answer.exit_code != 0 or not blocks:
        raise NotUnderstood(
            (answer.stderr.strip() or answer.stdout.strip() or "HPC Pack did not answer")[:500]
        )
    return blocks


def _options(order: Order) -> tuple[str, ...]:
    resources = order.resources
    request.refuse_unsayable(resources, "Windows HPC", _UNSAYABLE)
    if order.elements is not None:
        raise InvalidRequest("elements", "job list does not tell elements apart; submit jobs one by one")
    if order.is_held:
        raise InvalidRequest("is_held", "Windows HPC cannot hold a job without a time; submit it at once")
    options = [f"/jobname:{request.name(order.name)}", "/rerunnable:false"]
    paths = (
        ("/stdout", "stdout", order.stdout),
        ("/stderr", "stderr", order.stderr),
        ("/workdir", "cwd", order.cwd),
    )
    options += [f"{option}:{cmd_path(path, field)[1:-1]}" for option, field, path in paths]
    options += _size(resources)
    for option, field in (
        ("/nodegroup", "partition"),
        ("/projectname", "account"),
        ("/emailaddress", "mail_to"),
    ):
        value = getattr(resources, field)
        options += [f"{option}:{_value(value, f'resources.{field}')}"] if value is not None else []
    options += [f"/runtime:{_runtime(resources.walltime_s)}"] if resources.walltime_s is not None else []
    licenses = ",".join(f"{name}:{number}" for name, number in request.licenses(resources, frozenset()))
    options += [f"/license:{licenses}"] if licenses else []
    options += [f"/exclusive:{str(resources.exclusive).lower()}"] if resources.exclusive is not None else []
    return (
        *options,
        *_mail(resources),
        *(_option(text) for text in (*resources.directives, *order.directives)),
    )


def _size(resources: Resources) -> list[str]:
    """Cores, or whole nodes with so many cores. Memory chooses among nodes; nothing of it is reserved."""
    options = []
    if resources.nodes is not None:
        options = [f"/numnodes:{resources.nodes}"]
        cores = max(share.tasks for share in request.shares(resources)) * (resources.cpus or 1)
        options += (
            [f"/corespernode:{cores}"] if resources.tasks is not None or resources.cpus is not None else []
        )
    elif request.is_sized(resources):
        options = [f"/numcores:{request.tasks(resources) * (resources.cpus or 1)}"]
        options += ["/singlenode:true"] if request.tasks(resources) == 1 else []
    if resources.memory_bytes is not None:
        options.append(f"/memorypernode:{request.units(resources.memory_bytes, _MB)}")
    return options


def _runtime(walltime_s: float) -> str:
    """`hours:minutes`."""
    minutes = request.minutes(walltime_s)
    return f"{minutes // 60}:{minutes % 60:02}"


def _mail(resources: Resources) -> list[str]:
    occasions = request.mail(resources)
    if "fail" in occasions and "end" not in occasions:
        raise InvalidRequest("resources.mail_on", "Windows HPC cannot mail on failure alone; ask for end too")
    return [
        f"{option}:true"
        for occasion, option in (("begin", "/notifyonstart"), ("end", "/notifyoncompletion"))
        if occasion in occasions
    ]


def _value(text: str, field: str) -> str:
    if _VALUE.fullmatch(text) is None:
        raise InvalidRequest(
            field, f"{text[:100]!r} has characters that a Windows command line would not take as text"
        )
    return text


def _option(text: str) -> str:
    match = _OPTION.fullmatch(text)
    if match is None or match[1] not in _OPTIONS:
        allowed = ", ".join(sorted(_OPTIONS))
        raise InvalidRequest(
            "resources.directives", f"{text[:40]!r} cannot be set here; only {allowed}, as /priority:7"
        )
    return text
