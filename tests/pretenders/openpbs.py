"""qsub and its kin as OpenPBS 23.06.06 answers them to an operator."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tests.pretenders.cluster import ENDED, RUNNING, WAITING, Cluster, Job, Jobs, answer, named

HOST = "pbsvm"
QUEUES = ("workq", "stopq")  # of the second one jobs are taken, and not started
_RESOURCES = frozenset({"select", "place", "walltime", "ncpus", "mem", "ngpus"})
_UNKNOWN, _FINISHED, _WRONG_STATE = 153, 35, 168
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
# Recorded with the server stopped.
_DOWN = {
    "qdel": (162, "Connection refused\nCouldn't connect to cluster: pbsvm\n"),
    "qstat": (255, "Connection refused\nqstat: cannot connect to server pbsvm (errno=15010)\n"),
}
_SERVER = """\
Server: pbsvm
    server_state = Active
    server_host = pbsvm
    scheduling = True
    total_jobs = 89
    state_count = Transit:0 Queued:0 Held:0 Waiting:0 Running:0 Exiting:0 Begun
\t:0{blank}
    default_queue = workq
    max_array_size = 10000
    pbs_version = 23.06.06
    job_history_enable = {history}

"""


def main(directory: str, kind: str, program: str, *arguments: str) -> None:
    """Be one of the programs. `kind` is `history` if the server is to remember jobs that have ended."""
    # Each qdel sends TERM and counts `kill_delay` anew (OpenPBS, resmom/requests.c: terminate_job).
    cluster = Cluster(Path(directory), (signal.SIGTERM,), is_anew=True, closed_queue="stopq")
    if program == "qsub" and arguments == ("--version",):
        answer(0, "pbs_version = 23.06.06\n")
    if cluster.is_down:
        refused = f"Connection refused\n{program}: cannot connect to server pbsvm (errno=15010)\n"
        code, words = _DOWN.get(program, (162, refused))
        answer(code, stderr=words)
    _Server(cluster, has_history=kind == "history").be(program, arguments)


class _Server:
    def __init__(self, cluster: Cluster, *, has_history: bool) -> None:
        self._cluster = cluster
        self._has_history = has_history

    def be(self, program: str, arguments: Sequence[str]) -> None:
        match program:
            case "qsub":
                self._qsub(arguments)
            case "qselect":
                self._qselect(arguments)
            case "qstat":
                self._qstat(arguments)
            case "qdel":
                self._each(program, arguments, self._delete)
            case "qhold":
                self._each(program, arguments, self._hold)
            case "qrls":
                self._each(program, arguments, self._release)
            case "qsig":
                assert arguments[0] == "-s"
                self._each(program, arguments[2:], lambda job: self._signal(job, arguments[1]))
            case "qalter":
                assert arguments[0] == "-p"
                self._each(program, arguments[2:], lambda _job: False)
            case "qmove":
                self._each(program, arguments[1:], lambda job: self._move(job, arguments[0]))

    def _qsub(self, arguments: Sequence[str]) -> None:
        flag, path = arguments
        assert flag == "-f"
        text = Path(path).read_text(errors="surrogateescape")
        told = _directives(text)
        queue = told.get("-q", QUEUES[0])
        if queue not in QUEUES:
            answer(170, stderr="qsub: Unknown queue\n")
        for name in told:
            if name.startswith("-l ") and name.removeprefix("-l ") not in _RESOURCES:
                answer(187, stderr=f"qsub: Unknown resource Resource_List.{name.removeprefix('-l ')}\n")
        home = self._cluster.directory / "home"
        home.mkdir(exist_ok=True)
        self._cluster.swallow()
        id_ = self._take(text, told, queue, home)
        if self._cluster.stutters:
            self._take(text, told, queue, home)
            os.kill(os.getpid(), signal.SIGKILL)
        answer(0, f"{id_}\n")

    def _take(self, text: str, told: Mapping[str, str], queue: str, home: Path) -> str:
        with self._cluster.jobs() as jobs:
            indices = _array(told.get("-J"))
            new = self._cluster.submit(
                jobs,
                text,
                indices,
                name=told["-N"],
                queue=queue,
                stdout=told["-o"],
                stderr=told["-e"],
                argv=("-sh",),
                cwd=str(home),
                asked={name.removeprefix("-l "): value for name, value in told.items() if name[:3] == "-l "},
                limit_s=_clock_s(told.get("-l walltime")),
                is_held="-h" in told,
            )
            for job in new:
                job.stdout, job.stderr = (
                    path.replace("^array_index^", str(job.index)) for path in (job.stdout, job.stderr)
                )
                # A login shell reads the name of the script and runs it as its child.
                job.stdin = f"{job.script}\n"
                job.env = _environment(job, home)
            self._cluster.schedule(jobs)
        return _parent_id(new[0])

    def _qselect(self, arguments: Sequence[str]) -> None:
        words = list(arguments)
        if "-x" in words and not self._has_history:
            answer(0, stderr="qselect: PBS is not configured to maintain job history\n")
        name = words[words.index("-N") + 1]
        with self._cluster.jobs() as jobs:
            found = [job for job in jobs.values() if job.name == name]
        shown = [_parent_id(job) for job in found if "-x" in words or job.state != ENDED]
        answer(0, "".join(f"{id_}\n" for id_ in dict.fromkeys(shown)))

    def _qstat(self, arguments: Sequence[str]) -> None:
        if arguments == ("-B", "-f"):
            answer(0, _SERVER.format(history=self._has_history, blank=" "))
        ids = [word for word in arguments if not word.startswith("-")]
        with self._cluster.jobs() as jobs:
            known = dict(jobs)
        if "-x" in arguments and not self._has_history:
            said = [f"qstat: PBS is not configured to maintain job history {id_}\n" for id_ in ids]
            answer(0, stderr="".join(said))
        shown, errors, code = [], [], 0
        live = dict.fromkeys(_parent_id(job) for job in known.values() if job.state != ENDED)
        for id_ in ids or live:
            meant = named(known, _key(id_))
            if self._is_unknown(meant):
                code = _UNKNOWN
                errors.append(f"qstat: Unknown Job Id {id_}\n")
            elif _have_ended(meant) and "-x" not in arguments:
                code = _FINISHED
                errors.append(
                    f"qstat: {id_} Job has finished, use -x or -H to obtain historical job information\n"
                )
            else:
                shown += [_full_array(meant)] if "[]" in id_ else []
                shown += [_full(job, known) for job in meant if "[]" not in id_ or "-t" in arguments]
        answer(code, "".join(shown), "".join(errors))

    def _is_unknown(self, meant: Sequence[Job]) -> bool:
        return not meant or (_have_ended(meant) and not self._has_history)

    def _each(self, program: str, ids: Iterable[str], act: Callable[[Job], bool]) -> None:
        """Act on each job; the code is that of the last one that could not be served."""
        code, errors = 0, []
        with self._cluster.jobs() as jobs:
            for id_ in ids:
                meant = named(jobs, _key(id_))
                if self._is_unknown(meant):
                    code = _UNKNOWN
                    errors.append(f"{program}: Unknown Job Id {id_}\n")
                elif _have_ended(meant):
                    code = _FINISHED
                    errors.append(f"{program}: Job has finished{f' {id_}' if program == 'qdel' else ''}\n")
                elif True in list(map(act, (job for job in meant if job.state != ENDED))):
                    code = _WRONG_STATE
                    errors.append(f"{program}: Request invalid for state of job {id_}\n")
            self._cluster.schedule(jobs)
        answer(code, stderr="".join(errors))

    # Each answers whether the state of the job forbids it.

    def _delete(self, job: Job) -> bool:
        self._cluster.end(job, "deleted")
        return False

    def _hold(self, job: Job) -> bool:
        job.is_held = job.state == WAITING or job.is_held
        return False

    def _release(self, job: Job) -> bool:
        job.is_held = False
        return False

    def _move(self, job: Job, queue: str) -> bool:
        job.queue = queue
        return job.state != WAITING

    def _signal(self, job: Job, word: str) -> bool:
        if job.state == RUNNING:
            self._cluster.suspend(job, {"suspend": signal.SIGSTOP, "resume": signal.SIGCONT}[word])
        return job.state != RUNNING


def _directives(text: str) -> Mapping[str, str]:
    """Options of the lines of #PBS before the first command; of `-l name=value` the name is a part of the option."""
    told: dict[str, str] = {}
    for line in text.splitlines()[1:]:
        if line.startswith("#PBS "):
            option, _, value = line.removeprefix("#PBS ").partition(" ")
            if option == "-l":
                name, _, value = value.partition("=")
                option = f"-l {name}"
            told[option] = value
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return told


def _environment(job: Job, home: Path) -> Mapping[str, str]:
    """What a job had in the recording."""
    user = os.environ.get("LOGNAME", "root")
    return {
        "ENVIRONMENT": "BATCH",
        "HOME": str(home),
        "LOGNAME": user,
        "NCPUS": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": _DEFAULT_PATH,
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBCOOKIE": "3850EEA3322B205C2704F9205A55E8F9",
        "PBS_JOBDIR": str(home),
        "PBS_JOBID": _id(job),
        "PBS_JOBNAME": job.name,
        "PBS_MOMPORT": "15003",
        "PBS_NODENUM": "0",
        "PBS_O_HOME": str(home),
        "PBS_O_HOST": HOST,
        "PBS_O_LOGNAME": user,
        "PBS_O_PATH": os.environ.get("PATH", ""),
        "PBS_O_QUEUE": job.queue,
        "PBS_O_SHELL": "/bin/sh",
        "PBS_O_SYSTEM": "Linux",
        "PBS_O_WORKDIR": str(Path.cwd()),
        "PBS_QUEUE": job.queue,
        "PBS_TASKNUM": "1",
        "SHELL": "/bin/sh",
        "USER": user,
        **_of_element(job),
    }


def _of_element(job: Job) -> Mapping[str, str]:
    if job.index is None:
        return {}
    return {"PBS_ARRAY_INDEX": str(job.index), "PBS_ARRAY_ID": _parent_id(job)}


def _array(told: str | None) -> Sequence[int] | None:
    """The indices: of `0-4`."""
    if told is None:
        return None
    first, last = map(int, told.split("-"))
    return range(first, last + 1)


def _id(job: Job) -> str:
    return f"{job.key}.{HOST}"


def _parent_id(job: Job) -> str:
    """Of an element, the id of its array."""
    return _id(job) if job.index is None else f"{job.number}[].{HOST}"


def _key(id_: str) -> str:
    return id_.partition(".")[0]


def _have_ended(jobs: Iterable[Job]) -> bool:
    return all(job.state == ENDED for job in jobs)


def _clock_s(clock: str | None) -> float | None:
    if clock is None:
        return None
    hours, minutes, seconds = map(int, clock.split(":"))
    return hours * 3600 + minutes * 60 + seconds


def _full(job: Job, jobs: Jobs) -> str:
    """As `qstat -f` prints a job, in its order. An element that never ran has the facts of its array."""
    array = named(jobs, f"{job.number}[]")
    if job.index is None:
        return _block(_id(job), _facts(job))
    state = "X" if job.state == ENDED and not _have_ended(array) else _state(job)
    if job.started_at is None:
        facts = {name: fact for name, fact in _array_facts(array).items() if not name.startswith("array")}
        return _block(_id(job), facts | {"job_state": state, "substate": _substate(job)})
    own = {"array_id": _parent_id(job), "array_index": job.index}
    return _block(_id(job), _facts(job) | {"job_state": state} | own)


def _full_array(jobs: Sequence[Job]) -> str:
    return _block(_parent_id(jobs[0]), _array_facts(jobs))


def _array_facts(jobs: Sequence[Job]) -> dict[str, object]:
    """Of an array it is said once anything of it began or ended, and with the exit status of one that did."""
    begun = [job for job in jobs if job.started_at is not None]
    ended = [job for job in begun if job.status is not None]
    facts = _facts(replace(jobs[0], state=WAITING, started_at=None, ended_at=None, status=None))
    facts["job_state"] = "F" if _have_ended(jobs) else "B" if begun else _state(jobs[0])
    if begun:
        facts |= {"stime": _moment(begun[0].started_at or 0), "comment": "Job Array Began", "substate": 70}
    if ended and ended[-1].status is not None:
        facts |= {"Stageout_status": 1, "Exit_status": _exit_status(ended[-1], ended[-1].status)}
    return facts | {
        "array": True,
        "array_indices_submitted": f"{jobs[0].index}-{jobs[-1].index}",
        "array_indices_remaining": "-",
    }


def _block(id_: str, facts: Mapping[str, object]) -> str:
    lines = [_folded(f"    {name} = {value}") for name, value in facts.items()]
    return f"Job Id: {id_}\n" + "".join(lines) + "\n"


def _facts(job: Job) -> dict[str, object]:
    facts: dict[str, object] = {"Job_Name": job.name, "Job_Owner": f"root@{HOST}"}
    if job.status is not None:
        facts |= {
            "resources_used.cpupercent": 0,
            "resources_used.cput": "00:00:00",
            "resources_used.mem": "5976kb",
            "resources_used.ncpus": 1,
            "resources_used.vmem": "11820kb",
            "resources_used.walltime": "00:00:01",
        }
    facts |= {
        "job_state": _state(job),
        "queue": job.queue,
        "server": HOST,
        "Checkpoint": "u",
        "ctime": _moment(job.submitted_at),
        "Error_Path": f"{HOST}:{job.stderr}",
    }
    if job.started_at is not None:
        facts |= {"exec_host": f"{HOST}/0", "exec_vnode": f"({HOST}:ncpus=1)"}
    facts |= {
        "Hold_Types": "u" if job.is_held else "n",
        "Join_Path": "n",
        "Keep_Files": "n",
        "Mail_Points": "n",
        "mtime": _moment(job.ended_at or job.started_at or job.submitted_at),
        "Output_Path": f"{HOST}:{job.stdout}",
        "Priority": 0,
        "qtime": _moment(job.submitted_at),
        "Rerunable": "False",
        **{f"Resource_List.{name}": value for name, value in job.asked.items()},
    }
    if job.started_at is not None:
        facts["stime"] = _moment(job.started_at)
    if job.status is not None and job.ended_at is not None:
        facts["obittime"] = _moment(job.ended_at)
    if job.started_at is not None:
        facts |= {"session_id": job.session, "jobdir": "/home/pbsuser"}
    facts["substate"] = _substate(job)
    facts["Variable_List"] = ",".join(
        f"{name}={value}" for name, value in job.env.items() if name.startswith("PBS_O_")
    )
    facts |= {"comment": comment} if (comment := _comment(job)) else {}
    if not job.is_held:
        facts["etime"] = _moment(job.submitted_at)
    if job.started_at is not None:
        facts["run_count"] = 1
    if job.status is not None:
        facts |= {"Stageout_status": 1, "Exit_status": _exit_status(job, job.status)}
    facts |= {"Submit_arguments": f"-f {job.script}", "project": "_pbs_project_default", "Submit_Host": HOST}
    return facts


def _state(job: Job) -> str:
    if job.state == WAITING:
        return "H" if job.is_held else "Q"
    return "F" if job.state == ENDED else "S" if job.is_suspended else "R"


def _substate(job: Job) -> int:
    if job.state == WAITING:
        return 20 if job.is_held else 10
    if job.state == RUNNING:
        return 43 if job.is_suspended else 42
    if job.why == "deleted":
        return 91
    return 92 if job.status == 0 else 93


def _comment(job: Job) -> str:
    if job.state == WAITING:
        return "Not Running: Queue not started." if job.queue == "stopq" else ""
    if job.started_at is None:
        return ""
    run = (
        time.strftime("Job run at %a %b %d at %H:%M", time.localtime(job.started_at))
        + f" on ({HOST}:ncpus=1)"
    )
    if job.state == RUNNING:
        return run
    if job.why == "limit":
        return f"{run} and exceeded resource walltime"
    if job.why == "deleted":
        return f"{run} and terminated by root@{HOST}"
    return f"{run} and {'finished' if job.status == 0 else 'failed'}"


def _exit_status(job: Job, status: int) -> int:
    """-29 after the time limit; 256 and the signal if one ended the top process."""
    if job.why == "limit":
        return -29
    return 256 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _moment(at: float) -> str:
    return time.ctime(at)


def _folded(line: str) -> str:
    """Somewhere, also within words."""
    parts = [line[:79], *re.findall(".{1,70}", line[79:])]
    return "\n\t".join(parts) + "\n"
