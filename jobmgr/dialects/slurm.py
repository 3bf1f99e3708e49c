"""SLURM 22.05 and newer.

Sources: sbatch(1), squeue(1), sacct(1), scancel(1), scontrol(1), sinfo(1) of Slurm 22.05; texts of errors from its
`slurm_strerror`. What is said here about answers was seen on 22.05.8; the recordings lie in tests/data/slurm.

A job sees the environment of a login on its node (`--export=NONE`), and SLURM's own variables. Nothing of the
process that submits comes with it: SLURM copies `SLURM_*` in any case, so those are taken away before.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import assert_never

from jobmgr.dialects import quoting
from jobmgr.dialects.dialect import (
    Answer,
    Busy,
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
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest

# Variables change what SLURM's commands do: SBATCH_* beat the directives of a script, SQUEUE_* hide jobs from a
# listing, SLURM_* are copied into jobs. Only where the cluster is, and who asks, is left to the site.
# Times are asked for as seconds since 1970, because what is written by default is local time without a zone.
_RUN = r"""
for name in $(env | sed -n 's/^\(S[A-Z]*_[A-Z0-9_]*\)=.*/\1/p'); do
    case $name in
        SLURM_CONF | SLURM_JWT) ;;
        SLURM_* | SBATCH_* | SQUEUE_* | SACCT_* | SCANCEL_* | SCONTROL_* | SINFO_*) unset "$name" ;;
    esac
done
SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0
export SLURM_TIME_FORMAT SLURM_BITSTR_LEN
exec "$@"
"""

# Characters that no name, reason or list of nodes has: Unit Separator and Record Separator of ASCII.
_FIELD_END = "\x1f"
_RECORD_END = "\x1e"
_QUEUE_FIELDS = (
    "JobArrayID", "State", "RestartCnt", "exit_code", "StartTime", "EndTime", "NodeList", "Reason", "Name",
)  # fmt: skip
_ACCOUNT_FIELDS = (
    "JobID", "State", "ExitCode", "Start", "End", "NodeList", "TotalCPU", "MaxRSS", "JobName",
)  # fmt: skip
# How far back a name is looked for. Sites limit the range of one query (MaxQueryTimeRange), so it cannot be "ever";
# a submission is looked up within minutes, and what is older than this is known by its id.
_LOOK_BACK = "now-30days"

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

# These stand in one place of `sbatch`: after them nothing was handed in. Source: slurm_strerror of 22.05.8.
_FAILED = re.compile(r"Batch job submission failed: (.*)")
_REFUSALS = (
    "Access denied to requested reservation",
    "Access/permission denied",
    "Burst Buffer permission denied",
    "Burst Buffer request invalid",
    "CPU count specification invalid",
    "Circular job dependency",
    "Duplicate generic resource",
    "Invalid --nice value",
    "Invalid GRES specification",
    "Invalid Trackable RESource",
    "Invalid account or account/partition combination specified",
    "Invalid feature specification",
    "Invalid generic resource (gres) specification",
    "Invalid group id",
    "Invalid job array specification",
    "Invalid license specification",
    "Invalid mcs_label specified",
    "Invalid node name specified",
    "Invalid partition name specified",
    "Invalid preferred feature specification",
    "Invalid qos specification",
    "Invalid time specified",
    "Invalid time-min specification",
    "Invalid user id",
    "Invalid wckey specification",
    "Job --batch option is invalid",
    "Job dependency problem",
    "Job script not specified",
    "Job size specification needs to be provided",
    "Memory required by task is not available",
    "More processors requested than permitted",
    "Multiple partition job request not supported",
    "No partition specified or system default partition",
    "Node count specification invalid",
    "Only batch jobs are accepted or processed",
    "Pathname of a file, directory or other parameter too long",
    "Requested GRES option unsupported",
    "Requested more tasks than available processors",
    "Requested node configuration is not available",
    "Requested nodes not in this partition",
    "Requested operation not supported on this system",
    "Requested partition configuration not available now",
    "Requested reservation is invalid",
    "Requested time limit is invalid",
    "Task count specification invalid",
    "Task distribution specification invalid",
    "Time limit specification required",
    "User's group not permitted to use this partition",
)
# This is said for limits on submitted jobs, which pass by themselves, and for limits on sizes and times, which do
# not. The line before tells which (QOSMaxSubmitJobPerUserLimit, AssocGrpSubmitJobsLimit, ...).
_POLICY = "Job violates accounting/QOS policy"
_SUBMIT_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w*SubmitJob\w*")
_BUSY = (
    "Burst Buffer resource limit exceeded",
    "I/O error writing script/environment to file",
    "Reached jobs per hour limit",
    "Required partition not available",
    "Requested nodes are busy",
    "Resource temporarily unavailable",
    "Slurm temporarily unable to accept job",
    "System submissions disabled",
    "Unable to create job record, try again",
)
# sbatch's complaints about its own arguments and file, before it talks to anybody.
_NOT_SENT = re.compile(
    r"unrecognized option|option .* requires an argument|is ambiguous|Invalid --\S+ specification"
    r"|Invalid numeric value|are mutually exclusive|Unable to open file"
    r"|does not look like a batch script|Batch script is empty"
)
_NO_SUCH_PROGRAM = 127
_SUBMITTED = re.compile(r"(\d+)(?:;\S*)?")

_GONE = ("Invalid job id specified", "Job/step already completing or completed", "Job has already finished")
_DENIED = (
    "Access/permission denied",
    "Invalid user id",
    "Requested operation is presently disabled",
    "Requested operation not supported",
    "Job is pending execution",
    "Job is no longer pending execution",
    "Job is current suspended",
    "Job is not suspended",
    "Job is not running",
    "Job is not pending nor running",
    "Job has already started",
    "Invalid --nice value",
    "Invalid job id ",
)

# Options that say how a submission is named, found again, and run once. Theirs is the executor's word.
_OURS = (
    "job-name", "array", "output", "error", "chdir", "hold", "no-requeue", "requeue", "export", "export-file",
    "open-mode", "propagate", "get-user-env", "parsable", "wrap", "wait", "test-only", "clusters", "uid", "gid", "help",
    "usage", "version", "input",
)  # fmt: skip
_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(?:=.*)?")
_GPU_TYPE = re.compile(r"[A-Za-z0-9_.-]+")
_MEBIBYTE = 1024**2

_ARRAY = re.compile(r"(\d+)_\[([0-9,:\-]+)(?:%\d+)?\]")
_STEP = re.compile(r"[^.\[]+\..+")
_RANGE = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")
_CPU_TIME = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_LIMIT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")
_UP_STATES = frozenset({"idle", "mixed", "allocated", "completing", "reserved", "planned"})
_STATE = re.compile(r"([a-z_]+)(\*?)")
_MAX_ARRAY_SIZE = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)
_MAX_ARRAY_TASKS = re.compile(r"\bmax_array_tasks=(\d+)")


class Slurm:
    """The language of `sbatch` and its kin."""

    name = "slurm"
    id_word = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    restarts_word = "${SLURM_RESTART_COUNT:-0}"
    index_word = "${SLURM_ARRAY_TASK_ID:-0}"

    def __init__(self, *, array_cap: int = 1001) -> None:
        self.array_cap = array_cap

    def probe(self) -> tuple[Command, ...]:
        """Ask how long an array may be."""
        return (_command("scontrol", "show", "config"),)

    def fitted(self, answers: Sequence[Answer]) -> Slurm:
        """Indices have to be below MaxArraySize; `max_array_tasks` bounds their number."""
        (answer,) = answers
        size = _MAX_ARRAY_SIZE.search(_plain(answer))
        if size is None:
            raise NotUnderstood(f"scontrol does not say MaxArraySize: {answer.stdout[:200]!r}")
        tasks = _MAX_ARRAY_TASKS.search(answer.stdout)
        return Slurm(array_cap=min(int(size[1]), int(tasks[1])) if tasks else int(size[1]))

    def element(self, id_: str, index: int) -> str:
        """As squeue and sacct write it."""
        return f"{id_}_{index}"

    def script(self, order: Order) -> str:
        """The job's steps (`srun`) get its environment, which `--export=NONE` would keep from them."""
        # Of an option that is said twice the last one counts: ours come last.
        options = (*_user_options(order), *_resource_options(order.resources), *_own_options(order))
        lines = "".join(f"#SBATCH {option}\n" for option in options)
        return f"#!/bin/sh\n{lines}export SLURM_EXPORT_ENV=ALL\n{order.body}"

    def submit(self, path: str, order: Order) -> Command:  # noqa: ARG002 - all is said in the script
        """Hand in the script that lies at `path`."""
        return _command("sbatch", "--parsable", path)

    def submitted(self, answer: Answer) -> Submission:
        """An id that comes with an error is doubtful: the job is there or not, and its name will tell."""
        words = (answer.stderr.strip() or answer.stdout.strip())[-2000:]
        match = _SUBMITTED.fullmatch(answer.stdout.strip())
        if answer.exit_code == 0 and match is not None:
            return Submitted(match[1])
        if answer.exit_code in {None, 0} or answer.stdout.strip():
            return Doubtful(words or f"sbatch answered nothing, exit code {answer.exit_code}")
        return _refusal(answer, words)

    def find(self, name: str) -> tuple[Command, ...]:
        """Look for all jobs of this name, ended ones too."""
        return _queue(f"--name={name}", "--me", "--states=all"), _accounting(
            f"--name={name}", f"--starttime={_LOOK_BACK}"
        )

    def found(self, name: str, answers: Sequence[Answer]) -> Listing:
        """A submission that was refused for what it asks leaves a job of its name too, which never runs."""
        listing = self.seen(answers)
        return replace(listing, jobs=tuple(job for job in listing.jobs if job.name == name))

    def look(self, ids: Sequence[str]) -> tuple[Command, ...]:
        """The queue is asked for all jobs of the user, which costs the controller least, whatever their number.

        squeue has no use for ids here: with one unknown id it fails, and with several it asks for the whole queue.
        """
        return _queue("--me", "--states=all"), _accounting(f"--jobs={','.join(ids)}")

    def seen(self, answers: Sequence[Answer]) -> Listing:
        """Each run of a job is one standing: accounting has them all, the queue knows better about the last."""
        queue, accounting = answers
        live, is_whole_queue = _read_queue(queue)
        runs, is_whole_account = _read_accounting(accounting)
        reasons = [
            *([] if is_whole_queue else [f"squeue: {_words(queue)}"]),
            *([] if is_whole_account else [f"sacct: {_words(accounting)}"]),
        ]
        jobs = _merged(live, runs, is_queue_known=is_whole_queue)
        return Listing(tuple(jobs), not reasons, "; ".join(reasons), has_queue=is_whole_queue)

    def ask(self, wish: Wish, ids: Sequence[str]) -> Command | None:
        """Only operators may suspend and resume."""
        match wish:
            case Wish.CANCEL:
                return _command("scancel", *ids)
            case Wish.HOLD | Wish.RELEASE | Wish.SUSPEND | Wish.RESUME:
                return _command("scontrol", wish.value, ",".join(ids))
            case _:
                assert_never(wish)

    def prioritise(self, priority: int, ids: Sequence[str]) -> Command | None:
        """`nice` counts the other way round; only operators may go below 0."""
        return _command("scontrol", "update", f"JobId={','.join(ids)}", f"Nice={-priority}")

    def complied(self, answer: Answer) -> Compliance:
        """The worst of what it says about several jobs. scancel is silent about jobs that it does not know."""
        lines = [line for line in (answer.stderr + answer.stdout).splitlines() if line.strip()]
        if answer.exit_code is None:
            return Compliance.DOUBTFUL
        # scontrol repeats its last error in a line of its own, sometimes as "No error".
        said = [line for line in lines if not line.startswith("slurm_suspend error")]
        if not said:
            return Compliance.DONE if answer.exit_code == 0 else Compliance.DOUBTFUL
        kinds = {_compliance(line) for line in said}
        worst = (Compliance.DOUBTFUL, Compliance.REFUSED, Compliance.GONE)
        return next(kind for kind in worst if kind in kinds)

    def partitions(self) -> Command:
        """List the partitions."""
        return _sinfo("--summarize", "%R", "%P", "%a", "%l", "%D", "%C")

    def read_partitions(self, answer: Answer) -> tuple[Partition, ...]:
        """Jobs per partition are not told."""
        return tuple(_partition(fields) for fields in _table(answer, 6))

    def nodes(self) -> Command:
        """List the machines, each once for every partition that it is in."""
        return _sinfo("--Node", "%N", "%R", "%T", "%C", "%m", "%G")

    def read_nodes(self, answer: Answer) -> tuple[Node, ...]:
        """One for each name."""
        nodes: dict[str, Node] = {}
        for fields in _table(answer, 6):
            node = _node(fields)
            known = nodes.get(node.name)
            # sinfo tells them in any order.
            partitions = {*node.partitions, *(known.partitions if known else ())}
            nodes[node.name] = replace(node, partitions=tuple(sorted(partitions)))
        return tuple(nodes.values())

    def everything(self) -> Command:
        """List all jobs of all users that have not ended."""
        return _queue()

    def read_everything(self, answer: Answer) -> Listing:
        """What came of `everything`."""
        live, is_whole = _read_queue(answer)
        return Listing(tuple(live.values()), is_whole, "" if is_whole else f"squeue: {_words(answer)}")

    def version(self) -> Command:
        """Ask which scheduler this is."""
        return Command(("sbatch", "--version"))

    def read_version(self, answer: Answer) -> str | None:
        """Debian calls it `slurm-wlm 22.05.8`."""
        text = answer.stdout.strip()
        return text if answer.exit_code == 0 and re.fullmatch(r"slurm\S*\s+\d\S*", text) else None


def _command(program: str, *arguments: str) -> Command:
    return Command(("sh", "-c", _RUN, "sh", program, *arguments))


def _queue(*options: str) -> Command:
    ends = [_FIELD_END] * (len(_QUEUE_FIELDS) - 1) + [_RECORD_END]
    columns = ",".join(f"{name}:{end}" for name, end in zip(_QUEUE_FIELDS, ends, strict=True))
    return _command("squeue", "--noheader", "--array", *options, f"--Format={columns}")


def _accounting(*options: str) -> Command:
    shape = ("--noheader", "--parsable2", f"--delimiter={_FIELD_END}", "--noconvert", "--duplicates")
    return _command("sacct", *shape, *options, f"--format={','.join(_ACCOUNT_FIELDS)}")


def _sinfo(option: str, *fields: str) -> Command:
    return _command("sinfo", "--noheader", option, f"--format={_FIELD_END.join(fields)}")


# The script.


def _own_options(order: Order) -> list[str]:
    """How the submission is named, found again, and run once."""
    options = [
        f"--job-name={quoting.directive(order.name, 'name')}",
        f"--output={_file_name(order.stdout, 'stdout')}",
        f"--error={_file_name(order.stderr, 'stderr')}",
        # A run that is not let through the gate must not wipe out what the first one wrote.
        "--open-mode=append",
        f"--chdir={quoting.double_quoted(order.cwd, 'cwd')}",
        "--no-requeue",
        "--export=NONE",
        # SLURM would give the job the limits of the process that submits.
        "--propagate=NONE",
    ]
    if order.elements is not None:
        at_once = "" if order.elements_at_once is None else f"%{order.elements_at_once}"
        options.append(f"--array=0-{order.elements - 1}{at_once}")
    if order.is_held:
        options.append("--hold")
    return options


def _file_name(path: str, field: str) -> str:
    """A path in which SLURM replaces nothing. Source: sbatch(1), "FILENAME PATTERN"."""
    return quoting.double_quoted(path.replace("%", "%%"), field)


def _resource_options(asked: Resources) -> list[str]:
    """In the order of `Resources`; docs/executors.md has the same as a table."""
    _check_combinations(asked)
    options = [
        ("cpus-per-task", None if asked.cpus is None else str(asked.cpus)),
        ("mem", _mebibytes(asked.memory_bytes)),
        ("gpus", _gpus(asked)),
        ("time", None if asked.walltime_s is None else _clock(asked.walltime_s)),
        ("nodes", None if asked.nodes is None else str(asked.nodes)),
        ("ntasks", None if asked.tasks is None else str(asked.tasks)),
        ("partition", _plain_text(asked.partition, "partition")),
        ("account", _plain_text(asked.account, "account")),
        ("qos", _plain_text(asked.qos, "qos")),
        ("mem-per-cpu", _mebibytes(asked.memory_per_cpu_bytes)),
        ("reservation", _plain_text(asked.reservation, "reservation")),
        ("constraint", _plain_text(asked.constraint, "constraint")),
        ("licenses", _plain_list(asked.licenses, "licenses")),
        ("mail-user", _plain_text(asked.mail_to, "mail_to")),
        ("mail-type", _plain_list([event.upper() for event in asked.mail_on], "mail_on")),
    ]
    written = [f"--{name}={value}" for name, value in options if value is not None]
    return [*written, "--exclusive"] if asked.exclusive else written


def _check_combinations(asked: Resources) -> None:
    if asked.memory_bytes is not None and asked.memory_per_cpu_bytes is not None:
        raise InvalidRequest("resources.memory_per_cpu", "SLURM takes either this or memory; leave one away")
    if asked.gpu_type is not None and asked.gpus is None:
        raise InvalidRequest("resources.gpu_type", "says which GPUs, but not how many; set gpus too")
    if asked.mail_to is not None and not asked.mail_on:
        raise InvalidRequest(
            "resources.mail_to", "SLURM would never write; set mail_on to begin, end or fail"
        )


def _plain_text(value: str | None, field: str) -> str | None:
    return None if value is None else quoting.directive(value, f"resources.{field}")


def _plain_list(values: Sequence[str], field: str) -> str | None:
    return ",".join(quoting.directive(value, f"resources.{field}") for value in values) or None


def _mebibytes(size_bytes: int | None) -> str | None:
    """SLURM counts in these; more than was asked for is better than less."""
    return None if size_bytes is None else f"{max(1, math.ceil(size_bytes / _MEBIBYTE))}M"


def _gpus(asked: Resources) -> str | None:
    if asked.gpus is None:
        return None
    if asked.gpu_type is None:
        return str(asked.gpus)
    # `a100:1,v100` would ask for something else than one type.
    if _GPU_TYPE.fullmatch(asked.gpu_type) is None:
        raise InvalidRequest(
            "resources.gpu_type", f"{asked.gpu_type[:100]!r} is not a type; write letters, digits, _ . -"
        )
    return f"{asked.gpu_type}:{asked.gpus}"


def _clock(seconds: float) -> str:
    """Days-hours:minutes:seconds. SLURM rounds up to minutes."""
    minutes, second = divmod(max(1, math.ceil(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02}:{minute:02}:{second:02}"


def _user_options(order: Order) -> list[str]:
    """Each in the order given, the site's before the job's own."""
    return [_user_option(text) for text in dict.fromkeys((*order.directives, *order.resources.directives))]


def _user_option(text: str) -> str:
    field = "resources.directives"
    match = _OPTION.fullmatch(quoting.directive(text, field))
    if match is None:
        raise InvalidRequest(field, f"{text[:100]!r} is no option of sbatch; write it as --nice=100")
    # sbatch takes the beginning of an option for the option.
    taken = next((name for name in _OURS if name.startswith(match[1])), None)
    if taken is not None:
        raise InvalidRequest(field, f"{text[:100]!r}: --{taken} is set by jobmgr itself")
    return text


# Answers to sbatch and to wishes.


def _refusal(answer: Answer, words: str) -> Submission:
    """`answer` is one of failure, without an id."""
    failed = _FAILED.findall(answer.stderr)
    if not failed:
        if answer.exit_code == _NO_SUCH_PROGRAM:
            return Busy(words)
        return Refused(words) if _NOT_SENT.search(answer.stderr) else Doubtful(words)
    last = failed[-1].strip()
    if last.startswith(_POLICY):
        return Busy(words) if _SUBMIT_LIMIT.search(answer.stderr) else Refused(words)
    if last.startswith(_BUSY):
        return Busy(words)
    return Refused(words) if last.startswith(_REFUSALS) else Doubtful(words)


def _compliance(line: str) -> Compliance:
    if any(text in line for text in _GONE):
        return Compliance.GONE
    return Compliance.REFUSED if any(text in line for text in _DENIED) else Compliance.DOUBTFUL


# Listings.


def _read_queue(answer: Answer) -> tuple[dict[str, Standing], bool]:
    """By id, in the order given; and whether this is all of it."""
    live = {}
    is_whole = answer.exit_code == 0
    *records, rest = answer.stdout.split(_RECORD_END)
    for record in records:
        fields = record.removeprefix("\n").split(_FIELD_END)
        if len(fields) == len(_QUEUE_FIELDS):
            standing = _queued(fields)
            live[standing.id] = standing
        else:
            is_whole = False
    return live, is_whole and not rest.strip()


def _queued(fields: list[str]) -> Standing:
    """One line of squeue. What it says about codes of jobs that wait is that of a former run."""
    id_, word, restarts, status, start, end, nodes, reason, name = fields
    cause = _CAUSES.get(word)
    phase = Phase.ENDED if cause else _PHASES.get(word, Phase.UNKNOWN)
    if phase is Phase.PENDING and "held" in reason.lower():
        phase = Phase.HELD
    is_waiting = phase in {Phase.PENDING, Phase.HELD}
    earlier = int(restarts) if restarts.isdigit() else None
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
    )


def _status(cause: Cause | None, text: str, reason: str = "") -> tuple[int | None, int | None]:
    """Exit code and signal, of `7:0` (sacct) or of a wait status (squeue)."""
    if cause is None or reason == "JobLaunchFailure":
        return None, None
    if ":" in text:
        code, signal = (int(part) if part.isdigit() else 0 for part in text.split(":", 1))
    elif text.isdigit():
        code, signal = int(text) >> 8 & 0xFF, int(text) & 0x7F
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


def _read_accounting(answer: Answer) -> tuple[dict[tuple[str, str], list[Standing]], bool]:
    """The runs by id and name, oldest first; and whether this is all of it.

    An id can have been another job's in former times, hence the name. Steps follow the run that they are of.
    """
    runs: dict[tuple[str, str], list[Standing]] = {}
    is_whole = answer.exit_code == 0
    current: list[list[Standing]] = []
    names: dict[str, str] = {}
    for line in answer.stdout.split("\n")[:-1]:
        fields = line.split(_FIELD_END)
        if len(fields) != len(_ACCOUNT_FIELDS):
            is_whole = False
            continue
        record = _Record(*fields)
        if _STEP.fullmatch(record.id):
            for known in current:
                known[-1] = _with_step(known[-1], record)
            continue
        current = []
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
        first, last, step = int(bounds[1]), int(bounds[2] or bounds[1]), int(bounds[3] or 1)
        found += [f"{match[1]}_{index}" for index in range(first, last + 1, step)]
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
    if not step.peak.isdigit():
        return run
    return replace(run, peak_memory_bytes=max(run.peak_memory_bytes or 0, int(step.peak)))


def _merged(
    live: dict[str, Standing], runs: dict[tuple[str, str], list[Standing]], *, is_queue_known: bool
) -> Iterable[Standing]:
    """Every run once. Takes those that the queue knows out of `runs`."""
    for standing in live.values():
        known = runs.pop((standing.id, standing.name), []) or runs.pop((standing.id, _NAMELESS), [])
        known = [replace(run, name=standing.name) for run in known]
        number = standing.restarts if standing.restarts is not None else max(0, len(known) - 1)
        yield from known[:number]
        last = known[number] if number < len(known) else None
        # Accounting lags; but once it knows the end too, it knows more about it.
        if standing.cause is not None and last is not None and last.cause is not None:
            yield replace(last, reason=standing.reason)
        else:
            yield standing
    for known in runs.values():
        yield from (_unseen(standing) if is_queue_known else standing for standing in known)


def _unseen(standing: Standing) -> Standing:
    """What accounting takes for alive, and the queue does not know: it has ended, and how is not told yet."""
    return standing if standing.cause is not None else replace(standing, phase=Phase.UNKNOWN)


def _index(id_: str) -> int | None:
    """Of an element (`12_4`)."""
    index = id_.partition("_")[2]
    return int(index) if index.isdecimal() else None


def _time(text: str) -> datetime | None:
    """A time that is not known is `Unknown`, `None`, `NONE` or `N/A`."""
    return datetime.fromtimestamp(int(text), UTC) if text.isdigit() else None


def _cpu_s(text: str) -> float | None:
    """Of `[[days-]hours:]minutes:seconds[.fraction]`."""
    match = _CPU_TIME.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _words(answer: Answer) -> str:
    if answer.exit_code is None:
        return "no answer in time"
    return answer.stderr.strip()[-500:] or f"exit code {answer.exit_code}, not understood"


# The cluster.


def _plain(answer: Answer) -> str:
    if answer.exit_code != 0:
        raise NotUnderstood(_words(answer))
    return answer.stdout


def _table(answer: Answer, width: int) -> list[list[str]]:
    rows = [line.split(_FIELD_END) for line in _plain(answer).splitlines() if line.strip()]
    wrong = next((row for row in rows if len(row) != width), None)
    if wrong is not None:
        raise NotUnderstood(f"not {width} fields: {_FIELD_END.join(wrong)[:200]!r}")
    return rows


def _partition(fields: list[str]) -> Partition:
    name, marked, state, limit, nodes, cpus = fields
    return Partition(
        name=name,
        is_default=marked == f"{name}*",
        is_up=state == "up",
        max_walltime_s=_limit_s(limit),
        nodes=_number(nodes),
        cpus=_number(cpus.split("/")[-1]),
    )


def _node(fields: list[str]) -> Node:
    name, partition, state, cpus, memory, resources = fields
    # A star says that the machine does not answer; other marks speak of its power.
    match = _STATE.match(state)
    used, *_, all_cpus = cpus.split("/")
    memory_mebibytes = _number(memory)
    return Node(
        name=name,
        state=state,
        is_up=match is not None and match[1] in _UP_STATES and not match[2],
        cpus=_number(all_cpus),
        cpus_used=_number(used),
        memory_bytes=None if memory_mebibytes is None else memory_mebibytes * _MEBIBYTE,
        gpus=sum(int(found) for found in re.findall(r"\bgpu(?::[^:,(]+)?:(\d+)(?![^,(])", resources)),
        partitions=(partition,),
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _limit_s(text: str) -> float | None:
    """Of `[days-][hours:]minutes:seconds`, or `infinite`."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
