"""Command lines: those of the original, and what it did not quote."""

from __future__ import annotations

import platform
import re
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jobmgr.errors import InvalidConfig
from jobmgr.hfss import HFSSSimulationConfig, MachineNode, SchedulerType, command
from tests.hfss.recorded import CONFIGS, EDT

hostile = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize("recorded", CONFIGS, ids=lambda recorded: recorded["name"])
def test_the_command_line_is_that_of_the_original(recorded: dict[str, Any]) -> None:
    made = HFSSSimulationConfig(**recorded["fields"])

    assert made.generate_command_list() == recorded["list"]
    assert command.as_text(made, made.scheduler_type) == recorded["string"]
    assert command.as_windows_text(made, made.scheduler_type) == recorded["windows_string"]
    assert made.generate_machinelist_string() == recorded["machinelist"]
    assert made.generate_batch_options_string() == recorded["batch_options"]
    assert made.generate_design_string() == recorded["design"]


@pytest.mark.skipif(platform.system() == "Windows", reason="the line is for a POSIX shell")
def test_the_text_is_for_the_shell_of_this_machine() -> None:
    made = HFSSSimulationConfig(project_path="a b.aedt", ansys_edt_path=EDT)

    assert str(made) == made.generate_command_string() == command.as_text(made, SchedulerType.NONE)


@given(hostile, hostile, hostile)
def test_no_text_becomes_syntax_of_a_shell(project: str, design: str, setup: str) -> None:
    try:
        made = HFSSSimulationConfig(
            project_path=f"{project}.aedt",
            ansys_edt_path="/opt/a;b/ansysedt",
            design_name=design,
            setup_name=setup,
        )
    except InvalidConfig:
        assume(False)
    line = command.as_text(made, SchedulerType.NONE)

    expected = made.generate_command_list()
    expected = expected if design else [word for word in expected if word != made.generate_design_string()]
    assert shlex.split(line) == expected


def test_a_shell_finds_the_very_arguments_of_the_list() -> None:
    made = HFSSSimulationConfig(
        project_path="$(x) `y`;&'\".aedt",
        ansys_edt_path="/opt/a b/ansysedt",
        design_name="d; rm -rf $HOME",
        machine_nodes=[MachineNode(hostname="n1")],  # type: ignore[arg-type]
    )

    told = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {made}"], capture_output=True, check=True, text=True
    ).stdout

    assert told.split("\0")[:-1] == made.generate_command_list()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"project_path": '"&calc&".aedt'}, "project_path"),
        ({"project_path": "%PATH%.aedt"}, "project_path"),
        ({"ansys_edt_path": "C:\\a\ncalc\\ansysedt.exe"}, "ansys_edt_path"),
        ({"design_name": 'd" & calc'}, "design_name"),
    ],
)
def test_what_windows_cannot_quote_is_refused(fields: dict[str, str], field: str) -> None:
    made = HFSSSimulationConfig(**{"project_path": "a.aedt", "ansys_edt_path": "a", **fields})  # type: ignore[arg-type]

    with pytest.raises(InvalidConfig, match=rf"^{field}: .*cannot quote"):
        command.as_windows_text(made, SchedulerType.NONE)


@given(hostile, hostile)
def test_no_text_becomes_syntax_of_windows(project: str, design: str) -> None:
    try:
        made = HFSSSimulationConfig(
            project_path=f"C:\\w\\{project}.aedt", ansys_edt_path=EDT, design_name=design
        )
        line = command.as_windows_text(made, SchedulerType.SLURM)
    except InvalidConfig:
        return

    # Whatever is outside of quotes is plain, and nothing inside of them is more than text.
    assert re.fullmatch(r"[A-Za-z0-9_@%+=:,./ -]*", re.sub(r'"[^"%!$`\n\r]*"', "", line))
    assert line.count('"') % 2 == 0
