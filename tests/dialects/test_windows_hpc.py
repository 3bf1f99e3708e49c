"""Windows HPC: what Microsoft documents. The answers here are written after those documents, none is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.dialects.dialect import (
    Answer,
    Cause,
    Command,
    Compliance,
    Dialect,
    Doubtful,
    NotUnderstood,
    Order,
    Phase,
    Refused,
    Submitted,
    Wish,
)
from jobmgr.dialects.windows_hpc import WindowsHpc
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest
from tests import hpcpack
from tests.dialects import shell

HPC: Dialect = WindowsHpc()
ORDER = Order("jm-0123abcd", "run it\n", "//h/w/j 1/out", "//h/w/j 1/err", "//h/w/j 1")
SPACE = "{http://schemas.microsoft.com/HPCS2008R2/scheduler/}"
EVERYTHING = Resources(
    cpus=1, memory_bytes=1, walltime_s=1, partition="p", account="a", exclusive=True, licenses=("l",), mail_to="m",
    mail_on=("begin", "end"),
    directives=("/jobtemplate:a", "/nodegroupop:Union", "/orderby:Cores", "/priority:1", "/requestednodes:n"),
)  # fmt: skip
LIST = """\
Id                               : 35
Owner                            : LAB\\ann
Name                             : jm-0123abcd
State                            : Running
Priority                         : Normal

Id                               : 36
Owner                            : LAB\\ann
Name                             : jm-0123abce
State                            : Canceled
Priority                         : Normal

2 matching jobs for LAB\\ann
"""


def job_file(order: Order) -> ET.Element:
    """The job file that is handed in with a script."""
    return ET.fromstring(HPC.submit("//h/w/c 1/script", order).argv[-1])


def asked(**resources: Any) -> dict[str, str]:
    """The attributes of a job that asks for `resources`, without what every one has."""
    order = replace(ORDER, resources=Resources(**resources))
    plain = job_file(ORDER).items()
    return {name: value for name, value in job_file(order).items() if (name, value) not in plain}


def said(command: Command) -> tuple[str, ...]:
    """A program and its arguments, as a shell runs them."""
    assert command.argv[:2] == ("sh", "-c")
    assert command.argv[2].endswith('exec "$@"')
    return command.argv[4:]


def test_a_submission_is_a_job_file_beside_the_script() -> None:
    command = HPC.submit("//h/w/c 1/script", ORDER)

    assert command.argv[-1] == (
        "<?xml version='1.0' encoding='us-ascii'?>\n"
        '<Job xmlns="http://schemas.microsoft.com/HPCS2008R2/scheduler/" Version="3.000" Name="jm-0123abcd">\n'
        "  <Dependencies />\n"
        "  <Tasks>\n"
        '    <Task Version="3.000" CommandLine="sh &quot;//h/w/c 1/script&quot;" IsRerunnable="false" />\n'
        "  </Tasks>\n"
        "</Job>"
    )
    assert command.argv[-2] == "//h/w/c 1/script"


def test_a_script_is_for_a_shell() -> None:
    script = HPC.script(ORDER)

    assert script.startswith("#!/bin/sh\nexec >>'//h/w/j 1/out' 2>>'//h/w/j 1/err' || exit 1\n")
    assert "\ncd -- '//h/w/j 1' || exit 1\n" in script
    assert script.endswith("\nrun it\n")


def test_the_id_is_read_from_the_documented_words() -> None:
    assert HPC.submitted(Answer(0, "Job has been submitted. ID: 497979.\n")) == Submitted("497979")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(1, "", "The node group 'x' does not exist."), Refused),
        (Answer(1, "", "Access is denied."), Refused),
        (Answer(1, "", "Could not connect to the scheduler; the name is not valid."), Doubtful),
        (Answer(0, "Done."), Doubtful),
        (Answer(1, "Job has been submitted. ID: 7.\n"), Doubtful),
        (Answer(1), Doubtful),
        (Answer(None), Doubtful),
    ],
)
def test_a_refusal_is_known_by_its_words_and_anything_else_is_doubtful(answer: Answer, kind: type) -> None:
    assert isinstance(HPC.submitted(answer), kind)


def test_jobs_are_found_by_their_whole_name_also_ended_ones() -> None:
    listing = HPC.found(["jm-0123abcd"], [Answer(0, LIST)])

    (command,) = HPC.find(["jm-0123abcd"])
    assert said(command) == ("job", "list", "/format:list", "/jobname:jm-0123abcd", "/all")
    assert listing.complete
    assert [(job.id, job.phase, job.cause) for job in listing.jobs] == [("35", Phase.RUNNING, None)]
    (several,) = HPC.find(["jm-0123abcd", "jm-4567"])
    assert said(several) == ("job", "list", "/format:list", "/all")


def test_all_jobs_are_looked_at_with_one_command() -> None:
    listing = HPC.seen([Answer(0, LIST)])

    assert len(HPC.look(["35", "36"])) == 1
    assert [(job.id, job.word, job.cause) for job in listing.jobs][1] == ("36", "Canceled", Cause.CANCELLED)
    assert HPC.seen([Answer(0, "0 matching jobs for LAB\\ann\n")]).complete


@pytest.mark.parametrize(
    "answer",
    [
        Answer(0, ""),
        Answer(0, LIST.replace("2 matching", "3 matching")),
        Answer(0, LIST.partition("2 matching")[0]),
        Answer(0, LIST.replace(": 36", ": ?")),
        Answer(1, LIST, "timeout"),
        Answer(None, LIST),
    ],
)
def test_a_listing_without_its_full_count_is_not_complete(answer: Answer) -> None:
    assert not HPC.seen([answer]).complete


def test_an_unheard_of_state_is_unknown_and_not_an_end() -> None:
    (job, _) = HPC.seen([Answer(0, LIST.replace("Running", "Dreaming"))]).jobs

    assert (job.phase, job.cause) == (Phase.UNKNOWN, None)


@pytest.mark.parametrize(
    ("resources", "attributes"),
    [
        ({"cpus": 4}, {"UnitType": "Core", "MinCores": "4", "MaxCores": "4", "SingleNode": "true"}),
        ({"tasks": 3, "cpus": 2}, {"UnitType": "Core", "MinCores": "6", "MaxCores": "6"}),
        ({"nodes": 2}, {"UnitType": "Node", "MinNodes": "2", "MaxNodes": "2"}),
        ({"nodes": 2, "tasks": 5, "cpus": 2},
         {"UnitType": "Node", "MinNodes": "2", "MaxNodes": "2", "MinCoresPerNode": "6"}),
        ({"memory_bytes": 2**30 + 1}, {"MinMemory": "1025"}),
        ({"walltime_s": 90_060.5}, {"RuntimeSeconds": "90061"}),
        ({"partition": "fast,Head Nodes", "account": "p & q"}, {"NodeGroups": "fast,Head Nodes", "Project": "p & q"}),
        ({"licenses": ("ansys:2", "hfss")}, {"SoftwareLicense": "ansys:2,hfss:1"}),
        ({"exclusive": True}, {"IsExclusive": "true"}),
        ({"mail_to": "a@x.org", "mail_on": ("begin", "end")},
         {"EmailAddress": "a@x.org", "NotifyOnStart": "true", "NotifyOnCompletion": "true"}),
        ({"directives": ("/priority:High", "/jobtemplate:fast")}, {"Priority": "High", "JobTemplate": "fast"}),
    ],
)  # fmt: skip
def test_resources_are_said_as_documented(resources: dict[str, Any], attributes: dict[str, str]) -> None:
    said = asked(**resources)

    counted = {name: "false" for name in ("AutoCalculateMin", "AutoCalculateMax") if "UnitType" in attributes}
    assert said == attributes | counted


def test_the_only_task_gets_all_that_its_job_has() -> None:
    job = job_file(replace(ORDER, resources=Resources(cpus=4)))
    (task,) = job.iter(f"{SPACE}Task")

    for name in ("UnitType", "MinCores", "MaxCores"):
        assert task.get(name) == job.get(name) is not None


def test_attributes_are_those_that_are_documented() -> None:
    job = job_file(replace(ORDER, resources=EVERYTHING))
    nodes = job_file(replace(ORDER, resources=replace(EVERYTHING, nodes=2, tasks=4)))

    (task,) = job.iter(f"{SPACE}Task")
    (task_on_nodes,) = nodes.iter(f"{SPACE}Task")
    assert set(job.keys()) | set(nodes.keys()) == hpcpack.JOB
    assert set(task.keys()) | set(task_on_nodes.keys()) == hpcpack.TASK


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("elements", {"elements": 3}),
        ("is_held", {"is_held": True}),
        ("name", {"name": "a*"}),
        ("resources.gpus", {"resources": Resources(gpus=1)}),
        ("resources.qos", {"resources": Resources(qos="q")}),
        ("resources.memory_per_cpu", {"resources": Resources(memory_per_cpu_bytes=1)}),
        ("resources.partition", {"resources": Resources(partition="a\nb")}),
        ("resources.account", {"resources": Resources(account=" ")}),
        ("resources.modules", {"resources": Resources(modules=("gcc",))}),
        ("resources.mail_on", {"resources": Resources(mail_on=("fail",))}),
        ("resources.directives", {"resources": Resources(directives=("/user:x",))}),
        ("resources.directives", {"resources": Resources(directives=("/priority:1\n",))}),
        ("resources.directives", {"resources": Resources(directives=("/rerunnable:true",))}),
    ],
)
def test_what_windows_hpc_cannot_say_is_refused_with_the_field(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        HPC.script(replace(ORDER, **change))

    assert refused.value.field == field


@pytest.mark.parametrize(
    "path",
    [
        "script",
        r"C:\w\script",
        '//h/w/a" /x "',
        "//h/w/%PATH%/script",
        "//h/w/a\nb",
        "//h/w/*/s",
        "//h/w/" + "x" * 480,
    ],
)
def test_a_path_that_a_command_line_of_windows_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        HPC.submit(path, ORDER)

    assert refused.value.field == "work_dir"


_TEXTS = st.text(max_size=20) | st.sampled_from(
    ["a&b", '"/><Task CommandLine="calc"/>', "&#10;", "%PATH%", "/priority:1", "]]>", "é\u2028", "a b", 'a"b']
)


@given(
    values=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("partition", "account", "mail_to"), _TEXTS)
        | {name: st.lists(_TEXTS, max_size=3).map(tuple) for name in ("licenses", "directives", "mail_on")}
        | {name: st.integers(1, 99) for name in ("nodes", "tasks", "cpus", "memory_bytes")},
    )
)
def test_no_value_is_more_than_the_value_of_its_attribute(values: dict[str, Any]) -> None:
    try:
        job = job_file(replace(ORDER, resources=Resources(**values)))
    except InvalidRequest as refused:
        assert refused.field
        return

    assert [element.tag.removeprefix(SPACE) for element in job.iter()] == [
        "Job",
        "Dependencies",
        "Tasks",
        "Task",
    ]
    assert set(job.keys()) <= hpcpack.JOB
    for field, name in (("partition", "NodeGroups"), ("account", "Project"), ("mail_to", "EmailAddress")):
        assert job.get(name) == values.get(field)


def test_jobs_are_cancelled_each_and_not_held(tmp_path: Path) -> None:
    command = HPC.ask(Wish.CANCEL, ["35", "36"])
    shell.install(tmp_path / "bin", "job", 'echo "<$*>"; [ "$2" != 35 ] || exit 3')

    assert command is not None
    done = shell.run(command, tmp_path / "bin", {}, check=False)
    assert (done.stdout, done.returncode) == ("<cancel 35>\n<cancel 36>\n", 3)
    assert HPC.ask(Wish.HOLD, ["35"]) is None
    with pytest.raises(ValueError, match="numbers"):
        HPC.ask(Wish.CANCEL, ["35; calc"])


@pytest.mark.parametrize(("priority", "said"), [(0, "2000"), (-9999, "0"), (9999, "4000")])
def test_a_priority_is_kept_within_what_is_documented(tmp_path: Path, priority: int, said: str) -> None:
    command = HPC.prioritise(priority, ["35", "36"])
    shell.install(tmp_path / "bin", "job", 'echo "<$*>"')

    assert command is not None
    done = shell.run(command, tmp_path / "bin", {})
    assert done.stdout == f"<modify 35 /priority:{said}>\n<modify 36 /priority:{said}>\n"


@pytest.mark.parametrize(
    ("answer", "compliance"),
    [
        (Answer(0, ""), Compliance.DONE),
        (Answer(1, "", "The job was not found."), Compliance.GONE),
        (Answer(1, "", "Access is denied."), Compliance.REFUSED),
        (Answer(1, "", "Could not connect."), Compliance.DOUBTFUL),
        (Answer(1, "", ""), Compliance.DOUBTFUL),
        (Answer(None), Compliance.DOUBTFUL),
    ],
)
def test_what_became_of_a_wish(answer: Answer, compliance: Compliance) -> None:
    assert HPC.complied(answer) is compliance


def test_groups_nodes_and_version_are_read() -> None:
    nodes = Answer(
        0, "Node Name : N1\nState : Online\nNumber Of Cores : 8\n\nNode Name : N2\nState : Offline\n"
    )

    assert [group.name for group in HPC.read_partitions(Answer(0, "\n\nName : ComputeNodes\n\nName : Big\n\n"))] == [
        "ComputeNodes", "Big",
    ]  # fmt: skip
    assert [(node.name, node.is_up, node.cpus) for node in HPC.read_nodes(nodes)] == [
        ("N1", True, 8),
        ("N2", False, None),
    ]
    assert (
        HPC.read_version(Answer(0, "Cluster Name : C\nVersion : 5.3.6450.0\n"))
        == "Windows HPC Pack 5.3.6450.0"
    )
    assert HPC.read_version(Answer(1, "", "'cluscfg' is not recognized")) is None
    with pytest.raises(NotUnderstood, match="Could not connect"):
        HPC.read_nodes(Answer(1, "", "Could not connect."))
