"""`jobmgr cluster`: what the sites' schedulers tell, for people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobmgr.dialects.dialect import Answer
from tests.cli.conftest import TIMEOUT_S, Commands, Finished, serving
from tests.cli.test_terminal import assert_harmless, on_terminal
from tests.programs import Programs, become_pbs, become_slurm, recorded_slurm

AWAY = Answer(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """All the programs that the service of this test finds: those of a SLURM that was recorded."""
    found = Programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", str(found.directory))
    become_slurm(found)
    return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command beside a service that has the site `lab`, whose SLURM answers as one that was recorded."""
    home = tmp_path_factory.mktemp("lab")
    programs = Programs(home / "programs")
    become_slurm(programs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(programs.directory))
        with serving(Commands(home)):
            yield add_lab(Commands(home))


def add_lab(commands: Commands) -> Commands:
    """Let the service have the site."""
    added = commands.run("site", "add", "lab", "--kind", "slurm")
    assert added.code == 0, added
    return commands


def rows(done: Finished) -> list[list[str]]:
    """The words of the rows of a table, without its headings."""
    assert done.code == 0, done
    return [line.split() for line in done.out.splitlines()[1:]]


def test_scheduler_that_is_installed_is_shown_with_the_line_that_adds_it(
    programs: Programs, commands: Commands
) -> None:
    with serving(commands):
        before = commands.run("cluster")
        line = before.out.splitlines()[-1]
        added = commands.run(*line.partition("`jobmgr ")[2].partition("`")[0].split())
        after = commands.run("cluster")

    assert line == "slurm-wlm 22.05.8 is installed here; `jobmgr site add slurm --kind slurm` adds it"
    assert added.code == 0
    assert [row[0] for row in rows(after)] == ["local", "slurm"]


def test_machine_without_schedulers_says_how_to_add_one_elsewhere(
    commands: Commands, programs: Programs
) -> None:
    (programs.directory / "sbatch").unlink()

    with serving(commands):
        done = commands.run("cluster")

    assert "no scheduler is installed here; `jobmgr site add --help`" in done.out


def test_sites_partitions_machines_and_jobs_are_tables(lab: Commands) -> None:
    (site, _) = rows(lab.run("cluster"))
    partitions = {row[0]: row[1:] for row in rows(lab.run("cluster", "lab", "partitions"))}
    nodes = {row[0]: row[1:] for row in rows(lab.run("cluster", "lab", "nodes"))}
    jobs = {row[0]: row[1:] for row in rows(lab.run("cluster", "lab", "jobs"))}
    facts = lab.run("cluster", "lab").out

    assert site[:6] == ["lab", "slurm", "open", "2", "of", "3"]
    assert partitions["debug*"] == ["up", "48:00:00", "2", "8"]
    assert partitions["shut"][0] == "down"
    assert nodes["n1"][-1] == "debug,short"
    assert jobs["23"][1:4] == ["root", "debug", "PENDING"]
    assert jobs["11_1"][3] == "SUSPENDED"
    assert "jobs waiting  8" in facts


def test_jobs_are_selected_and_limited_and_their_number_is_told(lab: Commands) -> None:
    few = lab.run("cluster", "lab", "jobs", "--limit", "2", "--phase", "pending", "--partition", "debug")
    none = lab.run("cluster", "lab", "jobs", "--user", "nobody")
    everything = lab.run("cluster", "lab", "jobs", "--json").json

    assert len(few.out.splitlines()) == 3
    assert "these are 2 of 4" in few.err
    assert (none.code, none.out) == (0, "")
    assert "no jobs" in none.err
    assert len(everything["jobs"]) == everything["total"] == 9


def test_programs_get_json(lab: Commands) -> None:
    assert {each["site"] for each in lab.run("cluster", "--json").json["clusters"]} == {"lab", "local"}
    assert lab.run("cluster", "lab", "--json").json["nodes"] == 3
    assert len(lab.run("cluster", "lab", "nodes", "--json").json["nodes"]) == 3
    assert len(lab.run("cluster", "lab", "partitions", "--json").json["partitions"]) == 5


def test_scheduler_that_does_not_answer_is_an_error_beside_what_was_known(
    programs: Programs, commands: Commands
) -> None:
    programs.answer("sinfo", AWAY, "--Node")

    with serving(commands):
        add_lab(commands)
        one = commands.run("cluster", "lab")
        nodes = commands.run("cluster", "lab", "nodes")
        every = commands.run("cluster")

    assert (one.code, nodes.code, every.code) == (4, 4, 0)
    assert "jobs waiting  8" in one.out
    assert nodes.out == ""
    assert "no answer" in every.out
    for done in (one, nodes, every):
        assert "Unable to contact slurm controller" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nope"], 3, "'nope'"),
        (["nope", "jobs"], 3, "'nope'"),
        (["local", "jobs"], 2, "`jobmgr ls`"),
        (["lab", "queues"], 2, "queues"),
        (["lab", "nodes", "--user", "me"], 2, "jobmgr cluster SITE jobs"),
    ],
)
def test_what_cannot_be_shown_is_said(lab: Commands, arguments: list[str], code: int, said: str) -> None:
    done = lab.run("cluster", *arguments)

    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_names_of_others_cannot_move_the_cursor(programs: Programs, commands: Commands) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\r"
    text = recorded_slurm("everything").stdout.replace("JobHeldUser", evil).replace("root", evil)
    programs.answer("squeue", Answer(0, text.replace("jm-", evil)))
    programs.answer("sinfo", Answer(0, recorded_slurm("nodes").stdout.replace("n1", evil)), "--Node")
    programs.answer("sinfo", Answer(1, "", f"sinfo: {evil}"), "--summarize")

    with serving(commands):
        add_lab(commands)
        shown = [
            on_terminal(commands, "cluster", "lab", *what)
            for what in (["jobs"], ["nodes"], ["partitions"], [])
        ]

    assert all(rb"\x1b[2J" in each for each in shown[:2])
    assert b"sinfo: ]0;owned [2J" in shown[2]
    for each in shown:
        assert_harmless(each)


def test_what_is_waited_for_is_said_while_a_scheduler_is_silent(
    programs: Programs, commands: Commands
) -> None:
    answer = programs.hang("sinfo")

    with serving(commands):
        add_lab(commands)
        asking = commands.start("cluster", "lab", "nodes")
        assert asking.stderr is not None
        line = asking.stderr.readline()
        answer.write_text("now\n")
        out, _ = asking.communicate(timeout=TIMEOUT_S)

    assert line == b"waiting for the scheduler of lab to answer, for half a minute at most\n"
    assert (asking.returncode, out.splitlines()[1].split()[0]) == (0, b"n1")


def test_scheduler_that_answers_is_found_by_itself(programs: Programs, commands: Commands) -> None:
    with serving(commands):
        added = commands.run("site", "add", "lab", "--kind", "auto")
        become_pbs(programs)
        several = commands.run("site", "add", "other", "--kind", "auto")
        for name in ("sbatch", "qsub"):
            (programs.directory / name).unlink()
        none = commands.run("site", "add", "other", "--kind", "auto")
        sites = {each["name"]: each["kind"] for each in commands.run("site", "ls", "--json").json}

    assert added.out == "lab slurm here; try it with `jobmgr site test lab`\n"
    assert (several.code, none.code) == (2, 2)
    assert (
        "kind: several schedulers answer on this machine: slurm (slurm-wlm 22.05.8), pbs (PBS" in several.err
    )
    assert "no scheduler answers on this machine: none of slurm, pbs, lsf, windows_hpc" in none.err
    assert sites == {"lab": "slurm", "local": "local"}
