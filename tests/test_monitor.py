"""The GPUs of a machine: those its user lets programs see, else those with device files."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobmgr.monitor import machine


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("0", ("0",)),
        ("2,0", ("2", "0")),
        ("GPU-8932f937, MIG-GPU-1/7/0", ("GPU-8932f937", "MIG-GPU-1/7/0")),
        ("", ()),
        (" ", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,-1,1", ("0",)),
        ("0,1,0", ("0", "1")),
    ],
)
def test_gpus_are_those_that_are_visible(visible: str, names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "nvidia7").touch()

    assert machine({"CUDA_VISIBLE_DEVICES": visible}, tmp_path).gpus == names


def test_gpus_are_numbered_as_cuda_does_if_nothing_says_which_are_visible(tmp_path: Path) -> None:
    for name in ("nvidia1", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "nvidia3x", "null"):
        (tmp_path / name).touch()

    assert machine({}, tmp_path).gpus == ("0", "1", "2")


def test_machine_without_device_files_has_no_gpus(tmp_path: Path) -> None:
    assert machine({}, tmp_path).gpus == ()
