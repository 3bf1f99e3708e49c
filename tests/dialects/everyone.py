"""All dialects there are, in all their flavours."""

from __future__ import annotations

import pytest

from jobmgr.dialects.dialect import Dialect
from jobmgr.dialects.lsf import Lsf
from jobmgr.dialects.lsf_order import Variant
from jobmgr.dialects.pbs import Flavour, Pbs
from jobmgr.dialects.shell import Shell
from jobmgr.dialects.slurm import Slurm
from jobmgr.dialects.windows_hpc import WindowsHpc

DIALECTS: dict[str, Dialect] = {
    "slurm": Slurm(),
    "openpbs": Pbs(),
    "torque": Pbs(Flavour.TORQUE),
    "ibm": Lsf(),
    "classic": Lsf(Variant.CLASSIC),
    "windows_hpc": WindowsHpc(),
    "shell": Shell(),
}
ALL = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
