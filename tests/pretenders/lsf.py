"""bsub and its kin as volclava 2.2 answers, or as IBM documents of LSF 10.1.

A minute of a time limit lasts a second here. Output files get the output alone, without LSF's report about the job.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tests.pretenders.cluster import ENDED, RUNNING, WAITING, Cluster, Job, answer, named

HOST = "vm"
QUEUES = ("normal", "onejob")  # of the second one jobs are taken, and not started
_MINUTE_S = 1.0
_IBM = "IBM Spectrum LSF Standard 10.1.0.12, Jun 10 2021\n"
_CLASSIC = "volclava project 2.2, Nov 21 2026\n"
_FLAGS = frozenset({"-H", "-x", "-B", "-N", "-rn"})
_PARAMETERS = """
System default queues for automatic queue selection:
    DEFAULT_QUEUE = normal

The maximum number of jobs in a job array.
    MAX_JOB_ARRAY_SIZE = 1000

Maximal job priority defined for all users:
    MAX_USER_PRIORITY = 100
The default job priority is: 50

"""
_USAGE = "Usage: bsub [-h] [-V] [-x] [-H] [-r] [-N] [-B] [-I | -K | -Ip | -Is]\n"
# Recorded of a submission that was taken.
_TIMED_OUT = "Failed in an LSF library call: Communication time out. Job not submitted.\n"
_CLOSED = " The queue is inactivated by the administrator;"
_HELD = " The job was suspended by the user while pending;"


def main(directory: str, kind: str, program: str, *arguments: str) -> None:
    """Be one of the programs; `kind` is `ibm` or `classic`."""
    # Each bkill begins with a sequence of its own (Platform Lava, which all are children of, sbd.sig.c: jobsig1).
    cluster = Cluster(
        Path(directory),
        (signal.SIGINT, signal.SIGTERM),
        at_limit=(signal.SIGUSR2,),
        is_anew=False,
        closed_queue="onejob",
    )
    if arguments == ("-V",):
        answer(0, stderr=_IBM) if kind == "ibm" else answer(0, _CLASSIC)
    if cluster.is_down:
        _be_down(program, arguments)
    _Batch(cluster, is_ibm=kind == "ibm").be(program, arguments)


def _be_down(program: str, arguments: Sequence[str]) -> None:
    """Recorded without daemons. Who does not limit its tries waits for ever."""
    while os.environ.get("LSB_NTRIES") != "1":
        sys.stderr.write("batch system daemon not responding ... still trying\n")
        sys.stderr.flush()
        time.sleep(10)
    if program == "bsub":
        answer(255, stderr="Connection refused by server. Job not submitted.\n")
    if program.startswith("bk") or program in ("bstop", "bresume"):
        answer(255, stderr="".join(f"Job <{id_}>: Connection refused by server\n" for id_ in arguments))
    answer(255, stderr="Connection refused by server\n")


class _Batch:
    def __init__(self, cluster: Cluster, *, is_ibm: bool) -> None:
        self._cluster = cluster
        self._is_ibm = is_ibm

    def be(self, program: str, arguments: Sequence[str]) -> None:
        match program:
            case "bsub":
                self._bsub(arguments)
            case "bjobs":
                self._bjobs(arguments)
            case "bhist":
                self._bhist(arguments)
            case "bkill":
                self._each(arguments, "terminated", lambda job: self._cluster.end(job, "owner"))
            case "bstop":
                self._each(arguments, "stopped", self._stop)
            case "bresume":
                self._each(arguments, "resumed", self._resume)
            case "bmod":
                self._bmod(*arguments)
            case "bparams":
                answer(0, _PARAMETERS)

    def _bsub(self, arguments: Sequence[str]) -> None:
        assert not arguments
        text = sys.stdin.buffer.read().decode(errors="surrogateescape")
        told = _directives(text)
        if "-rn" in told and not self._is_ibm:
            answer(255, stderr=_USAGE)
        queue = told.get("-q", QUEUES[0])
        if queue not in QUEUES:
            answer(255, stderr=f"{queue}: No such queue. Job not submitted.\n")
        self._cluster.swallow()
        number = self._take(text, told, queue)
        if self._cluster.stutters:
            self._take(text, told, queue)
            answer(255, stderr=_TIMED_OUT)
        which = f"queue <{queue}>" if "-q" in told else f"default queue <{queue}>"
        answer(0, f"Job <{number}> is submitted to {which}.\n")

    def _take(self, text: str, told: Mapping[str, str], queue: str) -> int:
        with self._cluster.jobs() as jobs:
            name, indices = _array(told["-J"])
            new = self._cluster.submit(
                jobs,
                text,
                indices,
                name=name,
                queue=queue,
                stdout=told["-o"],
                stderr=told["-e"],
                cwd=str(Path.cwd()),
                limit_s=_limit_s(told.get("-W")),
                is_held="-H" in told,
                asked={"-sp": told["-sp"]} if "-sp" in told else {},
            )
            for job in new:
                job.stdout, job.stderr = (
                    path.replace("%I", str(job.index)) for path in (job.stdout, job.stderr)
                )
                job.argv = ("/bin/sh", job.script)
                job.env = _environment(job, told["-J"])
            self._cluster.schedule(jobs)
        return new[0].number

    def _bjobs(self, arguments: Sequence[str]) -> None:
        asked = _Query(arguments, is_ibm=self._is_ibm)
        with self._cluster.jobs() as jobs:
            known = dict(jobs)
        found = [job for id_ in asked.ids for job in named(known, id_)]
        if not asked.ids:
            found = [job for job in known.values() if asked.is_all or job.state != ENDED]
        if asked.name is not None:
            found = [job for job in found if job.name == asked.name]
        missing = [id_ for id_ in asked.ids if not named(known, id_)]
        if not found and not missing:
            words = (
                f"Job <{asked.name}> is not found" if asked.name is not None else "No unfinished job found"
            )
            answer(254, stderr=f"{words}\n")
        code = 255 if missing else 0
        if asked.fields:
            answer(code, _records(asked.fields, found, missing))
        lines = (_row(job) + (_reason(job) if asked.has_reasons else "") for job in found)
        table = _HEADINGS + "".join(lines) if found else ""
        answer(code, table, "".join(f"Job <{id_}> is not found\n" for id_ in missing))

    def _bhist(self, arguments: Sequence[str]) -> None:
        name = arguments[arguments.index("-J") + 1]
        with self._cluster.jobs() as jobs:
            found = [job for job in jobs.values() if job.name == name]
        if not found:
            answer(255, "No matching job found\n")
        answer(0, _SUMMARY + "".join(map(_summary, found)) + "\n")

    def _each(self, ids: Iterable[str], done: str, act: Callable[[Job], None]) -> None:
        taken, errors = [], []
        with self._cluster.jobs() as jobs:
            for id_ in ids:
                meant = named(jobs, id_)
                live = [job for job in meant if job.state != ENDED]
                if not meant:
                    errors.append(f"Job <{id_}>: No matching job found\n")
                elif not live:
                    errors.append(f"Job <{id_}>: Job has already finished\n")
                else:
                    taken.append(f"Job <{id_}> is being {done}\n")
                for job in live:
                    act(job)
            self._cluster.schedule(jobs)
        answer(255 if errors else 0, "".join(taken), "".join(errors))

    def _bmod(self, option: str, number: str, id_: str) -> None:
        assert option == "-sp", option
        with self._cluster.jobs() as jobs:
            meant = named(jobs, id_)
            if not meant:
                answer(255, stderr="No matching job found. Job not modified.\n")
            if meant[0].state != WAITING:
                word = "finished" if meant[0].state == ENDED else "started"
                answer(255, stderr=f"Job has already {word}. Job not modified.\n")
            for job in meant:
                job.asked = {"-sp": number}
        answer(0, f"Parameters of job <{id_}> are being changed\n")

    def _stop(self, job: Job) -> None:
        if job.state == WAITING:
            job.is_held = True
        else:
            self._cluster.suspend(job, signal.SIGSTOP)

    def _resume(self, job: Job) -> None:
        job.is_held = False
        if job.state == RUNNING:
            self._cluster.suspend(job, signal.SIGCONT)


class _Query:
    """What is asked of bjobs, as a table or, by IBM's, as JSON of `fields`."""

    def __init__(self, arguments: Sequence[str], *, is_ibm: bool) -> None:
        words = list(arguments)
        self.name: str | None = None
        self.fields: Sequence[str] = ()
        self.ids: list[str] = []
        self.is_all = "-a" in words
        self.has_reasons = "-p" in words
        while words:
            word = words.pop(0)
            if word == "-o" and is_ibm:
                self.fields = words.pop(0).upper().split()
            elif word == "-J":
                self.name = words.pop(0)
            elif word not in ("-a", "-p", "-w", "-json"):
                self.ids.append(word)
        assert bool(self.fields) == ("-json" in arguments), arguments


def _directives(text: str) -> Mapping[str, str]:
    told: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("#BSUB "):
            option, *value = shlex.split(line.removeprefix("#BSUB "))
            assert bool(value) != (option in _FLAGS), line
            told[option] = "".join(value)
    return told


def _array(specification: str) -> tuple[str, Sequence[int] | None]:
    """The name and the indices: of `name[1-5]`."""
    match = re.fullmatch(r"(.*)\[1-(\d+)\]", specification)
    if match is None:
        return specification, None
    return match[1], range(1, int(match[2]) + 1)


def _environment(job: Job, specification: str) -> Mapping[str, str]:
    """All of the submitter, and what a job had in the recording."""
    return {
        **os.environ,
        "HOSTNAME": HOST,
        "HOSTTYPE": "linux",
        "LSB_ERRORFILE": job.stderr,
        "LSB_EXIT_PRE_ABORT": "99",
        "LSB_HOSTS": HOST,
        "LSB_JOBEXIT_STAT": "0",
        "LSB_JOBFILENAME": job.script,
        "LSB_JOBID": str(job.number),
        "LSB_JOBINDEX": str(job.index or 0),
        "LSB_JOBNAME": specification,
        "LSB_MCPU_HOSTS": f"{HOST} 1 ",
        "LSB_OUTPUTFILE": job.stdout,
        "LSB_QUEUE": job.queue,
        "LSB_SUB_HOST": HOST,
        "LSB_TRAPSIGS": "trap # 15 10 12 2 1",
        "LS_EXEC_T": "START",
        "LS_SUBCWD": job.cwd,
    }


def _limit_s(limit: str | None) -> float | None:
    if limit is None:
        return None
    hours, minutes = map(int, limit.split(":"))
    return (hours * 60 + minutes) * _MINUTE_S


def _shown(job: Job) -> str:
    return job.name if job.index is None else f"{job.name}[{job.index}]"


def _word(job: Job) -> str:
    if job.state == WAITING:
        return "PSUSP" if job.is_held else "PEND"
    if job.state == RUNNING:
        return "USUSP" if job.is_suspended else "RUN"
    return "DONE" if job.status == 0 else "EXIT"


def _code(job: Job) -> int:
    """128 and the signal if one ended the job."""
    if not job.status:
        return 0
    return 128 + os.WTERMSIG(job.status) if os.WIFSIGNALED(job.status) else os.WEXITSTATUS(job.status)


def _record(job: Job) -> Mapping[str, str]:
    """Values as IBM prints them: text, empty where there is nothing to say."""
    reasons = {
        "owner": "TERM_OWNER: job killed by owner",
        "limit": "TERM_RUNLIMIT: job killed after reaching LSF run time limit",
    }
    code = _code(job)
    return {
        "JOBID": str(job.number),
        "JOBINDEX": str(job.index or 0),
        "STAT": _word(job),
        "JOB_NAME": _shown(job),
        "EXEC_HOST": HOST if job.started_at is not None else "",
        "EXIT_CODE": str(code) if code else "",
        "EXIT_REASON": reasons.get(job.why, "") if job.state == ENDED else "",
        "PEND_REASON": _why(job),
        "CPU_USED": "0.0 second(s)",
        "MAX_MEM": "5 Mbytes" if job.started_at is not None else "",
    }


def _why(job: Job) -> str:
    if job.state != WAITING:
        return ""
    return _HELD if job.is_held else _CLOSED if job.queue == "onejob" else ""


def _reason(job: Job) -> str:
    """The line below a row; a table counts hosts in it."""
    return f"{_why(job).removesuffix(';')}: 1 host;\n" if _why(job) else ""


_HEADINGS = "JOBID   USER    STAT  QUEUE      FROM_HOST   EXEC_HOST   JOB_NAME   SUBMIT_TIME\n"
_SUMMARY = """\
Summary of time in seconds spent in various states:
JOBID   USER    JOB_NAME  PEND    PSUSP   RUN     USUSP   SSUSP   UNKWN   TOTAL
"""


def _records(fields: Sequence[str], found: Iterable[Job], missing: Iterable[str]) -> str:
    records = [{field: _record(job)[field] for field in fields} for job in found]
    records += [{"JOBID": id_, "ERROR": f"Job <{id_}> is not found"} for id_ in missing]
    shown = ", ".join(map(_json, records))
    return f'{{\n\t"COMMAND":\t"bjobs",\n\t"JOBS":\t{len(records)},\n\t"RECORDS":\t[{shown}]\n}}\n'


def _json(record: Mapping[str, str]) -> str:
    """With IBM's slashes."""
    facts = [f"\t\t\t{json.dumps(name)}:\t{json.dumps(value)}" for name, value in record.items()]
    return "{\n" + ",\n".join(facts).replace("/", "\\/") + "\n\t\t}"


def _row(job: Job) -> str:
    host = HOST if job.started_at is not None else "   -"
    at = time.strftime("%b %e %H:%M", time.localtime(job.submitted_at))
    start = f"{job.number:<7} {'lsfuser':<7} {_word(job):<5} {job.queue:<10} {HOST:<11} {host:<11}"
    return f"{start} {_shown(job):<10} {at}\n"


def _summary(job: Job) -> str:
    return f"{job.key:<7} {'lsfuser':<7} {_shown(job):<9} " + "0       " * 6 + "0         \n"
