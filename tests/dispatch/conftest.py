"""A cluster for services."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dispatch.lab import Lab
from tests.slurm import Slurm


@pytest.fixture
def lab(slurm: Slurm, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A real SLURM and a database, without a service."""
    lab = Lab(slurm, database_url, tmp_path)
    monkeypatch.setenv("PATH", f"{lab.faults}:{slurm.environment['PATH']}")
    yield lab
    slurm.run(["scancel", "--me"])
