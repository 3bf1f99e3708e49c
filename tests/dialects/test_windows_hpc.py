"""Windows HPC: what Microsoft documents. The answers here are written after those documents, none is recorded."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

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

HPC: Dialect = WindowsHpc()
ORDER = Order("jm-0123abcd", "rem gate\ncall run-it\n", r"\\h\w\j 1\out", r"\\h\w\j 1\err", r"C:\w\j 1")
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


def options(**resources: Any) -> list[str]:
    """The options of a submission that asks for `resources`, without what every one has."""
    command = HPC.submit(r"C:\w\s.cmd", replace(ORDER, resources=Resources(**resources)))
    return list(command.argv[7:-3])


def test_a_submission_is_one_command_line_with_the_script() -> None:
    command = HPC.submit(r"C:\w\s.cmd", ORDER)

    assert command.argv == (
        "job", "submit", "/jobname:jm-0123abcd", "/rerunnable:false",
        r"/stdout:\\h\w\j 1\out", r"/stderr:\\h\w\j 1\err", r"/workdir:C:\w\j 1", "cmd", "/c", r"C:\w\s.cmd",
    )  # fmt: skip


def test_a_script_is_for_cmd() -> None:
    assert HPC.script(ORDER) == '@echo off\r\ncd /d "C:\\w\\j 1" || exit /b 1\r\nrem gate\r\ncall run-it\r\n'


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
    listing = HPC.found("jm-0123abcd", [Answer(0, LIST)])

    assert HPC.find("jm-0123abcd") == (
        Command(("job", "list", "/format:list", "/jobname:jm-0123abcd", "/all")),
    )
    assert listing.complete
    assert [(job.id, job.phase, job.cause) for job in listing.jobs] == [("35", Phase.RUNNING, None)]


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
    ("resources", "said"),
    [
        ({"cpus": 4}, ["/numcores:4", "/singlenode:true"]),
        ({"tasks": 3, "cpus": 2}, ["/numcores:6"]),
        ({"nodes": 2}, ["/numnodes:2"]),
        ({"nodes": 2, "tasks": 5, "cpus": 2}, ["/numnodes:2", "/corespernode:6"]),
        ({"memory_bytes": 2**30 + 1}, ["/memorypernode:1025"]),
        ({"walltime_s": 90_061}, ["/runtime:25:02"]),
        ({"partition": "fast,big", "account": "p1"}, ["/nodegroup:fast,big", "/projectname:p1"]),
        ({"licenses": ("ansys:2", "hfss")}, ["/license:ansys:2,hfss:1"]),
        ({"exclusive": True}, ["/exclusive:true"]),
        ({"mail_to": "a@x.org", "mail_on": ("begin", "end")},
         ["/emailaddress:a@x.org", "/notifyonstart:true", "/notifyoncompletion:true"]),
        ({"directives": ("/priority:High", "/jobtemplate:fast")}, ["/priority:High", "/jobtemplate:fast"]),
    ],
)  # fmt: skip
def test_resources_are_said_as_documented(resources: dict[str, Any], said: list[str]) -> None:
    assert options(**resources) == said


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("elements", {"elements": 3}),
        ("is_held", {"is_held": True}),
        ("name", {"name": "a*"}),
        ("cwd", {"cwd": "relative"}),
        ("cwd", {"cwd": r"C:\a%PATH%"}),
        ("stdout", {"stdout": r'C:\a" /user:x'}),
        ("resources.gpus", {"resources": Resources(gpus=1)}),
        ("resources.qos", {"resources": Resources(qos="q")}),
        ("resources.memory_per_cpu", {"resources": Resources(memory_per_cpu_bytes=1)}),
        ("resources.partition", {"resources": Resources(partition="a&calc")}),
        ("resources.partition", {"resources": Resources(partition="a /user:x")}),
        ("resources.mail_on", {"resources": Resources(mail_on=("fail",))}),
        ("resources.directives", {"resources": Resources(directives=("/user:x",))}),
        ("resources.directives", {"resources": Resources(directives=("/priority:1 /user:x",))}),
        ("resources.directives", {"resources": Resources(directives=("/rerunnable:true",))}),
    ],
)
def test_what_windows_hpc_cannot_say_is_refused_with_the_field(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        HPC.script(replace(ORDER, **change))

    assert refused.value.field == field


_TEXTS = st.text(max_size=20) | st.sampled_from(
    ["a&b", "a /user:x", "%PATH%", "/priority:1", "x^", "a b", 'a"b']
)


@given(
    values=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("partition", "account", "mail_to"), _TEXTS)
        | {name: st.lists(_TEXTS, max_size=3).map(tuple) for name in ("licenses", "directives", "mail_on")}
        | {name: st.integers(1, 99) for name in ("nodes", "tasks", "cpus", "memory_bytes")},
    )
)
def test_no_value_is_more_than_one_word_for_a_windows_command_line(values: dict[str, Any]) -> None:
    try:
        said = options(**values)
    except InvalidRequest as refused:
        assert refused.field
        return

    for option in said:
        assert re.fullmatch(r"/[a-z]+:[A-Za-z0-9_.:@+,-]+", option) is not None, option


def test_jobs_are_cancelled_each_and_not_held() -> None:
    assert HPC.ask(Wish.CANCEL, ["35", "36"]) == Command(("cmd", "/c", "for %i in (35 36) do @job cancel %i"))
    assert HPC.ask(Wish.HOLD, ["35"]) is None
    with pytest.raises(ValueError, match="numbers"):
        HPC.ask(Wish.CANCEL, ["35) & calc ("])


@pytest.mark.parametrize(("priority", "said"), [(0, "2000"), (-9999, "0"), (9999, "4000")])
def test_a_priority_is_kept_within_what_is_documented(priority: int, said: str) -> None:
    command = HPC.prioritise(priority, ["35"])

    assert command is not None
    assert command.argv[2].endswith(f"job modify %i /priority:{said}")


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
