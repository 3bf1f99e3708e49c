"""Programs that answer what a test tells them to, in place of a scheduler's."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from jobmgr.dialects.dialect import Answer
from tests.dialects import recording

# What scripts of ours call at a site; nothing else of this machine is found there.
_TOOLS = ("sh", "env", "sed", "cat", "true", "uname", "getconf")
_DATA = Path(__file__).parent / "data"


@dataclass
class Programs:
    """A directory that is all of a PATH."""

    directory: Path
    _cases: dict[str, list[tuple[str, Path, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        for name in _TOOLS:
            path = shutil.which(name)
            assert path is not None
            (self.directory / name).symlink_to(path)

    def answer(self, name: str, answer: Answer, given: str = "") -> None:
        """Let a program answer this when its arguments hold `given`; what was told last goes first."""
        cases = self._cases.setdefault(name, [])
        text = self.directory / f"{name}.{len(cases)}"
        for suffix, said in ((".out", answer.stdout), (".err", answer.stderr)):
            Path(f"{text}{suffix}").write_text(said, errors="surrogateescape")
        assert answer.exit_code is not None
        cases.insert(0, (given, text, answer.exit_code))
        branches = "".join(
            f"*'{pattern}'*) cat {said}.out; cat {said}.err >&2; exit {code} ;;\n"
            for pattern, said, code in cases
        )
        script = f'#!/bin/sh\necho >>{self._calls(name)}\ncase "$*" in\n{branches}esac\n'
        unfinished = self.directory / f"{name}.new"
        unfinished.write_text(script)
        unfinished.chmod(0o755)
        unfinished.rename(self.directory / name)

    def hang(self, name: str) -> Path:
        """Let a program answer what it did only when a line is written to this FIFO, for each time it is run."""
        answer = self.directory / f"{name}.fifo"
        os.mkfifo(answer)
        shutil.copy(self.directory / name, self.directory / f"{name}.now")
        unfinished = self.directory / f"{name}.new"
        unfinished.write_text(f'#!/bin/sh\nread -r _ <{answer}\nexec {self.directory}/{name}.now "$@"\n')
        unfinished.chmod(0o755)
        unfinished.rename(self.directory / name)
        return answer

    def calls(self, name: str) -> int:
        """How often a program was called."""
        return self._calls(name).read_text().count("\n") if self._calls(name).exists() else 0

    def _calls(self, name: str) -> Path:
        return self.directory / f"{name}.calls"


def recorded_slurm(name: str) -> Answer:
    """What a real SLURM answered."""
    kept = json.loads((_DATA / "slurm" / f"{name}.json").read_text())
    return Answer(kept["exit_code"], kept["stdout"], kept["stderr"])


def become_slurm(programs: Programs) -> None:
    """Answer as the SLURM that was recorded."""
    programs.answer("sbatch", recorded_slurm("version"))
    programs.answer("squeue", recorded_slurm("everything"))
    programs.answer("sinfo", recorded_slurm("partitions"), "--summarize")
    programs.answer("sinfo", recorded_slurm("nodes"), "--Node")
    programs.answer("scontrol", recorded_slurm("config"))


def become_pbs(programs: Programs) -> None:
    """Answer as the OpenPBS that was recorded."""
    programs.answer("qsub", recording.answer("pbs", "qsub_version"))
    programs.answer("qstat", recording.answer("pbs", "qstat_f_running"), "-f")
    programs.answer("qstat", recording.answer("pbs", "qstat_Q_f"), "-Q")
    programs.answer("qstat", recording.answer("pbs", "qstat_B_f"), "-B")
    programs.answer("pbsnodes", recording.answer("pbs", "pbsnodes_a"))


def become_lsf(programs: Programs) -> None:
    """Answer as the volclava that was recorded."""
    programs.answer("bjobs", recording.answer("lsf", "bjobs_u_all_w"))
    programs.answer("bjobs", recording.answer("lsf", "bjobs_V"), "-V")
    programs.answer("bqueues", recording.answer("lsf", "bqueues_w"))
    programs.answer("bparams", recording.answer("lsf", "bparams_l"))
    programs.answer("bhosts", recording.answer("lsf", "bhosts_w"))
    programs.answer("lshosts", recording.answer("lsf", "lshosts_w"))


def become_ibm_lsf(programs: Programs) -> None:
    """Answer as the same, where bjobs is IBM's; its jobs are as in IBM's documents."""
    become_lsf(programs)
    programs.answer("bjobs", Answer(0, "", "IBM Spectrum LSF Standard 10.1.0.0, Apr 01 2016\n"), "-V")
    programs.answer("bjobs", Answer(0, (_DATA / "lsf" / "ibm_bjobs.json").read_text()), "-json")
