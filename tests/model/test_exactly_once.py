"""The promises of exactly once, proven on a model of the design (exactly_once.pml) by visiting all its states."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import jobmgr

MODEL = Path(__file__).with_name("exactly_once.pml")

# A search that needs more is cut off, and tells so.
_MEMORY_MB = 950
_DEPTH = 100_000
_PATIENCE_S = 600
_STORY_STEPS = 60
_LONG = [pytest.mark.slow, pytest.mark.timeout(_PATIENCE_S)]


@dataclass(frozen=True, slots=True)
class Search:
    """What a search brought: the first violation and the steps that lead there, and statements nobody came to."""

    is_exhaustive: bool
    violation: str | None
    unreached: frozenset[str]
    output: str
    story: str


class Spin:
    """The model checker: makes a C program of the model, which then searches."""

    def __init__(self, program: str, directories: pytest.TempPathFactory) -> None:
        self._program = program
        self._directories = directories

    def visit_all(self, *definitions: str) -> Search:
        """Go to every state, and look for broken promises and deadlocks."""
        return self._search(definitions, ("-O1", "-DSAFETY"))

    def look_for_cycles(self, *definitions: str) -> Search:
        """Go to every state, and look for ways to come back to one."""
        return self._search(definitions, ("-O1", "-DNP"), "-l")

    def look_for_broken_promise(self, *definitions: str) -> Search:
        """Go on until an assertion fails. Deadlocks are none of its business."""
        return self._search(definitions, ("-O0", "-DSAFETY"), "-E")

    def _search(self, definitions: Sequence[str], compiled: Sequence[str], *told: str) -> Search:
        directory = self._directories.mktemp("spin")
        # -o3: statements are not merged, or the list of the unreached would be without some.
        model = ("-o3", *(f"-D{definition}" for definition in definitions), str(MODEL))
        _run(directory, self._program, "-a", *model)
        _run(directory, "gcc", *compiled, "-w", "-DCOLLAPSE", f"-DMEMLIM={_MEMORY_MB}", "-o", "pan", "pan.c")
        output = _run(directory, "./pan", f"-m{_DEPTH}", *told)
        trail = directory / f"{MODEL.name}.trail"
        story = _run(directory, self._program, "-p", "-k", trail.name, *model) if trail.exists() else ""
        return _read(output, story)


def _run(directory: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def _read(output: str, story: str) -> Search:
    found = re.search(r"^pan:1: (.*) \(at depth \d+\)$", output, re.MULTILINE)
    errors = re.search(r"errors: (\d+)$", output, re.MULTILINE)
    assert errors is not None, output
    assert (found is None) == (errors[1] == "0"), output
    is_cut_off = re.search("Search not completed|search depth too small|out of memory|truncated", output)
    steps = re.findall(r"^ *\d+:\tproc .*\t\[.*$", story, re.MULTILINE)
    return Search(
        is_exhaustive="Full statespace search" in output and is_cut_off is None,
        violation=found[1] if found else None,
        unreached=frozenset(re.findall(r'^\t\S+\.pml:\d+, state \d+, "(.*)"$', output, re.MULTILINE)),
        output=output,
        story="\n".join(steps[-_STORY_STEPS:]),
    )


@pytest.fixture(scope="session")
def spin(tmp_path_factory: pytest.TempPathFactory) -> Spin:
    """The installed Spin."""
    program = shutil.which("spin")
    if program is None:
        pytest.skip("Spin is not installed (no spin on the PATH)")
    version = subprocess.run([program, "-V"], capture_output=True, text=True, check=False, timeout=10)
    if not version.stdout.startswith("Spin Version"):
        pytest.skip(f"{program} is another program than the model checker Spin")
    if shutil.which("gcc") is None:
        pytest.skip("Spin needs a C compiler (no gcc on the PATH)")
    return Spin(program, tmp_path_factory)


@pytest.fixture(scope="module")
def two_attempts(spin: Spin) -> Search:
    """Two attempts, and any four incidents."""
    return spin.visit_all("ATTEMPTS=2", "INCIDENTS=4")


def test_no_promise_is_broken_in_any_state(two_attempts: Search) -> None:
    assert two_attempts.violation is None, two_attempts.story
    assert two_attempts.is_exhaustive, two_attempts.output


def test_every_statement_of_the_model_is_reached(two_attempts: Search) -> None:
    assert two_attempts.unreached <= {"-end-"}


@pytest.mark.parametrize(
    "sight",
    [
        "late_order_is_refused",
        "second_order_is_refused_while_the_first_runs",
        "stale_end_is_refused",
        "stale_end_is_refused_while_the_next_attempt_runs",
        "claim_of_a_dead_dispatcher_commits",
        "true_outcome_after_a_keeper_died",
        "true_outcome_from_a_dead_holders_note",
        "attempt_after_a_lost_one_completes",
        "cancel_meets_a_command_without_holder",
        "record_appears_between_two_looks",
    ],
)
def test_the_model_comes_to_see(two_attempts: Search, sight: str) -> None:
    assert re.search(rf"\bSEE(_IF)?\({sight}\b", MODEL.read_text())
    assert not [statement for statement in two_attempts.unreached if sight in statement]


@pytest.mark.parametrize(
    ("attempts", "incidents"),
    [
        (3, 3),
        pytest.param(3, 4, marks=_LONG),
        pytest.param(2, 5, marks=_LONG),
    ],
)
def test_no_promise_is_broken_with_more(spin: Spin, attempts: int, incidents: int) -> None:
    search = spin.visit_all(f"ATTEMPTS={attempts}", f"INCIDENTS={incidents}")

    assert search.violation is None, search.story
    assert search.is_exhaustive, search.output


def test_nothing_goes_round_in_circles_so_every_run_ends(spin: Spin) -> None:
    search = spin.look_for_cycles("INCIDENTS=3")

    assert search.violation is None, search.story
    assert search.is_exhaustive, search.output


@pytest.mark.parametrize(
    ("switch", "promise"),
    [
        ("NO_GATE", "started_at_most_once"),
        ("NO_GATE", "one_process_at_a_time"),
        ("GATE_WITHOUT_CONTENT=MINE", "started_at_most_once"),
        ("GATE_WITHOUT_CONTENT=NOT_MINE", "outcome_is_true"),
        ("NO_VOID", "one_process_at_a_time"),
        ("NO_LEASE", "owner_alone_writes"),
        ("NO_INTENT", "next_only_after_end"),
        ("ABSENT_MEANS_DONE", "outcome_is_true"),
        ("ONE_LOOK", "outcome_is_true"),
        ("RECLAIM_BY_TOKEN", "owner_alone_writes"),
        ("LOOK_IN_DOUBT", "every_run_ends"),
        ("TRUST_NOT_STARTED", "outcome_is_true"),
        ("NEVER_STARTED_IS_A_FAILURE", "what_never_ran_costs_nothing"),
        ("NO_MARK", "outcome_is_true"),
        ("EXEC_LATE", "one_process_at_a_time"),
    ],
)
def test_without_a_rule_its_promise_is_broken(spin: Spin, switch: str, promise: str) -> None:
    search = spin.look_for_broken_promise("INCIDENTS=3", switch, f"ONLY={promise}")

    assert search.violation is not None
    assert search.violation.startswith("assertion violated")


def test_the_map_of_the_model_leads_to_the_code() -> None:
    chart = MODEL.read_text().partition("WHERE THE STEPS ARE")[2].partition("WHAT IS LEFT OUT")[0]
    places = re.findall(r"([\w/]+\.py):(\w+(?:,\s[\s*]*\w+)*)", chart)
    package = Path(jobmgr.__file__).parent

    missing = [
        (file, name)
        for file, names in places
        for name in re.findall(r"\w+", names)
        if not re.search(rf"\bdef {name}\b", (package / file).read_text())
    ]

    assert len(places) > 20
    assert missing == []
