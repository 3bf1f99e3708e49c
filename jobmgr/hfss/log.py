"""What the log of an HFSS batch run says of its progress: initial mesh, adaptive passes, convergence, sweep.

A log is read while it is written, in pieces of any length: a line without its end is waited for, what is not
understood is passed over. Source of the format: the lines that pyedb 0.64.0 looks for in
`PROJECT.aedb.batchinfo*/*.log` (hfss_log_parser.py). `LogReader.state` has the shape of what its service answered.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

# Longer ones are none of ours; without limits a log could make its reader slow, and keep it in memory.
_LONGEST_LINE_BYTES = 8192
_MOST_ERRORS = 20
_MOST_FREQUENCIES = 100_000
# How far below its title the numbers of the first mesh are.
_MESH_LINES = 10

_COUNT = r"([0-9]{1,15})"
_AMOUNT = r"([0-9]{1,15}(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?)"
_CLOCK = r"((?:[0-9]{1,9}:){1,2}[0-9]{1,9})"
_HERTZ = r"([kMGT]?)Hz"
_MEGABYTES_OF = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
_HERTZ_OF = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

_PROJECT = re.compile(r"Project:([^,]+),\s*Design:([^,]+)")
_USER = re.compile(r"Running as user\s*:\s*(\S.*)")
_COMMAND = re.compile(r'Using command line:\s*(".+")')
_FILE = re.compile(r"Batch Solve/Save:\s*(\S.*)")
_JOB_ID = re.compile(r"\s-jobid\s+([^\s\"]+)")
_MESH = "[PROFILE] Initial Meshing"
_TETRAHEDRA = re.compile(rf"Tetrahedra:\s*{_COUNT}")
_MATRIX = re.compile(rf"Matrix size:\s*{_COUNT}")
_MEMORY = re.compile(rf"Memory\s+{_AMOUNT}\s*([KMGT])")
_REAL_TIME = re.compile(rf"Real Time\s+{_CLOCK}")
_CPU_TIME = re.compile(rf"CPU Time\s+{_CLOCK}")
_PASS = re.compile(rf"Adaptive Pass {_COUNT}.*Frequency:\s*{_AMOUNT}\s*{_HERTZ}", re.IGNORECASE)
_DELTA = re.compile(rf"Max Mag\. Delta S:\s*{_AMOUNT}")
_ELAPSED = re.compile(rf"Elapsed time.*?:\s*{_CLOCK}")
_PASS_ENDED = re.compile(rf"\[CONVERGE].*pass number[^0-9]{{1,20}}{_COUNT}", re.IGNORECASE)
_CONVERGED = "Adaptive Passes converged"
_SWEEP_TYPE = re.compile(r"\b(Interpolating|Discrete|Fast)\b")
_FREQUENCIES = re.compile(rf"{_COUNT}\s*Frequencies")
_SOLVED = re.compile(rf"Frequency - {_AMOUNT}\s*{_HERTZ}", re.IGNORECASE)
_ERROR = re.compile(r"\[error\]|\*\*\* ERROR \*\*\*", re.IGNORECASE)


def job_named(data: bytes) -> str | None:
    """The id of the job for which the program was started, as the first lines of its log say.

    None if they do not say it, or not yet: in a step of a SLURM job ansysedt is told of none.
    """
    reader = LogReader()
    reader.feed(data)
    match = _JOB_ID.search(reader.project.cmd_line)
    return None if match is None else match[1]


class Stage(StrEnum):
    """How far a run is, as its log tells."""

    STARTING = "starting"
    MESHING = "meshing"
    ADAPTING = "adapting"
    SWEEPING = "sweeping"


@dataclass(frozen=True, slots=True)
class Project:
    """Whose run it is; empty is what was not said (yet)."""

    name: str = ""
    file: str = ""
    design: str = ""
    user: str = ""
    cmd_line: str = ""


@dataclass(frozen=True, slots=True)
class InitialMesh:
    """The first mesh: memory in MB, times in seconds. None is what was not said (yet)."""

    tetrahedra: int | None = None
    memory_mb: float | None = None
    real_time_sec: int | None = None
    cpu_time_sec: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it was said."""
        return None not in (self.tetrahedra, self.memory_mb, self.real_time_sec, self.cpu_time_sec)


@dataclass(frozen=True, slots=True)
class AdaptivePass:
    """One solution on a refined mesh. 0 and None are what was not said (yet)."""

    pass_nr: int
    freq_hz: float
    tetrahedra: int = 0
    matrix_size: int = 0
    memory_mb: float = 0.0
    delta_s: float | None = None
    converged: bool = False
    elapsed_sec: int = 0


class LogReader:
    """Reads one log from its beginning."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_skipping = False
        self._project = Project()
        self._mesh = InitialMesh()
        self._mesh_lines = 0
        self._passes: list[AdaptivePass] = []
        self._current: AdaptivePass | None = None
        self._last_ended: int | None = None
        self._has_converged = False
        self._sweep_type = ""
        self._frequencies = 0
        self._solved: list[float] = []
        self._sweep_elapsed_sec = 0
        self._errors: list[str] = []
        self._stage = Stage.STARTING

    def feed(self, data: bytes) -> None:
        """What comes next in the log. A last line without its end waits for the next piece."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        self._is_skipping = self._is_skipping or len(rest) > _LONGEST_LINE_BYTES
        self._rest = b"" if self._is_skipping else rest

    def state(self) -> dict[str, Any]:
        """All that is known, as JSON has it.

        `project`, `init_mesh` (null until it is whole), `adaptive` (passes that have ended), `sweep` (null until it
        begins) and `log_parser`: `is_converged`, `is_completed`, `stage`, `current_pass` (null between passes), the
        first 20 `errors`. Times in seconds, frequencies in Hz, memory in MB.
        """
        passes = self.passes()
        current = self._current
        return {
            "project": asdict(self._project),
            "init_mesh": asdict(self._mesh) if self._mesh.is_whole else None,
            "adaptive": [asdict(each) for each in passes],
            "sweep": self._sweep(),
            "log_parser": {
                "is_converged": self.is_converged,
                "is_completed": self.is_converged and self._sweep_elapsed_sec > 0 and self._frequencies > 0,
                "stage": self._stage.value,
                "current_pass": None if current is None else asdict(current),
                "errors": list(self._errors),
            },
        }

    @property
    def project(self) -> Project:
        """Whose run it is."""
        return self._project

    def passes(self) -> list[AdaptivePass]:
        """The passes that have ended. The last one may be that which converged."""
        return [
            replace(each, converged=self._has_converged and each.pass_nr == self._last_ended)
            for each in self._passes
        ]

    @property
    def is_converged(self) -> bool:
        """Whether the last pass met its goal."""
        return self._has_converged and bool(self._passes) and self._passes[-1].pass_nr == self._last_ended

    def progress(self) -> str:
        """One line for people; empty before anything is known."""
        match self._stage:
            case Stage.STARTING:
                return ""
            case Stage.MESHING:
                return ", ".join(("initial mesh", *_tetrahedra(self._mesh.tetrahedra)))
            case Stage.ADAPTING:
                return self._progress_of_passes()
            case Stage.SWEEPING:
                sweep = f"sweep {len(self._solved)}/{self._frequencies}"
                return ", ".join(part for part in (self._progress_of_passes(), sweep) if part)

    def _progress_of_passes(self) -> str:
        """`pass 3, 41,208 tetrahedra, delta S 0.021`; what was not said yet of this pass is that of the one before."""
        passes = [*self._passes, *([self._current] if self._current is not None else [])]
        if not passes:
            return ""
        meshes = [each.tetrahedra for each in passes if each.tetrahedra]
        deltas = [each.delta_s for each in passes if each.delta_s is not None]
        is_over = self.is_converged and self._current is None
        return ", ".join(
            (
                f"converged after {len(passes)} passes" if is_over else f"pass {passes[-1].pass_nr}",
                *_tetrahedra(meshes[-1] if meshes else None),
                *([f"delta S {deltas[-1]:g}"] if deltas else []),
            )
        )

    def _sweep(self) -> dict[str, Any] | None:
        if not self._frequencies:
            return None
        return {
            "type": self._sweep_type or "Interpolating",
            "frequencies": self._frequencies,
            "solved": list(self._solved),
            "elapsed_sec": self._sweep_elapsed_sec,
        }

    def _take(self, data: bytes) -> None:
        is_skipped, self._is_skipping = self._is_skipping, False
        if is_skipped or len(data) > _LONGEST_LINE_BYTES:
            return
        line = data.decode("utf-8", "replace").strip()
        if _ERROR.search(line) is not None and len(self._errors) < _MOST_ERRORS:
            self._errors.append(line)
        if not self._take_header(line):
            self._take_mesh(line)
            self._take_pass(line)
            self._take_sweep(line)

    def _take_header(self, line: str) -> bool:
        """Whether it was a line about the run itself, whose paths may have any word in them."""
        if match := _PROJECT.search(line):
            self._project = replace(self._project, name=match[1].strip(), design=match[2].strip())
        elif match := _USER.search(line):
            self._project = replace(self._project, user=match[1])
        elif match := _COMMAND.search(line):
            self._project = replace(self._project, cmd_line=match[1])
        elif match := _FILE.search(line):
            self._project = replace(self._project, file=self._project.file or match[1])
        else:
            return False
        return True

    def _take_mesh(self, line: str) -> None:
        if _MESH in line and self._mesh == InitialMesh():
            self._mesh_lines = _MESH_LINES
            self._stage = Stage.MESHING
        if self._mesh_lines:
            self._mesh_lines -= 1
            self._mesh = _with_mesh(self._mesh, line)

    def _take_pass(self, line: str) -> None:
        self._has_converged = self._has_converged or _CONVERGED in line
        if (match := _PASS.search(line)) and (frequency_hz := _scaled(match[2], _HERTZ_OF[match[3].upper()])):
            self._current = AdaptivePass(int(match[1]), frequency_hz)
            self._mesh_lines = 0
            self._stage = Stage.ADAPTING
        if self._current is None:
            return
        self._current = _with_pass(self._current, line)
        if match := _PASS_ENDED.search(line):
            self._passes.append(self._current)
            self._last_ended = int(match[1])
            self._current = None

    def _take_sweep(self, line: str) -> None:
        if self._current is not None:
            return
        if match := _SWEEP_TYPE.search(line):
            self._sweep_type = match[1]
        if match := _FREQUENCIES.search(line):
            self._frequencies = int(match[1])
            self._stage = Stage.SWEEPING
        if (match := _SOLVED.search(line)) and len(self._solved) < _MOST_FREQUENCIES:
            frequency_hz = _scaled(match[1], _HERTZ_OF[match[2].upper()])
            self._solved += [frequency_hz] if frequency_hz is not None else []
        if self._frequencies and (match := _ELAPSED.search(line)):
            self._sweep_elapsed_sec = _seconds(match[1])


def _tetrahedra(count: int | None) -> list[str]:
    return [] if not count else [f"{count:,} tetrahedra"]


def _with_mesh(mesh: InitialMesh, line: str) -> InitialMesh:
    if match := _TETRAHEDRA.search(line):
        mesh = replace(mesh, tetrahedra=int(match[1]))
    if match := _MEMORY.search(line):
        mesh = replace(mesh, memory_mb=_scaled(match[1], _MEGABYTES_OF[match[2]]))
    if match := _REAL_TIME.search(line):
        mesh = replace(mesh, real_time_sec=_seconds(match[1]))
    if match := _CPU_TIME.search(line):
        mesh = replace(mesh, cpu_time_sec=_seconds(match[1]))
    return mesh


def _with_pass(current: AdaptivePass, line: str) -> AdaptivePass:
    if match := _TETRAHEDRA.search(line):
        current = replace(current, tetrahedra=int(match[1]))
    if match := _MATRIX.search(line):
        current = replace(current, matrix_size=int(match[1]))
    if match := _MEMORY.search(line):
        current = replace(current, memory_mb=_scaled(match[1], _MEGABYTES_OF[match[2]]) or 0.0)
    if match := _DELTA.search(line):
        current = replace(current, delta_s=_scaled(match[1], 1.0))
    if match := _ELAPSED.search(line):
        current = replace(current, elapsed_sec=_seconds(match[1]))
    return current


def _scaled(text: str, factor: float) -> float | None:
    """None for what no float can hold: JSON has no infinity."""
    value = float(text) * factor
    return value if math.isfinite(value) else None


def _seconds(clock: str) -> int:
    """Of `minutes:seconds` or `hours:minutes:seconds`."""
    seconds = 0
    for part in clock.split(":"):
        seconds = seconds * 60 + int(part)
    return seconds
