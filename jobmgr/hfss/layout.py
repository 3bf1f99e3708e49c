"""What HFSS 3D Layout is told with `-batchoptions`."""

from __future__ import annotations

import re
import tempfile
from typing import Annotated, Literal

from msgspec import Meta, field

from jobmgr.hfss.value import Value

_PAIR = re.compile(r"'([^']*)'='([^']*)'")
# The options stand between quotes, which ansysedt reads and which have no escapes.
_TEXT = re.compile(r"[^'\"\x00-\x1f\x7f]*")
_RAM_LIMIT_PERCENT = "90"


class HFSS3DLayoutBatchOptions(Value):
    """Options of the solver.

    `temp_directory` is kept and not passed on: ansysedt has an option of its own for it, `-batchoptions` none.
    """

    create_starting_mesh: bool = False
    default_process_priority: Literal["Normal", "Low", "High", "Idle"] = "Normal"
    enable_gpu: bool = False
    mpi_vendor: Literal["Microsoft", "Intel", "Open MPI"] = "Intel"
    mpi_version: str = "Default"
    remote_spawn_command: str = "Scheduler"
    solve_adaptive_only: bool = False
    validate_only: bool = False
    temp_directory: Annotated[str, Meta(min_length=1)] = field(default_factory=tempfile.gettempdir)

    def check(self) -> None:
        """As `Value`."""
        self.insist(
            _TEXT, "has quotes or control characters; leave them out", "mpi_version", "remote_spawn_command"
        )

    def to_batch_options_dict(self) -> dict[str, str]:
        """By the name that ansysedt knows them by, in its order."""
        own = {
            "CreateStartingMesh": _flag(is_set=self.create_starting_mesh),
            "DefaultProcessPriority": self.default_process_priority,
            "EnableGPU": _flag(is_set=self.enable_gpu),
            "MPIVendor": self.mpi_vendor,
            "MPIVersion": self.mpi_version,
            "RemoteSpawnCommand": self.remote_spawn_command,
            "SolveAdaptiveOnly": _flag(is_set=self.solve_adaptive_only),
            "ValidateOnly": _flag(is_set=self.validate_only),
        }
        products = ("HFSS 3D Layout Design", "HFSS", "Maxwell 2D", "Maxwell 3D", "Q3D Extractor")
        limits = {f"{product}/RAMLimitPercent": _RAM_LIMIT_PERCENT for product in products}
        return {f"HFSS 3D Layout Design/{name}": value for name, value in own.items()} | limits

    def to_batch_options_string(self) -> str:
        """As one argument: `'name'='value'`, with blanks between."""
        return " ".join(f"'{name}'='{value}'" for name, value in self.to_batch_options_dict().items())


def read_pairs(options: str) -> list[tuple[str, str]]:
    """The options in such an argument, by their names."""
    return _PAIR.findall(options)


def _flag(*, is_set: bool) -> str:
    return "1" if is_set else "0"
