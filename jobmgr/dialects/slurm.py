"""SLURM 22.05 and newer.

Sources: sbatch(1), squeue(1), sacct(1), scancel(1), scontrol(1), sinfo(1) of Slurm 22.05; texts of errors from its
`slurm_strerror`. What is said here about answers was seen on 22.05.8; the recordings lie in tests/data/slurm.

A job sees the environment of a login on its node (`--export=NONE`), and SLURM's own variables. Nothing of the
process that submits comes with it: SLURM copies `SLURM_*` in any case, so those are taken away before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import assert_never

from jobmgr.dialects import slurm_listing, slurm_order
from jobmgr.dialects.answers import array_cap, printed, why, words
from jobmgr.dialects.dialect import (
    Answer,
    Busy,
    Command,
    Compliance,
    Doubtful,
    Listing,
    Node,
    NotUnderstood,
    Order,
    Partition,
    Refused,
    Submission,
    Submitted,
    Wish,
)
from jobmgr.dialects.slurm_listing import ACCOUNT_FIELDS, FIELD_END, QUEUE_FIELDS, RECORD_END, WHOSE_FIELDS
from jobmgr.dialects.slurm_order import directives, nice

# Variables change what SLURM's commands do: SBATCH_* beat the directives of a script, SQUEUE_* hide jobs from a
# listing, SLURM_* are copied into jobs. Only where the cluster is, and who asks, is left to the site.
# Times are asked for as seconds since 1970, because what is written by default is local time without a zone.
_RUN = r"""
set -f
IFS='
'
for name in $(export -p); do
    name=${name%%=*}
    name=${name##* }
    case $name in
        *[!A-Z0-9_]* | SLURM_CONF | SLURM_JWT) ;;
        SLURM_* | SBATCH_* | SQUEUE_* | SACCT_* | SCANCEL_* | SCONTROL_* | SINFO_*) unset "$name" ;;
    esac
done
SLURM_TIME_FORMAT=%s SLURM_BITSTR_LEN=0
export SLURM_TIME_FORMAT SLURM_BITSTR_LEN
exec "$@"
"""

# How far back a name is looked for. Sites limit the range of one query (MaxQueryTimeRange), so it cannot be "ever";
# a submission is looked up within minutes, and what is older than this is known by its id.
_LOOK_BACK = "now-30days"

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
# Of these jobs in other partitions or of another QOS may be free.
_BUSY_FOR_SOME = (
    "Burst Buffer resource limit exceeded",
    "Reached jobs per hour limit",
    "Required partition not available",
    "Requested nodes are busy",
)
# sbatch's complaints about its own arguments and file, before it talks to anybody.
_NOT_SENT = re.compile(
    r"unrecognized option|option .* requires an argument|is ambiguous|Invalid --\S+ specification"
    r"|Invalid numeric value|Failed to validate job spec|are mutually exclusive|Unable to open file"
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

_MAX_ARRAY_SIZE = re.compile(r"^MaxArraySize\s*=\s*(\S+)", re.MULTILINE)
_MAX_ARRAY_TASKS = re.compile(r"\bmax_array_tasks=(\w+)")


class Slurm:
    """The language of `sbatch` and its kin."""

    name = "slurm"
    id_word = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
    restarts_word = "${SLURM_RESTART_COUNT:-0}"
    index_word = "${SLURM_ARRAY_TASK_ID:-0}"
    directory_variable = "SLURM_SUBMIT_DIR"

    def __init__(self, *, array_cap: int | None = 1001) -> None:
        self.array_cap = array_cap

    def probe(self) -> tuple[Command, ...]:
        """Ask how long an array may be."""
        return (_command("scontrol", "show", "config"),)

    def fitted(self, answers: Sequence[Answer]) -> Slurm:
        """Indices have to be below MaxArraySize; `max_array_tasks` bounds their number."""
        (answer,) = answers
        size = _MAX_ARRAY_SIZE.search(printed(answer, "scontrol"))
        if size is None:
            raise NotUnderstood(f"scontrol does not say MaxArraySize: {answer.stdout[:200]!r}")
        tasks = _MAX_ARRAY_TASKS.search(answer.stdout)
        return Slurm(array_cap=array_cap([size[1], tasks[1]] if tasks else [size[1]]))

    def element(self, id_: str, index: int) -> str:
        """As squeue and sacct write it."""
        return f"{id_}_{index}"

    def array(self, id_: str) -> str:
        """Of `12_4`, `12`."""
        return id_.partition("_")[0]

    def installation(self) -> str:
        """Only how long an array may be."""
        return ""

    def check_options(self, options: Sequence[str]) -> None:
        """See Dialect."""
        slurm_order.options(options)

    def script(self, order: Order) -> str:
        """The job's steps (`srun`) get its environment, which `--export=NONE` would keep from them."""
        lines = "".join(f"#SBATCH {option}\n" for option in directives(order))
        return f"#!/bin/sh\n{lines}export SLURM_EXPORT_ENV=ALL\n{order.body}"

    def handed_in(self, path: str, order: Order) -> str:  # noqa: ARG002 - it is the script itself
        """See Dialect."""
        return self.script(order)

    def submit(self, path: str, order: Order) -> Command:  # noqa: ARG002 - all is said in the script
        """Hand in the script that lies at `path`."""
        return _command("sbatch", "--parsable", path)

    def submitted(self, answer: Answer) -> Submission:
        """An id that comes with an error is doubtful: the job is there or not, and its name will tell."""
        match = _SUBMITTED.fullmatch(answer.stdout.strip())
        if answer.exit_code == 0 and match is not None:
            return Submitted(match[1])
        if answer.exit_code in {None, 0} or answer.stdout.strip():
            return Doubtful(words(answer, "sbatch"))
        return _refusal(answer)

    def find(self, names: Sequence[str]) -> tuple[Command, ...]:
        """Look for all jobs of these names, ended ones too."""
        named = f"--name={','.join(names)}"
        return _queue(named, "--me", "--states=all"), _accounting(named, f"--starttime={_LOOK_BACK}")

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> Listing:
        """A submission that was refused for what it asks leaves a job of its name too, which never runs."""
        listing = self.seen(answers)
        return replace(listing, jobs=tuple(job for job in listing.jobs if job.name in names))

    def look(self, ids: Sequence[str]) -> tuple[Command, ...]:
        """The queue is asked for all jobs of the user, which costs the controller least, whatever their number.

        squeue has no use for ids here: with one unknown id it fails, and with several it asks for the whole queue.
        """
        return _queue("--me", "--states=all"), _accounting(f"--jobs={','.join(ids)}")

    def seen(self, answers: Sequence[Answer]) -> Listing:
        """Each run of a job is one standing: accounting has them all, the queue knows better about the last."""
        queue, accounting = answers
        live, is_whole_queue = slurm_listing.read_queue(queue)
        runs, is_whole_account = slurm_listing.read_accounting(accounting)
        reasons = [
            *([] if is_whole_queue else [why(queue, "squeue")]),
            *([] if is_whole_account else [why(accounting, "sacct")]),
        ]
        jobs = slurm_listing.merged(live, runs, is_queue_known=is_whole_queue)
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
        return _command("scontrol", "update", f"JobId={','.join(ids)}", f"Nice={nice(priority)}")

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
        return tuple(slurm_listing.partition(fields) for fields in slurm_listing.table(answer, 6))

    def nodes(self) -> Command:
        """List the machines, each once for every partition that it is in."""
        return _sinfo("--Node", "%N", "%R", "%T", "%C", "%m", "%G")

    def read_nodes(self, answer: Answer) -> tuple[Node, ...]:
        """One for each name."""
        nodes: dict[str, Node] = {}
        for fields in slurm_listing.table(answer, 6):
            node = slurm_listing.node(fields)
            known = nodes.get(node.name)
            # sinfo tells them in any order.
            partitions = {*node.partitions, *(known.partitions if known else ())}
            nodes[node.name] = replace(node, partitions=tuple(sorted(partitions)))
        return tuple(nodes.values())

    def everything(self) -> Command:
        """List all jobs of all users that have not ended."""
        return _queue(fields=(*QUEUE_FIELDS, *WHOSE_FIELDS))

    def read_everything(self, answer: Answer) -> Listing:
        """What came of `everything`."""
        live, is_whole = slurm_listing.read_queue(answer, (*QUEUE_FIELDS, *WHOSE_FIELDS))
        return Listing(tuple(live.values()), is_whole, "" if is_whole else why(answer, "squeue"))

    def version(self) -> Command:
        """Ask which scheduler this is."""
        return Command(("sbatch", "--version"))

    def read_version(self, answer: Answer) -> str | None:
        """Debian calls it `slurm-wlm 22.05.8`."""
        text = answer.stdout.strip()
        return text if answer.exit_code == 0 and re.fullmatch(r"slurm\S*\s+\d\S*", text) else None


def _command(program: str, *arguments: str) -> Command:
    return Command(("sh", "-c", _RUN, "sh", program, *arguments))


def _queue(*options: str, fields: Sequence[str] = QUEUE_FIELDS) -> Command:
    ends = [FIELD_END] * (len(fields) - 1) + [RECORD_END]
    columns = ",".join(f"{name}:{end}" for name, end in zip(fields, ends, strict=True))
    return _command("squeue", "--noheader", "--array", *options, f"--Format={columns}")


def _accounting(*options: str) -> Command:
    shape = ("--noheader", "--parsable2", f"--delimiter={FIELD_END}", "--noconvert", "--duplicates")
    return _command("sacct", *shape, *options, f"--format={','.join(ACCOUNT_FIELDS)}")


def _sinfo(option: str, *fields: str) -> Command:
    return _command("sinfo", "--noheader", option, f"--format={FIELD_END.join(fields)}")


def _refusal(answer: Answer) -> Submission:
    """`answer` is one of failure, without an id."""
    told = words(answer, "sbatch")
    failed = _FAILED.findall(answer.stderr)
    if not failed:
        if answer.exit_code == _NO_SUCH_PROGRAM:
            return Busy(told)
        return Refused(told) if _NOT_SENT.search(answer.stderr) else Doubtful(told)
    last = failed[-1].strip()
    if last.startswith(_POLICY):
        return (
            Busy(told, is_full=True, is_general=False)
            if _SUBMIT_LIMIT.search(answer.stderr)
            else Refused(told)
        )
    if last.startswith(_BUSY):
        return Busy(told, is_general=not last.startswith(_BUSY_FOR_SOME))
    return Refused(told) if last.startswith(_REFUSALS) else Doubtful(told)


def _compliance(line: str) -> Compliance:
    if any(text in line for text in _GONE):
        return Compliance.GONE
    return Compliance.REFUSED if any(text in line for text in _DENIED) else Compliance.DOUBTFUL
