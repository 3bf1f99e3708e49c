"""The tables of docs/executors.md say what the dialects say: each cell is compared with what is written for its row."""

from __future__ import annotations

import itertools
import re
import string
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree as ET

import msgspec
import pytest

from jobmgr.cli import assignments
from jobmgr.dialects import registry, request
from jobmgr.dialects.dialect import Dialect, Order
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest
from jobmgr.wire.requests import Kind
from jobmgr.wire.resources import ResourcesAsked, to_resources
from tests.dialects.everyone import DIALECTS

DOCUMENT = (Path(__file__).parent.parent.parent / "docs" / "executors.md").read_text()
COLUMNS = {
    "SLURM": "slurm",
    "PBS": "openpbs",
    "`qsub` of SLURM": "torque",
    "LSF": "ibm",
    "classic LSF": "classic",
    "Windows HPC": "windows_hpc",
}
ORDER = Order("TOKEN", "", "/w/out", "/w/err", "/w/run")
SUBMISSIONS: dict[str, dict[str, Any]] = {
    "every job": {},
    "held at first": {"is_held": True},
    "array of 8": {"elements": 8},
}
_PREFIX = re.compile(r"#(?:SBATCH|PBS|BSUB) (.+)")
_CODE = re.compile(r"`([^`]+)`")


def rows(heading: str) -> dict[str, dict[str, str]]:
    """The rows of the table whose first heading is this, by their first cell: what stands below each heading."""
    lines = DOCUMENT.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()
    headings = [heading, *_cells(lines[0])]
    return {cells[0]: dict(zip(headings, cells, strict=True)) for cells in map(_cells, lines[2:])}


def _cells(line: str) -> list[str]:
    return (
        [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|")
        else _cells(f"|{line}")
    )


def said(dialect: Dialect, order: Order) -> list[str]:
    """Each option that a scheduler gets with an order."""
    script, command = dialect.script(order), dialect.submit("/w/script", order)
    options = [match[1] for line in script.splitlines() if (match := _PREFIX.fullmatch(line))]
    if dialect.name == "windows_hpc":
        job = ET.fromstring(command.argv[-1])
        task = next(job.iter("{http://schemas.microsoft.com/HPCS2008R2/scheduler/}Task"))
        own = [item for item in task.items() if item not in job.items()]
        return [f'{name}="{value}"' for name, value in (*job.items(), *own) if name != "Version"]
    if not options:
        words = " ".join(command.argv[4:-1])
        options = re.split(r" (?=-[A-Za-z] |-h)", words)
    return options


def cell(dialect: Dialect, order: Order, without: Order | None = None) -> str:
    """What the document has to say."""
    try:
        options = Counter(said(dialect, order))
    except InvalidRequest:
        return "refused"
    if without is not None:
        options -= Counter(said(dialect, without))
    return ", ".join(f"`{option}`" for option in options)


def resources(texts: list[str]) -> Resources:
    """What `jobmgr submit -R TEXT -R TEXT` asks for."""
    asked = msgspec.convert(assignments.fields(texts, ResourcesAsked, "-R"), ResourcesAsked)
    return to_resources(asked, "resources.")


@pytest.mark.parametrize("column", COLUMNS)
def test_submissions_are_what_the_document_says(column: str) -> None:
    dialect = DIALECTS[COLUMNS[column]]
    expected = {
        row: cell(dialect, replace(ORDER, **change), ORDER if change else None)
        for row, change in SUBMISSIONS.items()
    }

    assert {row: cells[column] for row, cells in rows("submission").items()} == expected


@pytest.mark.parametrize("column", COLUMNS)
def test_options_are_what_the_document_says(column: str) -> None:
    dialect = DIALECTS[COLUMNS[column]]
    table = rows("asked for")

    expected = {
        row: cell(dialect, replace(ORDER, resources=resources(_CODE.findall(row))), ORDER) for row in table
    }

    assert {row: cells[column] for row, cells in table.items()} == expected
    assert all(expected.values()), "dropped in silence"


def test_every_resource_has_a_row() -> None:
    """But what the script does itself, and options in the scheduler's own words, which have a table of their own."""
    asked = {text.partition("=")[0] for row in rows("asked for") for text in _CODE.findall(row)}

    known = {request.asked_as(field.name) for field in fields(Resources)}
    assert asked == known - {"modules", "setup", "directives"}


# Source: sbatch(1), Slurm 22.05; of those that are passed on some.
_SBATCH_OPTIONS = [
    "acctg-freq", "begin", "comment", "contiguous", "core-spec", "cores-per-socket", "cpu-freq", "deadline",
    "dependency", "distribution", "exclude", "gres", "gres-flags", "hint", "kill-on-invalid-dep", "mem-bind",
    "network", "nice", "nodelist", "no-kill", "ntasks-per-node", "oversubscribe", "power", "priority", "reboot",
    "signal", "sockets-per-node", "spread-job", "switches", "threads-per-core", "time-min", "tmp", "wckey",
]  # fmt: skip
# Of the schedulers whose options are listed: how one is written with a value, and what could be one.
_WORDS = [
    "".join(letters) for count in (1, 2) for letters in itertools.product(string.ascii_letters, repeat=count)
]
_LONG_WORDS = [
    "app",
    "cwd",
    "data",
    "env",
    "ext",
    "gpu",
    "hl",
    "jsdl",
    "oo",
    "pack",
    "rnc",
    "sla",
    "ti",
    "tty",
    "wa",
    "wt",
]
# Source: "job submit", HPC Pack 2012 R2.
_HPC_OPTIONS = [
    "askednodes", "corespernode", "customproperties", "emailaddress", "env", "estimatedprocessmemory",
    "exclusive", "faildependenttasks", "failontaskfailure", "holduntil", "id", "jobenv", "jobfile", "jobname",
    "jobtemplate", "license", "memorypernode", "name", "nodegroup", "nodegroupop", "notifyoncompletion",
    "notifyonstart", "numcores", "numnodes", "numprocessors", "numsockets", "orderby", "parametric",
    "parentjobids", "password", "priority", "progress", "progressmsg", "projectname", "requestednodes",
    "requirednodes", "rerunnable", "runtime", "rununtilcanceled", "scheduler", "singlenode", "stderr", "stdin",
    "stdout", "taskexecutionfailureretrylimit", "type", "user", "validexitcodes", "workdir",
]  # fmt: skip

# Source: qsub(1B), "-W", and pbs_job_attributes(7B), OpenPBS 23.06; of those that have options of their own some.
_PBS_ATTRIBUTES = [
    "Account_Name", "block", "create_resv_from_job", "cred", "depend", "Error_Path", "Execution_Time", "group_list",
    "Hold_Types", "interactive", "Job_Name", "Join_Path", "Keep_Files", "max_run_subjobs", "no_stdio_sockets",
    "Output_Path", "pwd", "release_nodes_on_stageout", "Rerunable", "run_count", "sandbox", "Shell_Path_List",
    "stagein", "stageout", "tolerate_node_failures", "umask", "Variable_List",
]  # fmt: skip


def _candidates(key: str) -> Iterator[tuple[str, str]]:
    """Options, and each with a value."""
    if key == "windows_hpc":
        yield from ((f"/{word}", f"/{word}:x") for word in _HPC_OPTIONS)
    else:
        yield from ((f"-{word}", f"-{word} x") for word in [*_WORDS, *_LONG_WORDS])
        yield from ((f"-W {name}=", f"-W {name}=22") for name in _PBS_ATTRIBUTES if key == "pbs")


def _is_said(dialect: Dialect, text: str) -> bool:
    try:
        dialect.script(replace(ORDER, resources=Resources(directives=(text,))))
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize("column", list(COLUMNS)[1:])
def test_options_in_the_schedulers_own_words_are_those_of_the_document(column: str) -> None:
    dialect = DIALECTS[COLUMNS[column]]

    said = [option for option, text in _candidates(dialect.name) if _is_said(dialect, text)]

    (cells,) = rows("own words").values()
    assert sorted(_CODE.findall(cells[column])) == sorted(said)
    assert said or cells[column] == "refused"


def test_options_of_sbatch_are_passed_on_except_those_of_the_document() -> None:
    (cells,) = rows("own words").values()
    form, *taken = _CODE.findall(cells["SLURM"])
    slurm = DIALECTS["slurm"]

    assert form == "--option=value"
    assert not _is_said(slurm, "-n5")
    assert [name for name in _SBATCH_OPTIONS if not _is_said(slurm, f"--{name}=5")] == []
    assert [option for option in taken if _is_said(slurm, f"{option}=5") or _is_said(slurm, option)] == []
    assert taken == sorted(taken) != []


def test_every_kind_of_site_has_its_dialect() -> None:
    assert {registry.dialect(kind).name for kind in get_args(Kind)} == set(get_args(Kind))
    assert {*registry.schedulers(), "shell"} == set(get_args(Kind))
    assert {dialect.name for dialect in DIALECTS.values()} == set(get_args(Kind))
