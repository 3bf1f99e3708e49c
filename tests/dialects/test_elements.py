"""Elements of arrays are known by the id of their array and an index from 0, however a scheduler writes that."""

from __future__ import annotations

import pytest

from jobmgr.dialects.dialect import Dialect
from jobmgr.dialects.lsf import Lsf
from jobmgr.dialects.lsf_order import Variant
from jobmgr.dialects.pbs import Flavour, Pbs
from jobmgr.dialects.shell import Shell
from jobmgr.dialects.slurm import Slurm

ELEMENTS = [
    (Slurm(), "12", 4, "12_4"),
    (Pbs(), "65[].pbs", 4, "65[4].pbs"),
    (Lsf(), "77", 4, "77[5]"),
]


@pytest.mark.parametrize(("dialect", "array", "index", "element"), ELEMENTS)
def test_element_and_its_array_are_known_from_one_another(
    dialect: Dialect, array: str, index: int, element: str
) -> None:
    assert dialect.element(array, index) == element
    assert dialect.array(element) == array
    assert dialect.array(array) == array


@pytest.mark.parametrize(
    ("dialect", "id_"), [(Slurm(), "12"), (Pbs(), "65.pbs"), (Lsf(), "77"), (Shell(), "12.3.4-5")]
)
def test_a_job_that_is_no_element_keeps_its_id(dialect: Dialect, id_: str) -> None:
    assert dialect.array(id_) == id_


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        (Slurm(array_cap=1001), ""),
        (Pbs(array_cap=10000), "keeps history"),
        (Pbs(Flavour.TORQUE, keeps_history=False), "keeps no history"),
        (Lsf(Variant.CLASSIC, array_cap=5), "classic options only"),
        (Shell(), ""),
    ],
)
def test_installation_is_told_in_words(dialect: Dialect, said: str) -> None:
    assert dialect.installation() == said
