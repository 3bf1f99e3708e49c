"""LSF: IBM Spectrum LSF 10.1 as documented; its relatives OpenLava and volclava as volclava 2.2 was recorded.

bsub copies the environment that it is run in, so it is run with a few variables only; a job has these and LSB_*, LSF_*.
`-env none` would do the same, but is misread by the relatives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import assert_never

from jobmgr.dialects import lsf_listing, lsf_order
from jobmgr.dialects.answers import array_cap, said, together, words
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
from jobmgr.dialects.lsf_order import Variant, directives
from jobmgr.dialects.quoting import bare_environment, word
from jobmgr.errors import InvalidRequest

_SUBMITTED = re.compile(r"Job <(\d+)> is submitted to")
_BUSY = re.compile(r"LIM is down|Connection refused")
_FULL = re.compile(r"Pending job threshold reached")
_LOST = re.compile(r"LSF library call|timed? ?out|not responding|cannot connect|system call", re.IGNORECASE)
_PLAIN = re.compile(r"Job not submitted|Request aborted by esub|^Usage: bsub", re.MULTILINE)

_TAKEN = re.compile(r"is being (?:terminated|signaled|stopped|resumed)")
_CHANGED = re.compile(r"^Parameters of job <.*> are being changed")
_GONE = re.compile(r"Job has already finished|No matching job found|is not found")
# bmod says "Job not modified" also behind that it did not get through.
_UNWILLING = re.compile(
    r"permission denied|Illegal|not permitted|already started|priority control undefined|Bad user priority"
    r"|Only the following parameters|Cannot operate on",
    re.IGNORECASE,
)

_DEFAULT_QUEUE = re.compile(r"^\s*DEFAULT_QUEUE\s*=\s*(\S+)", re.MULTILINE)
_TOP_PRIORITY = re.compile(r"^\s*MAX_USER_PRIORITY\s*=\s*(\d{1,10})\b", re.MULTILINE)
_ARRAY_CAP = re.compile(r"^\s*MAX_JOB_ARRAY_SIZE\s*=\s*(\S+)", re.MULTILINE)
# Unless the cluster says otherwise. Source: lsb.params(5), "MAX_JOB_ARRAY_SIZE".
_MAX_ARRAY_SIZE = 1000
_VERSION = re.compile(
    r"^(?:IBM (?:Spectrum|Platform) LSF|Platform LSF|volclava|openlava)[^,\n]*", re.MULTILINE | re.I
)
_IBM_VERSION = re.compile(r"IBM Spectrum LSF.*?\b1\d\.")

# Where LSF is found, and who asks; nothing of what the submitter is doing.
_KEPT = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG",
    "LSF_ENVDIR", "LSF_SERVERDIR", "LSF_BINDIR", "LSF_LIBDIR",
)  # fmt: skip
# bsub reads options from every line of the script, not only from those at its beginning.
_DIRECTIVE = re.compile(r"^\s*#\s*[BQ]SUB", re.MULTILINE)


class Lsf:
    """LSF's language. Arrays that are larger than the cap, MAX_JOB_ARRAY_SIZE of bparams, are taken for plain jobs.

    `top_priority`: MAX_USER_PRIORITY of bparams; None where jobs of users have no priorities, which is LSF's default.
    """

    name = "lsf"
    # The number of a job, for an element of an array with its index: as they are listed.
    id_word = '"$LSB_JOBID$([ "${LSB_JOBINDEX:-0}" -eq 0 ] || echo "[$LSB_JOBINDEX]")"'
    restarts_word = ""  # a job does not learn how often it was requeued
    index_word = "$((LSB_JOBINDEX - 1))"  # arrays begin at 1
    directory_variable = "LS_SUBCWD"

    def __init__(
        self,
        variant: Variant = Variant.IBM,
        *,
        array_cap: int | None = _MAX_ARRAY_SIZE,
        top_priority: int | None = None,
    ) -> None:
        self.variant = variant
        self.array_cap = array_cap
        self.top_priority = top_priority

    def probe(self) -> tuple[Command, ...]:
        """See Dialect."""
        return self.version(), _query("bparams", "-l")

    def fitted(self, answers: Sequence[Answer]) -> Lsf:
        """See Dialect."""
        version, parameters = answers
        known = self.read_version(version)
        if known is None:
            _insist(version, has_rows=False)
        cap, top = (pattern.search(parameters.stdout) for pattern in (_ARRAY_CAP, _TOP_PRIORITY))
        _insist(parameters, has_rows=_DEFAULT_QUEUE.search(parameters.stdout) is not None)
        return Lsf(
            Variant.IBM if _IBM_VERSION.search(known or "") is not None else Variant.CLASSIC,
            array_cap=array_cap([cap[1]]) if cap is not None else _MAX_ARRAY_SIZE,
            top_priority=int(top[1]) if top is not None else None,
        )

    def element(self, id_: str, index: int) -> str:
        """See Dialect. LSF counts from 1."""
        return f"{id_}[{index + 1}]"

    def array(self, id_: str) -> str:
        """See Dialect. Of `77[5]`, `77`."""
        return id_.partition("[")[0]

    def installation(self) -> str:
        """See Dialect."""
        options = "IBM's options" if self.variant is Variant.IBM else "classic options only"
        return options if self.top_priority is None else f"{options}, priorities up to {self.top_priority}"

    def check_options(self, options: Sequence[str]) -> None:
        """See Dialect. Classic ones take fewer than IBM's, which is known only there."""
        lsf_order.options(options, self.variant)

    def script(self, order: Order) -> str:
        """See Dialect. In a working directory that is missing LSF would run the job in another one."""
        said = directives(order, self.variant, self.array_cap or 0, self.top_priority)
        lines = "".join(f"#BSUB {line}\n" for line in said)
        body = f"unset LSB_NTRIES\ncd -- {word(order.cwd)} || exit 1\n{order.body}"
        if _DIRECTIVE.search(body) is not None:
            raise InvalidRequest(
                "command",
                "a line of the script (of command, env or setup) begins with #BSUB, which LSF would obey",
            )
        return f"#!/bin/sh\n{lines}{body}"

    def handed_in(self, path: str, order: Order) -> str:  # noqa: ARG002 - it is the script itself
        """See Dialect."""
        return self.script(order)

    def submit(self, path: str, order: Order) -> Command:  # noqa: ARG002 - all is in the script
        """See Dialect. With more than one try bsub sends the job again when an answer is late: one became five."""
        return Command(("sh", "-c", f'{bare_environment(_KEPT)} LSB_NTRIES=1 bsub < "$1"', "bsub", path))

    def submitted(self, answer: Answer) -> Submission:
        """See Dialect. Who tried again may have submitted more than the one job whose id is printed."""
        heard, told = said(answer), words(answer, "bsub")
        numbers = _SUBMITTED.findall(heard)
        has_retried = lsf_listing.NOISE.search(heard) is not None
        if answer.exit_code == 0 and len(numbers) == 1 and not has_retried:
            return Submitted(numbers[0])
        if answer.exit_code is None or numbers or has_retried:
            return Doubtful(told)
        if _FULL.search(heard) is not None:
            return Busy(told, is_full=True, is_general=False)
        if _BUSY.search(heard) is not None:
            return Busy(told)
        is_plain = _PLAIN.search(heard) is not None and _LOST.search(heard) is None
        return Refused(told) if is_plain else Doubtful(told)

    def find(self, names: Sequence[str]) -> tuple[Command, ...]:
        """See Dialect. bjobs forgets ended jobs after CLEAN_PERIOD, an hour by default; bhist does not.

        Each takes one name.
        """
        present = [self._bjobs("-a", "-J", name) for name in names]
        return (*present, *(_query("bhist", "-a", "-w", "-n", "0", "-J", name) for name in names))

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> Listing:
        """See Dialect. With LSB_QUERY_PORT bjobs may be 5 s behind, so an empty listing counts after that time only."""
        now = together([self._read(answer) for answer in answers[: len(names)]])
        then = together([lsf_listing.past(answer) for answer in answers[len(names) :]])
        known = {job.id for job in now.jobs}
        jobs = now.jobs + tuple(job for job in then.jobs if job.id not in known)
        return Listing(
            tuple(job for job in jobs if job.name in names),
            complete=now.complete and then.complete,
            has_queue=now.complete,
            why=now.why or then.why,
        )

    def look(self, ids: Sequence[str]) -> tuple[Command, ...]:
        """See Dialect. Who is unknown may have been forgotten (CLEAN_PERIOD). Classic tables leave reasons out."""
        listing = self._bjobs("-a", *ids)
        return (listing,) if self.variant is Variant.IBM else (listing, self._bjobs("-p", *ids))

    def seen(self, answers: Sequence[Answer]) -> Listing:
        """See Dialect. No state is final: an operator's brequeue turns EXIT and DONE into PEND and RUN again."""
        listing, *reasons = (self._read(answers[0]), *answers[1:])
        return lsf_listing.with_reasons(listing, reasons)

    def ask(self, wish: Wish, ids: Sequence[str]) -> Command | None:
        """See Dialect. bstop holds who waits and suspends who runs."""
        match wish:
            case Wish.CANCEL:
                return _query("bkill", *ids)
            case Wish.HOLD | Wish.SUSPEND:
                return _query("bstop", *ids)
            case Wish.RELEASE | Wish.RESUME:
                return _query("bresume", *ids)
            case _ as never:
                assert_never(never)

    def prioritise(self, priority: int, ids: Sequence[str]) -> Command | None:
        """See Dialect. bmod takes one job."""
        if self.top_priority is None:
            return None
        number = lsf_order.user_priority(priority, self.top_priority)
        return _query("sh", "-c", 'for id; do bmod -sp "$0" "$id"; done', str(number), *ids)

    def complied(self, answer: Answer) -> Compliance:
        """See Dialect. Of several jobs the least certain counts; one that is gone hinders nothing."""
        lines = f"{answer.stdout}\n{answer.stderr}".splitlines()
        each = {
            _compliance(line) for line in lines if line.strip() and lsf_listing.NOISE.search(line) is None
        }
        order = (Compliance.DOUBTFUL, Compliance.REFUSED, Compliance.DONE, Compliance.GONE)
        return next((compliance for compliance in order if compliance in each), Compliance.DOUBTFUL)

    def partitions(self) -> Command:
        """See Dialect. Only bparams tells which queue is the default one."""
        return _query("sh", "-c", "bqueues -w && bparams -l")

    def read_partitions(self, answer: Answer) -> tuple[Partition, ...]:
        """See Dialect."""
        default = _DEFAULT_QUEUE.search(answer.stdout)
        rows = list(lsf_listing.rows(answer.stdout, lsf_listing.QUEUE_HEADINGS))
        _insist(answer, has_rows=bool(rows))
        return tuple(lsf_listing.partition(row, default[1] if default else None) for row in rows)

    def nodes(self) -> Command:
        """See Dialect. Only lshosts tells their memory; a table ends at an empty line."""
        return _query("sh", "-c", "bhosts -w && echo && lshosts -w")

    def read_nodes(self, answer: Answer) -> tuple[Node, ...]:
        """See Dialect."""
        rows = list(lsf_listing.rows(answer.stdout, lsf_listing.HOST_HEADINGS))
        _insist(answer, has_rows=bool(rows))
        machines = lsf_listing.rows(answer.stdout, lsf_listing.MEMORY_HEADINGS)
        memory = {row["HOST_NAME"]: row["maxmem"] for row in machines}
        return tuple(lsf_listing.node(row, memory.get(row["HOST_NAME"], "")) for row in rows)

    def everything(self) -> Command:
        """See Dialect."""
        return self._bjobs("-u", "all", fields=f"{lsf_listing.FIELDS} {lsf_listing.WHOSE_FIELDS}")

    def read_everything(self, answer: Answer) -> Listing:
        """See Dialect."""
        return self._read(answer)

    def version(self) -> Command:
        """See Dialect."""
        return Command(("bjobs", "-V"))

    def read_version(self, answer: Answer) -> str | None:
        """See Dialect. IBM's is printed on stderr."""
        match = _VERSION.search(f"{answer.stdout}\n{answer.stderr}")
        return match[0].strip() if match is not None else None

    def _bjobs(self, *arguments: str, fields: str = lsf_listing.FIELDS) -> Command:
        form = ("-o", fields, "-json") if self.variant is Variant.IBM else ("-w",)
        return _query("bjobs", *form, *arguments)

    def _read(self, answer: Answer) -> Listing:
        return lsf_listing.records(answer) if self.variant is Variant.IBM else lsf_listing.table(answer)


def _query(*argv: str) -> Command:
    """Without LSB_NTRIES it would wait for ever while LSF is down."""
    return Command(("env", "LC_ALL=C", "LSB_NTRIES=1", *argv))


def _compliance(line: str) -> Compliance:
    if _TAKEN.search(line) is not None or _CHANGED.search(line) is not None:
        return Compliance.DONE
    if _GONE.search(line) is not None:
        return Compliance.GONE
    return Compliance.REFUSED if _UNWILLING.search(line) is not None else Compliance.DOUBTFUL


def _insist(answer: Answer, *, has_rows: bool) -> None:
    if not has_rows or answer.exit_code is None:
        raise NotUnderstood(words(answer, "LSF"))
