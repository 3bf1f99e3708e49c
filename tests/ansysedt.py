"""A stand-in for ansysedt: takes its command line, writes its log, has engines, takes its time, fails if told to.

A program of its own, with the standard library alone; `tests/hfss/installed.py` installs it. What it does is a `Plan`,
told as JSON: in the project (the .aedt file itself, or `edb.def` of an .aedb directory), else in ANSYSEDT_PLAN.

It writes `STEM.aedb.batchinfo.NUMBER/STEM.log` beside the project, in the format that pyedb 0.64.0 reads, then
`STEM.aedtresults/solution`. The file `engines` beside the log has the pids of its engines.
"""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Not UTF-8, as what programs of Windows' times print.
GREETING = b"Ansys\xae Electronics Desktop Version 2025.2.0\n"
_ENGINE = ("sh", "-c", "sleep 1000 & wait", "hf3d")
_WORD = r"[A-Za-z0-9_.-]+"
_MACHINES = re.compile(rf"list={_WORD}:-?\d+:\d+:\d+%(,{_WORD}:-?\d+:\d+:\d+%)*")
_CORES = re.compile(r"numcores=[1-9]\d*")
_OPTIONS = re.compile(r"'[^']+'='[^']*'( '[^']+'='[^']*')*")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run does. A `..._at` is a piece of a line of the log: it happens when that was written.

    Its log begins when there is the file `begins_after`. At `waits_at` it goes on when there is the file `until`; at
    `fails_at` it ends with `exit_code` (1 if that is 0), at `killed_at` by a signal. `engines` are its children, and
    have children of their own; it ends them, unless `leaves_engines`. `pause_s` lies between lines, `output_bytes` is
    how much it prints besides.
    """

    begins_after: str = ""
    passes: int = 3
    converges: bool = True
    frequencies: int = 3
    engines: int = 1
    leaves_engines: bool = False
    ignores_term: bool = False
    pause_s: float = 0.0
    waits_at: str = ""
    until: str = ""
    fails_at: str = ""
    killed_at: str = ""
    exit_code: int = 0
    output_bytes: int = 0
    says: str = ""
    complains: str = ""


class CommandLine(argparse.Namespace):
    """What was asked for."""

    jobid: str
    machinelist: str
    distributed: bool
    monitor: bool
    batchoptions: str
    batchsolve: list[str]

    @property
    def design(self) -> str:
        """`design:mode:setup`; empty without one."""
        return self.batchsolve[0] if len(self.batchsolve) > 1 else ""

    @property
    def project(self) -> str:
        """The path of the project."""
        return self.batchsolve[-1]


def read(arguments: list[str]) -> CommandLine:
    """The command line. Ends the program with 2 for what ansysedt does not know."""
    parser = argparse.ArgumentParser("ansysedt", allow_abbrev=False, add_help=False)
    for name in ("-jobid", "-machinelist", "-batchoptions"):
        parser.add_argument(name, default="")
    for name in ("-distributed", "-auto", "-ng", "-monitor"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("-batchsolve", nargs="+", required=True)
    line = parser.parse_args(arguments, CommandLine())
    machines = _CORES if line.distributed else _MACHINES
    if line.machinelist and machines.fullmatch(line.machinelist) is None:
        parser.error(f"the machine list {line.machinelist!r} is not understood")
    if line.batchoptions and _OPTIONS.fullmatch(line.batchoptions) is None:
        parser.error(f"the batch options {line.batchoptions!r} are not understood")
    if len(line.batchsolve) > 2 or arguments[-1] != line.project:
        parser.error("after -batchsolve come a design, if any, and the project, and nothing else")
    return line


def planned(project: Path) -> Plan:
    """What the project, or else the environment, says."""
    told = os.environ.get("ANSYSEDT_PLAN", "{}")
    content = (project / "edb.def" if project.is_dir() else project).read_text(errors="replace")
    told = content if content.startswith("{") else told
    return Plan(**json.loads(told))


def log(line: CommandLine, project: Path, plan: Plan) -> Iterator[str]:
    """The lines of its log, as tests/data/pyedb has them."""
    yield "Ansys Electronics Desktop Version 2025.2.0, Build: 2025-06-10 21:58:36"
    yield f"Running as user : {getpass.getuser()}"
    yield f'Using command line: "{" ".join(sys.argv)}"'
    yield f"Batch Solve/Save: {project}"
    yield "Starting Batch Run: 10:15:01 AM  Jan 02, 2026"
    design = line.design.partition(":")[0] or "main"
    yield f"[info] Project:{project.stem}, Design:{design} (HFSS 3D Layout), Solving 1 variation"
    yield "[PROFILE] Initial Meshing : started"
    yield "[PROFILE]   Mesh (volume, TAU) : Real Time 00:00:12 : CPU Time 00:00:31 : Memory 212.5 M : Tetrahedra: 8123"
    for number in range(1, plan.passes + 1):
        yield from adaptive_pass(number, has_converged=plan.converges and number == plan.passes)
    if plan.converges:
        yield "[info] Adaptive Passes converged"
    yield f"[PROFILE] Frequency Sweep : Interpolating Sweep, {plan.frequencies} Frequencies"
    for number in range(1, plan.frequencies + 1):
        yield f"[PROFILE]   Frequency - {number}GHz"
    yield "[PROFILE]   Elapsed time : 00:02:03"
    yield f"[info] Normal completion of simulation on server: {os.uname().nodename}"


def adaptive_pass(number: int, *, has_converged: bool) -> Iterator[str]:
    """One pass; its delta S halves with each."""
    yield f"[PROFILE] Adaptive Pass {number} : Frequency: 5GHz"
    yield f"[PROFILE]   Matrix Assembly : Tetrahedra: {8000 * number} : Memory {400 * number} M"
    yield f"[PROFILE]   Solver DCS4 : Matrix size: {50000 * number} : Memory {800 * number} M"
    if number > 1:
        yield f"[PROFILE]   Max Mag. Delta S: {0.32 / 2**number:.5f}"
    yield "[PROFILE]   Elapsed time : 00:00:21"
    yield f"[CONVERGE] Solution has {'' if has_converged else 'not '}converged, pass number: {number}"


def solve(line: CommandLine, project: Path, plan: Plan) -> int:
    """Write the log, and act when the plan says so; the exit code."""
    folder = project.parent / f"{project.stem}.aedb.batchinfo.{time.time_ns()}"
    folder.mkdir()
    engines = [start_engine() for _ in range(plan.engines)]
    (folder / "engines").write_text("".join(f"{engine.pid}\n" for engine in engines))
    try:
        with (folder / f"{project.stem}.log").open("w", encoding="utf-8") as file:
            for text in log(line, project, plan):
                file.write(f"{text}\n")
                file.flush()
                tell(text.encode() + b"\n" if line.monitor else b"")
                if happens(plan.fails_at, text):
                    file.write("[error] Script macro error: something is wrong\n")
                    return plan.exit_code or 1
                act(text, plan)
    finally:
        for engine in () if plan.leaves_engines else engines:
            os.killpg(engine.pid, signal.SIGKILL)
            engine.wait()
    results = project.parent / f"{project.stem}.aedtresults"
    results.mkdir(exist_ok=True)
    (results / "solution").write_text(f"{line.jobid}\n")
    return plan.exit_code


def start_engine() -> subprocess.Popen[bytes]:
    """A solver's process, which has a child and holds the outputs open."""
    return subprocess.Popen(_ENGINE, process_group=0, stdin=subprocess.DEVNULL)


def happens(wanted: str, text: str) -> bool:
    """Whether this is the line."""
    return bool(wanted) and wanted in text


def act(text: str, plan: Plan) -> None:
    """What happens at this line."""
    if happens(plan.killed_at, text):
        os.kill(os.getpid(), signal.SIGKILL)
    if happens(plan.waits_at, text):
        wait_for(plan.until)
    time.sleep(plan.pause_s)


def wait_for(path: str) -> None:
    """Until there is such a file."""
    while not Path(path).exists():
        time.sleep(0.01)


def tell(data: bytes) -> None:
    """Print bytes as they are."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def main() -> int:
    """Run as the command line and the plan say."""
    line = read(sys.argv[1:])
    project = Path(line.project).absolute()
    if not project.exists():
        sys.stderr.write(f"ansysedt: there is no project {line.project}\n")
        return 1
    plan = planned(project)
    if plan.ignores_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    tell(GREETING)
    tell(plan.says.encode("latin-1"))
    tell(b"." * plan.output_bytes)
    sys.stderr.write(plan.complains)
    if plan.begins_after:
        wait_for(plan.begins_after)
    return solve(line, project, plan)


if __name__ == "__main__":
    sys.exit(main())
