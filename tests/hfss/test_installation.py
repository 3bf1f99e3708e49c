"""Which installation of ANSYS is found."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from jobmgr.errors import InvalidConfig, PathNotFound
from jobmgr.hfss import HFSSSimulationConfig
from jobmgr.hfss.installation import NEWEST, find, installations, select
from jobmgr.hfss.job import new_job

KNOWN = {
    "ANSYSEM_ROOT241": "/a/v241",
    "ansysem_root252": "/a/v252/",
    "AnsysEM_Root251": "/a/v251",
    "PATH": "/bin",
}


def test_all_versions_are_found_oldest_first() -> None:
    others = {
        "ANSYSEM_ROOT2": "/x",
        "ANSYSEM_ROOT9999": "/x",
        "XANSYSEM_ROOT999": "/x",
        "ANSYSEM_ROOT300": "",
    }
    found = installations(KNOWN | others)

    assert [(each.version, each.root) for each in found] == [
        ("241", "/a/v241"), ("251", "/a/v251"), ("252", "/a/v252"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "root"),
    [
        (None, "/a/v252"),
        ("241", "/a/v241"),
        ("24.1", "/a/v241"),
        ("2024.1", "/a/v241"),
        ("2025R1", "/a/v251"),
        ("2025 R2", "/a/v252"),
    ],
)
def test_a_version_is_chosen_as_it_is_written_and_else_the_newest(version: str | None, root: str) -> None:
    assert select(installations(KNOWN), version).root == root


def test_a_version_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(
        InvalidConfig, match=r"^ansys_edt_path: version '2023.1' .*241, 251, 252.*ANSYSEM_ROOT231"
    ):
        select(installations(KNOWN), "2023.1")
    with pytest.raises(InvalidConfig, match=r"^ansys_edt_path: no ANSYS .* give its path"):
        select(())


def test_a_program_that_is_missing_is_said_and_an_older_one_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "v251").mkdir()
    old = tmp_path / "v251" / "ansysedt"
    old.touch()
    environ = {"ANSYSEM_ROOT251": str(tmp_path / "v251"), "ANSYSEM_ROOT252": str(tmp_path / "v252")}

    assert find(environ, "2025.1") == str(old)
    with pytest.raises(
        PathNotFound, match=r"^ansys_edt_path: ANSYSEM_ROOT252 names .*v252, where no ansysedt is"
    ):
        find(environ)


@pytest.mark.parametrize("given", ["", None])
def test_a_configuration_takes_the_newest(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ansysedt").touch()
    monkeypatch.setenv("ANSYSEM_ROOT999", str(tmp_path))

    made = HFSSSimulationConfig(project_path="a.aedt", ansys_edt_path=given)  # type: ignore[arg-type]

    assert made.ansys_edt_path == str(tmp_path / "ansysedt")


def test_a_configuration_may_leave_it_to_the_machine_that_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for installation in installations(os.environ):
        monkeypatch.delenv(installation.variable)
    made = HFSSSimulationConfig(project_path="/p/a.aedt", ansys_edt_path=NEWEST)
    read = HFSSSimulationConfig.from_dict(made.to_dict())

    with pytest.raises(InvalidConfig, match=rf"^ansys_edt_path: no ANSYS .* known on {platform.node()}"):
        made.generate_command_list()
    assert "ansys_edt_path='newest'" in str(made)

    (tmp_path / "ansysedt").touch()
    monkeypatch.setenv("ANSYSEM_ROOT999", str(tmp_path))
    program = str(tmp_path / "ansysedt")
    stored = new_job(read, user="ann")
    assert made.ansys_edt_path == read.ansys_edt_path == "newest"
    assert made.generate_command_list()[0] == made.program == program
    assert made.generate_command_string().startswith(f"{program} ")
    assert f"{tmp_path}/schedulers/scripts/utils/" in made.generate_slurm_script()
    # What is stored tells what has run, whatever is installed later.
    assert stored.payload is not None
    assert (stored.spec.command[0], stored.payload["ansys_edt_path"]) == (program, program)
