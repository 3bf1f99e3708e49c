"""Configurations: what is taken, what is refused and in which words, and that nothing changes."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from jobmgr.errors import InvalidConfig, PathNotFound
from jobmgr.hfss import (
    HFSS3DLayoutBatchOptions,
    HFSSSimulationConfig,
    MachineNode,
    SchedulerOptions,
    SchedulerType,
    create_hfss_config,
)
from jobmgr.hfss.value import Value
from tests.hfss.recorded import CONFIGS, EDT

VALUES: list[Value] = [
    MachineNode(),
    SchedulerOptions(),
    HFSS3DLayoutBatchOptions(),
    HFSSSimulationConfig(project_path="a.aedt", ansys_edt_path=EDT),
]
words = st.text("abcXYZ 019_-", max_size=12).filter(lambda text: not text.startswith("-"))
nodes = st.builds(
    MachineNode,
    hostname=st.from_regex(r"[a-z][a-z0-9.-]{0,10}", fullmatch=True),
    cores=st.integers(-1, 64),
    max_cores=st.integers(1, 64),
    utilization=st.integers(1, 100),
)
options = st.builds(
    SchedulerOptions,
    queue=words,
    time=st.sampled_from(["24:00:00", "unlimited", "1-00:00:00", "2.12:00:00", "90"]),
    nodes=st.integers(1, 9),
    memory=st.sampled_from(["4GB", "", "512M"]),
    account=words | st.none(),
    exclusive=st.booleans(),
    gpus=st.integers(0, 8),
    priority=st.sampled_from(["Low", "Normal", "High"]),
)
configs = st.builds(
    HFSSSimulationConfig,
    project_path=words.map(lambda text: f"/p/{text}.aedt"),
    ansys_edt_path=st.just(EDT),
    user=words,
    machine_nodes=st.lists(nodes, max_size=3),
    auto=st.booleans(),
    design_name=words,
    scheduler_type=st.sampled_from(SchedulerType),
    scheduler_options=options,
    layout_options=st.builds(HFSS3DLayoutBatchOptions, enable_gpu=st.booleans(), mpi_version=words),
)


def config(**fields: Any) -> HFSSSimulationConfig:
    return HFSSSimulationConfig(**{"project_path": "a.aedt", "ansys_edt_path": EDT, **fields})


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_no_field_can_be_changed_or_added_and_the_remedy_is_told(value: Value) -> None:
    kind = type(value).__name__
    before = copy.deepcopy(value)

    for name in (*value.__struct_fields__, "another"):
        remedy = rf"^{name}: a {kind} cannot .* {kind}\({name}=\.\.\.\), or "
        with pytest.raises(AttributeError, match=remedy):
            setattr(value, name, "x")
        with pytest.raises(AttributeError, match=remedy):
            delattr(value, name)

    assert value == before
    assert hash(value) == hash(before)


def test_a_scheduler_is_named_in_capitals_too_as_pyedbs_guide_has_it() -> None:
    made = config(
        scheduler_type="SLURM", scheduler_options={"queue": "hpclarge", "nodes": 2, "cores_per_node": 32}
    )

    assert made.scheduler_type is SchedulerType.SLURM
    assert HFSSSimulationConfig.from_dict({**made.to_dict(), "scheduler_type": "Slurm"}) == made


def test_nothing_inside_a_configuration_can_be_changed_either() -> None:
    given = [{"hostname": "n1"}]
    made = config(machine_nodes=given)

    given[0]["hostname"] = "n2"
    given.append({})

    assert made.machine_nodes == (MachineNode(hostname="n1"),)
    assert hash(made) == hash(copy.deepcopy(made))


def test_a_changed_copy_is_checked_too() -> None:
    assert structs.replace(config(), user="ann").user == "ann"
    with pytest.raises(InvalidConfig, match=r"^jobid: "):
        structs.replace(config(), jobid="a b")


@given(configs)
def test_a_dictionary_and_json_give_the_same_configuration_again(made: HFSSSimulationConfig) -> None:
    assert HFSSSimulationConfig.from_dict(made.to_dict()) == made
    assert HFSSSimulationConfig.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("recorded", CONFIGS, ids=lambda recorded: recorded["name"])
def test_what_the_original_wrote_is_read(recorded: dict[str, Any]) -> None:
    read = HFSSSimulationConfig.from_dict(recorded["to_dict"])

    assert read == HFSSSimulationConfig(**recorded["fields"])
    assert read.user == "unknown"
    # And it is written with all that the original's readers know.
    assert recorded["to_dict"].keys() < read.to_dict().keys()
    assert {**read.to_dict(), "timestamp": 0} == {
        **recorded["to_dict"], "timestamp": 0, "user": "unknown"
    }  # fmt: skip


@pytest.mark.parametrize("recorded", CONFIGS, ids=lambda recorded: recorded["name"])
def test_what_the_originals_programs_post_is_read(recorded: dict[str, Any]) -> None:
    assert HFSSSimulationConfig.from_dict(recorded["posted"]) == HFSSSimulationConfig(**recorded["fields"])


def test_a_short_dictionary_has_the_defaults_of_the_class() -> None:
    read = HFSSSimulationConfig.from_dict({"project_path": "a.aedt", "ansys_edt_path": EDT, "user": None})

    assert structs.replace(read, jobid="x") == config(jobid="x")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nodes": 1}, r"^nodes: is not a field; known ones: ansys_edt_path"),
        ({"scheduler_options": {"node": 1}}, r"^scheduler_options\.node: is not a field; known ones: queue"),
        ({"scheduler_options": {"nodes": 0}}, r"^scheduler_options\.nodes: expected `int` >= 1"),
        ({"scheduler_options": {"nodes": "two"}}, r"^scheduler_options\.nodes: expected `int`"),
        (
            {"scheduler_options": {"time": "24:00"}},
            r"^scheduler_options\.time: '24:00' .* write it as 24:00:00",
        ),
        (
            {"scheduler_options": {"memory": "much"}},
            r"^scheduler_options\.memory: 'much' .* write it as 512MB",
        ),
        ({"scheduler_options": {"priority": "high"}}, r"^scheduler_options\.priority: .*BelowNormal"),
        (
            {"scheduler_options": {"queue": "a\n#SBATCH -x"}},
            r"^scheduler_options\.queue: .*control characters",
        ),
        (
            {"scheduler_type": "sge"},
            r"^scheduler_type: invalid enum value 'sge'; known ones: none, lsf, slurm",
        ),
        ({"machine_nodes": [{}, {"hostname": "a,b"}]}, r"^machine_nodes\[1\]\.hostname: 'a,b' is no name"),
        (
            {"machine_nodes": [{"utilization": 101}]},
            r"^machine_nodes\[0\]\.utilization: expected `int` <= 100",
        ),
        ({"layout_options": {"mpi_vendor": "x"}}, r"^layout_options\.mpi_vendor: .*Open MPI"),
        ({"layout_options": {"mpi_version": "1' '2"}}, r"^layout_options\.mpi_version: .*quotes"),
        ({"layout_options": {"temp_directory": ""}}, r"^layout_options\.temp_directory: "),
        ({"jobid": "a b"}, r"^jobid: 'a b' is no job id; give letters"),
        ({"jobid": "a\n"}, r"^jobid: "),
        ({"jobid": "-a"}, r"^jobid: "),
        ({"project_path": "a.txt"}, r"^project_path: 'a.txt' is no project; give the path"),
        ({"project_path": None}, r"^project_path: '' is no project"),
        ({"project_path": "a\0.aedt"}, r"^project_path: has a NUL"),
        ({"project_path": "-a.aedt"}, r"^project_path: '-a.aedt' begins with - .* write ./"),
        ({"design_name": "a:b"}, r"^design_name: 'a:b' has a colon"),
        ({"setup_name": "-x"}, r"^setup_name: "),
        ({"auto": "perhaps"}, r"^auto: expected `bool`"),
        ({"\udcff": True}, r"^config: '\\udcff' is no text"),
        ({"scheduler_type": "\udcff"}, r"^config: '\\udcff' is no text"),
    ],
)
def test_what_is_wrong_is_said_with_its_field_and_a_remedy(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HFSSSimulationConfig.from_dict({"project_path": "a.aedt", "ansys_edt_path": EDT, **fields})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"scheduler_options": {"nodes": 0}}, "scheduler_options.nodes"),
        ({"layout_options": {"mpi_vendor": "x"}}, "layout_options.mpi_vendor"),
        ({"machine_nodes": [{"coers": 4}]}, "machine_nodes[0].coers"),
    ],
)
def test_what_is_wrong_in_a_dictionary_for_a_value_is_named_as_well(
    fields: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidConfig) as made:
        config(**fields)
    with pytest.raises(InvalidConfig) as read:
        HFSSSimulationConfig.from_dict({"project_path": "a.aedt", "ansys_edt_path": EDT, **fields})

    assert (made.value.field, read.value.field) == (field, field)


@given(configs)
def test_pydantics_names_do_what_they_did(made: HFSSSimulationConfig) -> None:
    """pyedb's programs post `config.model_dump(mode="json", exclude_defaults=False)`."""
    dumped = made.model_dump(mode="json", exclude_defaults=False)

    assert dumped == {name: made.to_dict()[name] for name in dumped}
    assert HFSSSimulationConfig(**dumped) == made
    assert HFSSSimulationConfig.model_validate(json.loads(made.model_dump_json(indent=2))) == made
    assert HFSSSimulationConfig.model_validate(made) is made
    assert HFSSSimulationConfig(**made.model_dump(exclude_defaults=True)) == made
    assert made.model_copy(update={"user": "ann"}).user == "ann"
    assert MachineNode(cores=3).model_dump(exclude_defaults=True) == {"cores": 3}


def test_a_keyword_that_is_no_field_is_named() -> None:
    with pytest.raises(TypeError, match="'nodes'"):
        MachineNode(nodes=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("time", "walltime_s"),
    [
        ("24:00:00", 86400),
        ("1-00:00:00", 86400),
        ("1.00:00:00", 86400),
        ("90", 5400),
        ("90s", 90),
        ("2h", 7200),
        ("unlimited", None),
        ("UNLIMITED", None),
        ("", None),
        ("0", None),
        ("0:00:00", None),
    ],
)
def test_a_time_limit_is_understood_in_all_the_ways_it_is_written(
    time: str, walltime_s: float | None
) -> None:
    assert SchedulerOptions(time=time).walltime_s == walltime_s


def test_values_are_taken_as_the_original_took_them() -> None:
    made = create_hfss_config(
        project_path="a.aedt",
        jobid=None,
        ansys_edt_path=EDT,
        design_name="main",
        setup_name="Setup1",
        machine_nodes=[MachineNode(hostname="n1", cores=2)],
        scheduler_type="slurm",  # type: ignore[arg-type]
        scheduler_options={"nodes": "2"},  # type: ignore[arg-type]
        solver="Hfss",
        monitor=False,
    )

    assert made.scheduler_type is SchedulerType.SLURM
    assert str(made.scheduler_type) == "slurm"
    assert made.scheduler_options == SchedulerOptions(nodes=2)
    assert (made.solver, made.monitor, made.generate_design_string()) == ("Hfss", False, "main::Setup1")


def test_a_project_that_is_not_there_is_said_where_it_is_to_run_here(tmp_path: Path) -> None:
    project = tmp_path / "a.aedt"
    with pytest.raises(PathNotFound, match=r"^project_path: there is no .*a\.aedt") as caught:
        create_hfss_config(str(project), ansys_edt_path=EDT)

    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ValueError)
    # Another machine's files are not looked for, and those of a stored configuration may be gone.
    assert create_hfss_config(str(project), ansys_edt_path=EDT, scheduler_type=SchedulerType.PBS)
    assert HFSSSimulationConfig.from_dict(config(project_path=str(project)).to_dict())
    project.touch()
    assert create_hfss_config(str(project), ansys_edt_path=EDT).project_path == str(project)


def test_job_ids_that_are_not_chosen_are_all_different() -> None:
    ids = {config().jobid for _ in range(5_000)}

    assert len(ids) == 5_000
    assert all(id_.startswith("JOB_") for id_ in ids)
