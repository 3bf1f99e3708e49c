"""What jobs say does not become what a shell or a scheduler reads as its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from jobmgr.dialects import holder
from jobmgr.dialects.dialect import Order
from jobmgr.dialects.registry import dialect
from jobmgr.dialects.windows_hpc_order import job_file
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest
from jobmgr.executors import gate
from tests.security.guards import (
    BSUB_ARGUMENT,
    PLAIN_DIRECTIVE,
    PLAIN_REQUEST,
    QUOTED_WORD,
    SHELL_NAMES,
    WINDOWS_ARGUMENT,
    XML_TEXT,
    rests_on,
)

TOKEN = "0123456789abcdef"
TRAPS = ("$(touch canary)", "`touch canary`", "x & touch canary", ">canary")


def run(here: Path, element: holder.Element) -> None:
    """As a scheduler's node runs what was handed in, with `here` as its directory."""
    gate.make_with_run(element.control, element.run, TOKEN)
    script = holder.body(holder.describe(element), id_word="${TEST_ID-17}", restarts_word="0")
    subprocess.run(["sh"], input=script.encode(), cwd=here, capture_output=True, check=False, timeout=60)


def element(
    here: Path, *command: str, env: dict[str, str] | None = None, cwd: str | None = None
) -> holder.Element:
    return holder.Element(
        "lab", str(here / "control"), str(here / "run"), TOKEN, command, env=env or {}, cwd=cwd or str(here)
    )


@rests_on(QUOTED_WORD)
@pytest.mark.parametrize("trap", TRAPS)
def test_an_argument_is_no_command(tmp_path: Path, trap: str) -> None:
    run(tmp_path, element(tmp_path, "true", trap))

    assert not (tmp_path / "canary").exists()


@rests_on(QUOTED_WORD)
@pytest.mark.parametrize("trap", TRAPS)
def test_a_value_of_the_environment_is_no_command(tmp_path: Path, trap: str) -> None:
    run(tmp_path, element(tmp_path, "true", env={"A": trap}))

    assert not (tmp_path / "canary").exists()


@rests_on(QUOTED_WORD)
@pytest.mark.parametrize("trap", TRAPS)
def test_a_working_directory_is_no_command(tmp_path: Path, trap: str) -> None:
    run(tmp_path, element(tmp_path, "true", cwd=f"{tmp_path}/{trap}"))

    assert not (tmp_path / "canary").exists()


@rests_on(SHELL_NAMES)
def test_the_name_of_a_variable_is_no_command(tmp_path: Path) -> None:
    try:
        run(tmp_path, element(tmp_path, "true", env={"A=1; touch canary; B": "2"}))
    except InvalidRequest as refused:
        assert refused.field.startswith("env.")

    assert not (tmp_path / "canary").exists()


@rests_on(PLAIN_DIRECTIVE)
def test_a_request_adds_no_directive_of_slurm() -> None:
    assert "--uid" not in _script("slurm", "long\n#SBATCH --uid=0")


@rests_on(PLAIN_REQUEST)
def test_a_request_adds_no_directive_of_pbs() -> None:
    assert "-u root" not in _script("pbs", "long\n#PBS -u root")


@rests_on(BSUB_ARGUMENT)
@pytest.mark.parametrize("trap", ['lab" -u "root', "lab' -u 'root", "lab`id`", "lab\\"])
def test_a_request_adds_no_option_of_lsf(trap: str) -> None:
    script = _handed_in("lsf", Resources(directives=(f"-P {trap}",)), "resources.directives")

    assert trap not in script


@rests_on(XML_TEXT)
@pytest.mark.parametrize("trap", ['lab" UserName="root', "lab&#x22;"])
def test_a_request_adds_nothing_to_the_job_file_of_windows(trap: str) -> None:
    order = Order("jm-1", "true\n", "/o", "/e", "/", resources=Resources(account=trap))

    job = ET.fromstring(job_file(order, "true"))

    assert (job.get("Project"), job.get("UserName")) == (trap, None)


@rests_on(WINDOWS_ARGUMENT)
@pytest.mark.parametrize("trap", ['/w" & calc & "', "/w%PATH%", "/w\\", "/w|calc", "//h/w:calc"])
def test_a_path_is_one_argument_on_windows(trap: str) -> None:
    order = Order("jm-1", "true\n", "/o", "/e", "/")

    with pytest.raises(InvalidRequest, match="is no absolute path, or has one of"):
        dialect("windows_hpc").submit(f"{trap}/script", order)


def _script(kind: str, account: str) -> str:
    """What is handed in for an order of this account; nothing if it is refused."""
    return _handed_in(kind, Resources(account=account), "resources.account")


def _handed_in(kind: str, asked: Resources, field: str) -> str:
    """What is handed in for such an order; nothing if this field of it is refused."""
    try:
        return dialect(kind).script(Order("jm-1", "true\n", "/dev/null", "/dev/null", "/", resources=asked))
    except InvalidRequest as refused:
        assert refused.field == field
        return ""
