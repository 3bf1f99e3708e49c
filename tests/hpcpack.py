"""Windows HPC Pack's commands, played as Microsoft documents them by one program that runs what is submitted.

It plays the runtime of the shell too, which hands arguments that begin with `/` to programs of Windows as paths,
unless it is told not to. `python -m tests.hpcpack DIRECTORY PROGRAM ARGUMENT...`
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

SPACE = "{http://schemas.microsoft.com/HPCS2008R2/scheduler/}"
# Of the Job and Task complex types those that may be said before a job is submitted.
JOB = frozenset({
    "Version", "Name", "UnitType", "MinCores", "MaxCores", "MinNodes", "MaxNodes", "AutoCalculateMin",
    "AutoCalculateMax", "SingleNode", "MinCoresPerNode", "MinMemory", "RuntimeSeconds", "NodeGroups", "NodeGroupOp",
    "Project", "IsExclusive", "SoftwareLicense", "EmailAddress", "NotifyOnStart", "NotifyOnCompletion", "Priority",
    "JobTemplate", "OrderBy", "RequestedNodes",
})  # fmt: skip
TASK = frozenset({
    "Version", "CommandLine", "IsRerunnable", "UnitType", "MinCores", "MaxCores", "MinNodes", "MaxNodes",
})  # fmt: skip
# Of the second no node is online: its jobs are queued.
GROUPS = ("ComputeNodes", "Drained", "Head Nodes")
_ENDED = ("Finished", "Failed", "Canceled")
_PROGRAMS = ("job", "node", "cluscfg", "powershell")


class Said(Exception):
    """Printed, and the program fails."""


class HpcPack:
    """A head node that is its only compute node, with its programs in a directory for PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.programs = directory / "bin"
        self._jobs = directory / "jobs"

    def install(self) -> None:
        """Put the programs there."""
        self.programs.mkdir(parents=True)
        self._jobs.mkdir()
        root = Path(__file__).parent.parent
        for name in _PROGRAMS:
            path = self.programs / name
            arguments = shlex.join([sys.executable, "-m", "tests.hpcpack", str(self.directory), name])
            path.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(root))} exec {arguments} "$@"\n')
            path.chmod(0o755)

    def remove(self) -> None:
        """End what still runs."""
        for id_ in self._ids():
            self._kill(id_)

    def jobs(self, name: str | None = None) -> list[dict[str, Any]]:
        """All jobs, or those of this name, as they were submitted and stand now."""
        found = [{"Id": str(id_), **self._facts(id_)} for id_ in self._ids()]
        return [job for job in found if name is None or job["Name"] == name]

    def submit(self, file: Path) -> int:
        """Take a job file and run its task."""
        document = ET.parse(file).getroot()
        tasks = document.findall(f"{SPACE}Tasks/{SPACE}Task")
        if document.tag != f"{SPACE}Job" or document.find(f"{SPACE}Dependencies") is None or len(tasks) != 1:
            raise Said("The job file is not valid.")
        for element, known in ((document, JOB), (tasks[0], TASK)):
            for unknown in set(element.keys()) - known:
                raise Said(f"The attribute {unknown} of {element.tag} is not valid.")
        for group in filter(None, document.get("NodeGroups", "").split(",")):
            if group not in GROUPS:
                raise Said(f"The node group '{group}' does not exist.")
        line = tasks[0].attrib["CommandLine"]
        if len(line) > 480:
            raise Said("The command line is not valid.")
        id_ = self._new()
        state = "Queued" if document.get("NodeGroups") == "Drained" else "Running"
        self._write(id_, {"State": state, **document.attrib, "Task": tasks[0].attrib})
        if state == "Running":
            self._start(id_)
        return id_

    def run(self, id_: int) -> None:
        """Run the task of a job to its end, as the service on a node does."""
        facts = self._facts(id_)
        line = facts["Task"]["CommandLine"]
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "CCP_JOBID": str(id_), "CCP_TASKID": "1",
            "CCP_JOBNAME": facts["Name"], "CCP_RETRY_COUNT": "0",
        }  # fmt: skip
        node = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # A program of Windows splits its command line itself; with quotes only it does as this.
        task = subprocess.Popen(
            shlex.split(line),
            env=environment,
            cwd=self.directory,
            start_new_session=True,
            **node,  # type: ignore[call-overload]
        )
        self._part(id_, "pid").write_text(str(task.pid))
        code = task.wait()
        self._end(id_, "Finished" if code == 0 else "Failed")

    def cancel(self, id_: int) -> None:
        """End a job, hard."""
        if not self._part(id_, "job.json").exists():
            raise Said("The job was not found.")
        if self._facts(id_)["State"] in _ENDED:
            raise Said(f"The job is in the state of {self._facts(id_)['State']}.")
        self._end(id_, "Canceled")
        self._kill(id_)

    def _part(self, id_: int, name: str) -> Path:
        return self._jobs / str(id_) / name

    def _ids(self) -> list[int]:
        found = [path for path in self._jobs.iterdir() if (path / "job.json").exists()]
        return sorted(int(path.name) for path in found)

    def _new(self) -> int:
        number = 35
        while True:
            with contextlib.suppress(FileExistsError):
                (self._jobs / str(number)).mkdir()
                return number
            number += 1

    def _facts(self, id_: int) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self._part(id_, "job.json").read_text())
        with contextlib.suppress(FileNotFoundError):
            facts["State"] = self._part(id_, "end").read_text()
        return facts

    def _write(self, id_: int, facts: dict[str, Any]) -> None:
        unfinished = self._part(id_, "job.new")
        unfinished.write_text(json.dumps(facts))
        unfinished.rename(self._part(id_, "job.json"))

    def _end(self, id_: int, state: str) -> None:
        """The first end stands."""
        unfinished = self._part(id_, f"end.{os.getpid()}")
        unfinished.write_text(state)
        with contextlib.suppress(FileExistsError):
            os.link(unfinished, self._part(id_, "end"))
        unfinished.unlink()

    def _start(self, id_: int) -> None:
        service = [sys.executable, "-m", "tests.hpcpack", str(self.directory), "run", str(id_)]
        silent = subprocess.DEVNULL
        subprocess.Popen(service, start_new_session=True, stdin=silent, stdout=silent, stderr=silent)

    def _kill(self, id_: int) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.killpg(int(self._part(id_, "pid").read_text()), signal.SIGKILL)


def _options(arguments: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """What `/name:value` and `/name` say."""
    options = {}
    for argument in arguments:
        match = re.fullmatch(r"/(\w+)(?::(.*))?", argument)
        if match is None or match[1] not in known:
            raise Said(f"'{argument}' is not valid here.")
        options[match[1]] = match[2] or ""
    return options


def _as_the_runtime_hands_them(arguments: Sequence[str]) -> list[str]:
    """MSYS2 converts what looks like a path to it, unless both it and Git for Windows are told not to."""
    if os.environ.get("MSYS_NO_PATHCONV") and os.environ.get("MSYS2_ARG_CONV_EXCL") == "*":
        return list(arguments)
    return [re.sub(r"^/(?=\w)", "C:/Program Files/Git/", argument) for argument in arguments]


def _job_submit(hpc: HpcPack, arguments: Sequence[str]) -> Iterator[str]:
    options = _options(arguments, ["jobfile"])
    yield f"Job has been submitted. ID: {hpc.submit(Path(options['jobfile']))}."


def _job_list(hpc: HpcPack, arguments: Sequence[str]) -> Iterator[str]:
    options = _options(arguments, ["format", "jobname", "all", "user", "state"])
    states = options.get("state", "").split(",") if "state" in options else None
    jobs = hpc.jobs(options.get("jobname"))
    if states is not None:
        jobs = [job for job in jobs if job["State"].lower() in states]
    elif "all" not in options:
        jobs = [job for job in jobs if job["State"] not in _ENDED]
    for job in jobs:
        yield from (f"{key:<33}: {job[key]}" for key in ("Id", "Name", "State"))
        yield ""
    yield f"{len(jobs)} matching jobs for LAB\\ann"


def _job_cancel(hpc: HpcPack, arguments: Sequence[str]) -> Iterator[str]:
    (id_,) = arguments
    hpc.cancel(int(id_))
    yield f"Job {id_} has been canceled."


def _node_list(hpc: HpcPack, arguments: Sequence[str]) -> Iterator[str]:
    _options(arguments, ["format"])
    yield from ("Node Name : HEAD", "State : Online", "Number Of Cores : 4")


def _cluscfg_view(hpc: HpcPack, arguments: Sequence[str]) -> Iterator[str]:
    yield from ("Cluster Name : LAB", "Version : 5.3.6450.0")


def _powershell(hpc: HpcPack, arguments: Sequence[str]) -> Iterator[str]:
    assert "Get-HpcGroup" in arguments[-1]
    for group in GROUPS:
        yield from ("", f"Name : {group}", "")


_VERBS: dict[tuple[str, str], Callable[[HpcPack, Sequence[str]], Iterator[str]]] = {
    ("job", "submit"): _job_submit,
    ("job", "list"): _job_list,
    ("job", "cancel"): _job_cancel,
    ("node", "list"): _node_list,
    ("cluscfg", "view"): _cluscfg_view,
}


def main(directory: str, program: str, *given: str) -> int:
    """Play a program; what it prints has Windows' ends of lines."""
    hpc = HpcPack(Path(directory))
    arguments = _as_the_runtime_hands_them(given)
    if program == "run":
        hpc.run(int(arguments[0]))
        return 0
    verb, rest = (
        (_powershell, arguments)
        if program == "powershell"
        else (_VERBS[program, arguments[0]], arguments[1:])
    )
    try:
        lines = list(verb(hpc, rest))
    except Said as error:
        sys.stderr.write(f"{error}\r\n")
        return 1
    sys.stdout.write("".join(f"{line}\r\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
