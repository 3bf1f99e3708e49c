"""Which programs a client may name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobmgr.errors import InvalidConfig
from jobmgr.hfss.program import Programs
from tests.hfss.installed import install

UID = os.getuid()


def check(programs: Programs, path: str | Path, **environ: str) -> str:
    return programs.check(str(path), environ)


def is_refused(programs: Programs, path: str | Path, **environ: str) -> bool:
    try:
        check(programs, path, **environ)
    except InvalidConfig as error:
        assert error.field == "ansys_edt_path"
        return True
    return False


def test_installation_may_be_named(tmp_path: Path) -> None:
    program = install(tmp_path / "v252", "")

    # None of the service's user, whoever runs this test.
    programs = Programs(uid=UID + 1)

    assert is_refused(programs, program)
    assert not is_refused(programs, program, ANSYSEM_ROOT252=str(tmp_path / "v252"))


def test_what_belongs_to_the_services_user_may_be_named(tmp_path: Path) -> None:
    program = install(tmp_path / "own", "")

    assert not is_refused(Programs(uid=UID), program)
    assert is_refused(Programs(uid=UID), tmp_path / "nothing")
    assert is_refused(Programs(uid=None), program)


def test_programs_of_root_are_not_the_services_own(tmp_path: Path) -> None:
    program = install(tmp_path / "v252", "")

    assert is_refused(Programs.of(None, 0), "/bin/sh")
    assert not is_refused(Programs.of(None, 0), program, ANSYSEM_ROOT252=str(tmp_path / "v252"))


def test_who_a_link_leads_to_counts(tmp_path: Path) -> None:
    program = install(tmp_path / "v252", "")
    link = tmp_path / "link"
    link.symlink_to("/bin/sh")

    assert is_refused(Programs(named=(str(tmp_path),)), link)
    assert not is_refused(Programs(named=(str(tmp_path),)), program)


def test_answer_has_no_link_of_the_client(tmp_path: Path) -> None:
    program = install(tmp_path / "disk", "")
    (tmp_path / "v252").symlink_to("disk")
    root = str(tmp_path / "v252")
    link = tmp_path / "link"
    link.symlink_to(program)

    # By its own path: its launcher is looked for below that.
    assert check(Programs(), link, ANSYSEM_ROOT252=root) == f"{root}/ansysedt"
    assert check(Programs(), f"{root}/ansysedt", ANSYSEM_ROOT252=root) == f"{root}/ansysedt"
    assert check(Programs(named=(root,)), link) == program


def test_setting_is_the_whole_list(tmp_path: Path) -> None:
    program = install(tmp_path / "own", "")
    programs = Programs.of(f"/cluster/ansys{os.pathsep}{tmp_path}/one", UID)

    assert is_refused(programs, program, ANSYSEM_ROOT252=str(tmp_path / "own"))
    assert not is_refused(programs, "/cluster/ansys/v252/ansysedt")
    assert not is_refused(programs, tmp_path / "one")
    assert is_refused(programs, "/cluster/ansys2/ansysedt")
    assert is_refused(programs, "/cluster/ansys/../sh")


def test_relative_path_names_nothing() -> None:
    with pytest.raises(InvalidConfig, match="absolute path"):
        check(Programs(named=("/",)), "ansysedt")
