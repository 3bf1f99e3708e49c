"""PBS: OpenPBS 23.06, and the Torque flavour of commands that SLURM 22.05 brings along (`slurm-wlm-torque`).

OpenPBS hands PBS_O_* to a job and nothing else of the submitter's environment: a job has what its owner's login shell
sets up, and PBS_*. Behind the Torque flavour is sbatch, which copies all: there qsub is run with a bare environment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import assert_never

from jobmgr.dialects import pbs_listing, pbs_order
from jobmgr.dialects.answers import array_cap, printed, said, together, why, words
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
    Phase,
    Refused,
    Standing,
    Submission,
    Submitted,
    Wish,
)
from jobmgr.dialects.pbs_order import directives, rank, torque_options
from jobmgr.dialects.quoting import bare_environment, word


class Flavour(StrEnum):
    """Whose commands they are."""

    OPENPBS = "openpbs"
    TORQUE = "torque"


# Exit codes are PBS's error numbers, of which a program can return 8 bits. Source: OpenPBS 23.06, pbs_error.h; most
# were seen. They count and texts do not, of which qsub without -f repeats those of earlier submissions.
_REFUSED = frozenset({
    2,  # options; name too long
    15107 & 255,  # array too large
    15109 & 255,  # -l with select
    15002 & 255,  # unknown attribute
    15007 & 255,  # unauthorized
    15014 & 255,  # bad value
    15018 & 255,  # unknown queue
    15021 & 255,  # queue not enabled
    15022 & 255,  # queue not for this user
    15023 & 255,  # bad user
    15035 & 255,  # unknown resource
    15036 & 255,  # more than the queue's limits
})  # fmt: skip
_TOO_MANY = frozenset({15142 & 255, 15143 & 255})  # jobs or resources of this user
_UNKNOWN_JOB, _HAS_FINISHED = 15001 & 255, 15139 & 255
# Unauthorized, unknown signal, wrong state of the job.
_UNWILLING = frozenset({15007 & 255, 15013 & 255, 15016 & 255})

# The server's host is unknown; any failure of the system, also one of reaching the server, which only the text tells.
_NO_SERVER = frozenset({15008 & 255, 15010 & 255})
_NEVER_SENT = re.compile(r"cannot connect to server|Unknown Host", re.IGNORECASE)
_ID = re.compile(r"\d+(?:\[\d*\])?(?:\.[A-Za-z0-9._-]+)?")
_ELEMENT = re.compile(r"\[\d+\]")
_MISSING = re.compile(r"qstat: Unknown Job Id \S+|qstat: \S+ Job has finished, use -x or -H .*")
_SBATCH_REFUSED = re.compile(
    r"Batch job submission failed: (?:Invalid|Requested|More|User's group|Job violates)"
)
_SBATCH_BUSY = re.compile(r"submission failed: (?:Unable to contact|Slurm temporarily unable)")

_MAX_ARRAY_SIZE = 10000  # unless the server says otherwise. Source: OpenPBS 23.06, "max_array_size"
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "SLURM_CONF")


class Pbs:
    """PBS's language.

    Without `keeps_history` the server forgets a job when it ends (`job_history_enable` in `qstat -Bf`), and
    `qstat -x` answers nothing at all; then nobody who is missing is absent.
    """

    name = "pbs"
    restarts_word = ""  # a job does not learn how often it was started
    index_word = "$PBS_ARRAY_INDEX"
    directory_variable = "PBS_O_WORKDIR"

    def __init__(
        self,
        flavour: Flavour = Flavour.OPENPBS,
        *,
        keeps_history: bool = True,
        array_cap: int | None = _MAX_ARRAY_SIZE,
    ) -> None:
        self.flavour = flavour
        self.array_cap = array_cap if flavour is Flavour.OPENPBS else None
        # Jobs handed in by the wrapper of SLURM have no PBS_* of their own.
        self.id_word = "$PBS_JOBID" if flavour is Flavour.OPENPBS else "${PBS_JOBID:-$SLURM_JOB_ID}"
        self.keeps_history = keeps_history

    def probe(self) -> tuple[Command, ...]:
        """See Dialect. The server tells what it keeps and allows."""
        return self.version(), _listing("qstat", "-B", "-f")

    def fitted(self, answers: Sequence[Answer]) -> Pbs:
        """See Dialect."""
        version, server = answers
        known = self.read_version(version)
        if known is None:
            raise NotUnderstood(why(version, "qsub --version"))
        if known.startswith("Torque"):
            return Pbs(Flavour.TORQUE, keeps_history=False)
        told = pbs_listing.blocks(printed(server, "qstat"), pbs_listing.QUEUE)
        facts = next((block.facts for block in told), {})
        return Pbs(
            keeps_history=facts.get("job_history_enable") == "True",
            array_cap=array_cap([facts.get("max_array_size", str(_MAX_ARRAY_SIZE))]),
        )

    def element(self, id_: str, index: int) -> str:
        """See Dialect. Of `65[].server`, `65[4].server`."""
        return id_.replace("[]", f"[{index}]", 1)

    def array(self, id_: str) -> str:
        """See Dialect. Of `65[4].server`, `65[].server`."""
        return _ELEMENT.sub("[]", id_, count=1)

    def installation(self) -> str:
        """See Dialect."""
        return "keeps history" if self.keeps_history else "keeps no history"

    def check_options(self, options: Sequence[str]) -> None:
        """See Dialect. The Torque flavour takes none, which is known only there."""
        pbs_order.options(options)

    def script(self, order: Order) -> str:
        """See Dialect. `cd` ends the lines in which qsub looks for directives; PBS starts in the home directory."""
        match self.flavour:
            case Flavour.OPENPBS:
                lines = "".join(f"#PBS {line}\n" for line in directives(order))
            case Flavour.TORQUE:
                torque_options(order)
                lines = ""
            case _ as never:
                assert_never(never)
        return f"#!/bin/sh\n{lines}cd -- {word(order.cwd)} || exit 1\n{order.body}"

    def handed_in(self, path: str, order: Order) -> str:  # noqa: ARG002 - it is the script itself
        """See Dialect."""
        return self.script(order)

    def submit(self, path: str, order: Order) -> Command:
        """See Dialect. `-f`: else qsub leaves a process behind which may hand in the job after qsub was killed."""
        if self.flavour is Flavour.OPENPBS:
            return Command(("qsub", "-f", path))
        # sbatch would take directives from the script, but the wrapper's own options for output go before them.
        return Command(
            ("sh", "-c", f'{bare_environment(_KEPT)} qsub "$@"', "qsub", *torque_options(order), path)
        )

    def submitted(self, answer: Answer) -> Submission:
        """See Dialect. What qsub says is the reason only; the exit code decides."""
        told = words(answer, "qsub")
        if answer.exit_code == 0:
            lines = answer.stdout.split()
            is_id = len(lines) == 1 and _ID.fullmatch(lines[0]) is not None
            return Submitted(lines[0]) if is_id else Doubtful(told)
        if answer.exit_code is None:
            return Doubtful(told)
        if self.flavour is Flavour.TORQUE:
            return _torque_submission(answer)
        if answer.exit_code in _REFUSED:
            return Refused(told)
        if answer.exit_code in _TOO_MANY:
            return Busy(told, is_full=True, is_general=False)
        is_unsent = answer.exit_code in _NO_SERVER and _NEVER_SENT.search(answer.stderr) is not None
        return Busy(told) if is_unsent else Doubtful(told)

    def find(self, names: Sequence[str]) -> tuple[Command, ...]:
        """See Dialect. qselect takes one whole name, and answers ids alone."""
        if self.flavour is Flavour.TORQUE:
            return (_listing("qstat", "-f"),)
        return tuple(_listing("qselect", *self._history(), "-N", name) for name in names)

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> Listing:
        """See Dialect. Jobs of OpenPBS are of unknown phase: their ids are to be looked at."""
        if self.flavour is Flavour.TORQUE:
            listing = self.seen(answers)
            return replace(listing, jobs=tuple(job for job in listing.jobs if job.name in names))
        return together([self._selected(name, answer) for name, answer in zip(names, answers, strict=True)])

    def _selected(self, name: str, answer: Answer) -> Listing:
        lines = answer.stdout.split()
        jobs = tuple(
            Standing(line, name, Phase.UNKNOWN, "") for line in lines if _ID.fullmatch(line) is not None
        )
        if answer.exit_code != 0 or answer.stderr.strip():
            return Listing(jobs, complete=False, why=why(answer, "qselect"))
        if len(jobs) < len(lines):
            return Listing(jobs, complete=False, why=f"qselect printed what is no id: {answer.stdout[:200]}")
        return self._listed(jobs)

    def look(self, ids: Sequence[str]) -> tuple[Command, ...]:
        """See Dialect. An array is shown with its elements."""
        arrays = ("-t",) if any(each.partition(".")[0].endswith("[]") for each in ids) else ()
        return (_listing("qstat", *self._history(), *arrays, "-f", *ids),)

    def seen(self, answers: Sequence[Answer]) -> Listing:
        """See Dialect. The exit code is that of any of the jobs; who is unknown is told on stderr."""
        (answer,) = answers
        is_torque = self.flavour is Flavour.TORQUE
        blocks = pbs_listing.blocks(answer.stdout, pbs_listing.JOB, "\t" if is_torque else "    ")
        jobs = tuple(pbs_listing.standing(block, is_torque=is_torque) for block in blocks)
        strange = [line for line in answer.stderr.splitlines() if line and _MISSING.fullmatch(line) is None]
        if strange or answer.exit_code not in (0, _UNKNOWN_JOB, _HAS_FINISHED):
            return Listing(jobs, complete=False, why=why(answer, "qstat"))
        return self._listed(jobs)

    def ask(self, wish: Wish, ids: Sequence[str]) -> Command | None:
        """See Dialect. Suspending needs an operator's rights; others are told so."""
        is_torque = self.flavour is Flavour.TORQUE
        match wish:
            case Wish.CANCEL:
                return Command(("qdel", *ids))
            case Wish.HOLD:
                return Command(("qhold", *ids))
            case Wish.RELEASE:
                return Command(("qrls", *ids))
            case Wish.SUSPEND:
                return None if is_torque else Command(("qsig", "-s", "suspend", *ids))
            case Wish.RESUME:
                return None if is_torque else Command(("qsig", "-s", "resume", *ids))
            case _ as never:
                assert_never(never)

    def prioritise(self, priority: int, ids: Sequence[str]) -> Command | None:
        """See Dialect. PBS knows -1024 to 1023. Source: qalter(1B), -p."""
        if self.flavour is Flavour.TORQUE:
            return None
        return Command(("qalter", "-p", str(rank(priority)), *ids))

    def complied(self, answer: Answer) -> Compliance:
        """See Dialect. The exit code is that of one of the jobs asked about, and which is not told."""
        match answer.exit_code:
            case 0:
                return Compliance.DONE
            case code if self.flavour is Flavour.OPENPBS and code in (_UNKNOWN_JOB, _HAS_FINISHED):
                return Compliance.GONE
            case code if self.flavour is Flavour.OPENPBS and code in _UNWILLING:
                return Compliance.REFUSED
            case _:
                return Compliance.DOUBTFUL

    def partitions(self) -> Command:
        """See Dialect. Only the server tells which queue is the default one."""
        if self.flavour is Flavour.TORQUE:
            return _listing("qstat", "-f", "-Q")
        return _listing("sh", "-c", "qstat -B -f && qstat -Q -f")

    def read_partitions(self, answer: Answer) -> tuple[Partition, ...]:
        """See Dialect."""
        indent = "\t" if self.flavour is Flavour.TORQUE else "    "
        blocks = list(pbs_listing.blocks(printed(answer, "qstat"), pbs_listing.QUEUE, indent))
        default = next((block.facts.get("default_queue") for block in blocks if block.kind == "Server"), None)
        return tuple(pbs_listing.partition(block, default) for block in blocks if block.kind == "Queue")

    def nodes(self) -> Command:
        """See Dialect."""
        return _listing("pbsnodes", "-a")

    def read_nodes(self, answer: Answer) -> tuple[Node, ...]:
        """See Dialect."""
        blocks = pbs_listing.blocks(printed(answer, "pbsnodes"), pbs_listing.NODE)
        return tuple(map(pbs_listing.node, blocks))

    def everything(self) -> Command:
        """See Dialect."""
        return _listing("qstat", "-f")

    def read_everything(self, answer: Answer) -> Listing:
        """See Dialect. Complete without history too: only jobs that have not ended are asked for."""
        listing = self.seen([answer])
        is_whole = answer.exit_code == 0 and not answer.stderr.strip()
        return Listing(listing.jobs, complete=is_whole, why="" if is_whole else why(answer, "qstat"))

    def version(self) -> Command:
        """See Dialect."""
        return Command(("qsub", "--version"))

    def read_version(self, answer: Answer) -> str | None:
        """See Dialect. The wrapper for SLURM is known by its not knowing the option."""
        told = said(answer)
        if (openpbs := re.search(r"pbs_version = (\S+)", told)) is not None:
            return f"PBS {openpbs[1]}"
        if (torque := re.search(r"^Version: (\S+)", told, re.MULTILINE)) is not None:
            return f"Torque {torque[1]}"
        return "Torque commands of SLURM" if "Unknown option: version" in told and "qsub" in told else None

    def _history(self) -> tuple[str, ...]:
        return ("-x",) if self.keeps_history and self.flavour is Flavour.OPENPBS else ()

    def _listed(self, jobs: tuple[Standing, ...]) -> Listing:
        if self._history():
            return Listing(jobs, complete=True)
        return Listing(
            jobs,
            complete=False,
            why="PBS keeps no history here: a job that has ended is not listed",
            has_queue=True,
        )


def _listing(*argv: str) -> Command:
    """Times are printed without their zone, so they are asked for in UTC."""
    return Command(("env", "LC_ALL=C", "TZ=UTC0", *argv))


def _torque_submission(answer: Answer) -> Submission:
    """The wrapper prints what sbatch said, after its own words."""
    told = words(answer, "qsub")
    if _SBATCH_REFUSED.search(said(answer)) is not None or answer.exit_code == 2:
        return Refused(told)
    return Busy(told) if _SBATCH_BUSY.search(said(answer)) is not None else Doubtful(told)
