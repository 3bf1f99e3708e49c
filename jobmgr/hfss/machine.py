"""The machines of a run, as ansysedt is told of them."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from jobmgr.hfss.value import Value

_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class MachineNode(Value):
    """One machine: cores to use (-1: all), cores there are, and how many percent of them may be used."""

    hostname: str = "localhost"
    cores: Annotated[int, Meta(ge=-1)] = -1
    max_cores: Annotated[int, Meta(ge=1)] = 20
    utilization: Annotated[int, Meta(ge=1, le=100)] = 90

    def check(self) -> None:
        """As `Value`. What separates the parts of a machine list cannot be in a name."""
        self.insist(_HOST, "is no name of a machine; give letters, digits, dots and dashes", "hostname")

    def __str__(self) -> str:
        """As a machine list has it: `hostname:cores:max_cores:utilization%`."""
        return f"{self.hostname}:{self.cores}:{self.max_cores}:{self.utilization}%"


def machine_list(nodes: tuple[MachineNode, ...]) -> str:
    """What follows `-machinelist`; empty without machines."""
    return f"list={','.join(str(node) for node in nodes)}" if nodes else ""
