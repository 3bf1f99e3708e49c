"""SLURM's dialect without a SLURM: scripts in a real shell, and what real ones answered (tests/data/slurm)."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.dialects.dialect import (
    Answer,
    Busy,
    Cause,
    Compliance,
    Doubtful,
    Listing,
    NotUnderstood,
    Order,
    Partition,
    Phase,
    Refused,
    Standing,
    Submission,
    Submitted,
    Wish,
)
from jobmgr.dialects.slurm import Slurm
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest
from tests.dialects.recording import slurm_answer

DIALECT = Slurm()
FOLDER = Path(__file__).parent.parent / "data" / "slurm"
IDS: dict[str, str] = json.loads((FOLDER / "ids.json").read_text())
ORDER = Order(name="jm-1", body="", stdout="/c/out", stderr="/c/err", cwd="/c")
FIELD, RECORD = "\x1f", "\x1e"


def listed(name: str) -> Listing:
    """What its two answers say."""
    return DIALECT.seen([slurm_answer(f"{name}-squeue"), slurm_answer(f"{name}-sacct")])


def last(listing: Listing, key: str) -> Standing:
    """The last run of a recorded job."""
    return [job for job in listing.jobs if job.id == IDS[key]][-1]


# Answers.

ENDS = [
    ("completed", "COMPLETED", Cause.COMPLETED, 0, None, None),
    ("failed", "FAILED", Cause.FAILED, 7, None, None),
    ("killed", "FAILED", Cause.FAILED, None, 9, None),
    ("timeout", "TIMEOUT", Cause.TIMEOUT, None, None, None),
    ("deadline", "DEADLINE", Cause.DEADLINE, None, None, False),
    ("cancelled", "CANCELLED by 0", Cause.CANCELLED, None, None, None),
    ("cancelled_waiting", "CANCELLED by 0", Cause.CANCELLED, None, None, False),
    ("no_output", "FAILED", Cause.FAILED, None, None, None),
    ("node_fail", "NODE_FAIL", Cause.NODE_FAIL, None, None, None),
    ("nameless", "CANCELLED by 0", Cause.CANCELLED, None, None, None),
]


@pytest.mark.parametrize(("key", "word", "cause", "exit_code", "signal", "has_run"), ENDS)
def test_ends_are_understood(
    key: str, word: str, cause: Cause, exit_code: int | None, signal: int | None, has_run: bool | None
) -> None:
    standing = last(listed("all"), key)

    assert (standing.phase, standing.word, standing.cause) == (Phase.ENDED, word, cause)
    assert (standing.exit_code, standing.signal, standing.has_run) == (exit_code, signal, has_run)
    assert standing.ended_at is not None
    assert standing.cpu_s is not None


WAITING = [
    ("held", Phase.HELD, "JobHeldAdmin", 0, False),
    ("later", Phase.PENDING, "BeginTime", 0, False),
    ("requeued", Phase.HELD, "job requeued in held state", 1, None),
    ("preempted", Phase.PENDING, "BeginTime", 1, None),
]


@pytest.mark.parametrize(("key", "phase", "reason", "restarts", "has_run"), WAITING)
def test_jobs_that_wait_say_why(
    key: str, phase: Phase, reason: str, restarts: int, has_run: bool | None
) -> None:
    standing = last(listed("all"), key)

    assert (standing.phase, standing.reason, standing.restarts) == (phase, reason, restarts)
    assert (standing.has_run, standing.exit_code, standing.started_at) == (has_run, None, None)


@pytest.mark.parametrize(
    ("key", "cause"),
    [("requeued", Cause.REQUEUED), ("nameless", Cause.REQUEUED), ("preempted", Cause.PREEMPTED)],
)
def test_former_runs_are_told_apart(key: str, cause: Cause) -> None:
    standings = [job for job in listed("all").jobs if job.id == IDS[key]]

    assert [job.restarts for job in standings] == [0, 1]
    assert (standings[0].phase, standings[0].cause) == (Phase.ENDED, cause)
    assert len({job.name for job in standings}) == 1


def test_elements_of_an_array_are_listed_one_by_one() -> None:
    elements = {job.id: job for job in listed("all").jobs if job.id.startswith(f"{IDS['array']}_")}

    assert {id_.split("_")[1]: job.phase for id_, job in elements.items()} == {
        "0": Phase.ENDED,
        "1": Phase.SUSPENDED,
        "2": Phase.PENDING,
        "4": Phase.PENDING,
        "5": Phase.PENDING,
    }
    assert listed("all").complete


def test_times_are_those_of_the_universe() -> None:
    standing = last(listed("all"), "failed")

    assert standing.started_at == datetime(2026, 11, 21, 15, 1, 42, tzinfo=UTC)
    assert last(listed("all"), "later").expected_start is not None


def test_most_memory_of_a_step_is_that_of_the_run() -> None:
    assert last(listed("all"), "timeout").peak_memory_bytes == 2998272


def test_without_accounting_the_listing_is_not_complete() -> None:
    listing = listed("no-accounting")

    assert not listing.complete
    assert "Slurm accounting storage is disabled" in listing.why
    assert [job.phase for job in listing.jobs] == [Phase.HELD]


@pytest.mark.parametrize("name", ["no-slurmctld-squeue", "no-slurmdbd-sacct"])
def test_daemon_that_does_not_answer_decides_nothing(name: str) -> None:
    queue = slurm_answer(name) if name.endswith("squeue") else slurm_answer("all-squeue")
    accounting = slurm_answer(name) if name.endswith("sacct") else slurm_answer("all-sacct")

    listing = DIALECT.seen([queue, accounting])

    assert not listing.complete
    assert slurm_answer(name).stderr.splitlines()[-1] in listing.why
    assert listing.jobs


@pytest.mark.parametrize("name", ["all-squeue", "all-sacct"])
def test_listing_that_was_cut_off_is_not_complete(name: str) -> None:
    queue, accounting = slurm_answer("all-squeue"), slurm_answer("all-sacct")
    whole = slurm_answer(name)

    for length in range(len(whole.stdout) - 1):
        cut = replace(whole, stdout=whole.stdout[:length])
        listing = DIALECT.seen([cut, accounting] if name == "all-squeue" else [queue, cut])
        # Between two lines nothing shows that it is not all.
        if not whole.stdout[:length].endswith((f"{RECORD}\n", RECORD, "\n")) and length:
            assert not listing.complete


def test_answer_that_is_printed_twice_says_what_it_says_once() -> None:
    queue, accounting = slurm_answer("all-squeue"), slurm_answer("all-sacct")
    queue_twice, accounting_twice = (replace(each, stdout=each.stdout * 2) for each in (queue, accounting))

    assert DIALECT.seen([queue_twice, accounting_twice]) == DIALECT.seen([queue, accounting])
    assert DIALECT.seen([Answer(1), accounting_twice]) == DIALECT.seen([Answer(1), accounting])


def test_commands_that_did_not_answer_decide_nothing() -> None:
    assert not DIALECT.seen([Answer(None), slurm_answer("all-sacct")]).complete
    assert not DIALECT.seen([slurm_answer("all-squeue"), Answer(None)]).complete


def test_listing_with_a_line_that_is_not_understood_is_not_complete() -> None:
    line = ("7", "RUNNING", "0", "0", "1795271812", "1795271872", "n1", "None", "jm-7")

    for answers in ([queue(line, ("garbage",)), account()], [queue(line), account(("garbage",))]):
        listing = DIALECT.seen(answers)
        assert not listing.complete
        assert [job.id for job in listing.jobs] == ["7"]


def account(*records: tuple[str, ...]) -> Answer:
    """What sacct would print."""
    return Answer(0, "".join(FIELD.join(record) + "\n" for record in records))


def queue(*records: tuple[str, ...]) -> Answer:
    """What squeue would print."""
    return Answer(0, "".join(FIELD.join(record) + f"{RECORD}\n" for record in records))


def test_what_accounting_takes_for_running_and_the_queue_does_not_know_is_missing() -> None:
    running = ("7", "RUNNING", "0:0", "1795271812", "Unknown", "n1", "00:00:00", "", "jm-7")

    known = DIALECT.seen([queue(), account(running)])
    unknown = DIALECT.seen([Answer(1, "", "away"), account(running)])

    assert [job.phase for job in known.jobs] == [Phase.MISSING]
    assert [job.phase for job in unknown.jobs] == [Phase.RUNNING]


def test_nameless_record_is_a_run_of_the_job_of_its_id() -> None:
    """Seen on 22.05.8: a job that is cancelled while it waits after a requeue."""
    first = ("53", "REQUEUED", "0:0", "1795271812", "1795271814", "n1", "00:00:00", "", "jm-53")
    second = (
        "53",
        "CANCELLED by 0",
        "0:0",
        "None",
        "1795271815",
        "None assigned",
        "00:00:00",
        "",
        "allocation",
    )
    live = ("53", "CANCELLED", "1", "0", "1795271815", "1795271815", "", "None", "jm-53")

    for answers in ([queue(), account(first, second)], [queue(live), account(first, second)]):
        jobs = DIALECT.seen(answers).jobs
        assert [(job.name, job.restarts, job.cause) for job in jobs] == [
            ("jm-53", 0, Cause.REQUEUED),
            ("jm-53", 1, Cause.CANCELLED),
        ]
        assert jobs[1].has_run is None


def test_id_that_was_another_jobs_is_told_by_its_name() -> None:
    old = ("7", "COMPLETED", "0:0", "1700000000", "1700000001", "n1", "00:01.5", "", "other")
    new = ("7", "RUNNING", "0", "0", "1795271812", "1795271872", "n1", "None", "jm-7")

    jobs = DIALECT.seen([queue(new), account(old)]).jobs

    assert {(job.name, job.phase, job.restarts) for job in jobs} == {
        ("jm-7", Phase.RUNNING, 0),
        ("other", Phase.ENDED, 0),
    }
    assert [job.name for job in DIALECT.found(["jm-7"], [queue(new), account(old)]).jobs] == ["jm-7"]


@pytest.mark.parametrize(
    ("word", "phase", "cause"),
    [
        ("CONFIGURING", Phase.PENDING, None),
        ("COMPLETING", Phase.ENDING, None),
        ("STAGE_OUT", Phase.ENDING, None),
        ("STOPPED", Phase.SUSPENDED, None),
        ("RESIZING", Phase.RUNNING, None),
        ("SIGNALING", Phase.RUNNING, None),
        ("REQUEUED", Phase.PENDING, None),
        ("REQUEUE_HOLD", Phase.HELD, None),
        ("SPECIAL_EXIT", Phase.HELD, None),
        ("OUT_OF_MEMORY", Phase.ENDED, Cause.OUT_OF_MEMORY),
        ("BOOT_FAIL", Phase.ENDED, Cause.BOOT_FAIL),
        ("REVOKED", Phase.ENDED, Cause.REVOKED),
        ("NEWFANGLED", Phase.UNKNOWN, None),
    ],
)
def test_states_that_are_hard_to_provoke(word: str, phase: Phase, cause: Cause | None) -> None:
    listing = DIALECT.seen([queue(("7", word, "0", "0", "N/A", "N/A", "n1", "None", "jm-7")), account()])

    assert [(job.phase, job.cause, job.word) for job in listing.jobs] == [(phase, cause, word)]


@pytest.mark.parametrize(
    ("text", "elements"),
    [("9_[2,4-5%1]", [2, 4, 5]), ("9_[0-6:3]", [0, 3, 6]), ("9_[7]", [7]), ("9_[1-2,...]", None)],
)
def test_elements_in_one_line_are_taken_apart(text: str, elements: list[int] | None) -> None:
    line = (text, "PENDING", "0:0", "Unknown", "Unknown", "None assigned", "00:00:00", "", "jm-9")

    listing = DIALECT.seen([Answer(None), account(line)])

    wanted = [text] if elements is None else [f"9_{index}" for index in elements]
    assert [job.id for job in listing.jobs] == wanted


# What sbatch answers.


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("refused-*.json")))
def test_refusals_are_told_in_slurms_words(name: str) -> None:
    answer = slurm_answer(name)

    assert DIALECT.submitted(answer) == Refused("; ".join(answer.stderr.splitlines()))


def test_what_sbatch_does_not_even_send_is_refused() -> None:
    # Of one GPU for two nodes (22.05.8).
    said = "sbatch: error: Failed to validate job spec. --gpus must be >= --nodes"

    assert DIALECT.submitted(Answer(1, "", f"{said}\n")) == Refused(said)


def test_limit_on_submitted_jobs_is_no_refusal() -> None:
    answer = slurm_answer("busy-submit-limit")

    assert DIALECT.submitted(answer) == Busy(
        "; ".join(answer.stderr.splitlines()), is_full=True, is_general=False
    )


def test_other_reasons_to_wait_say_nothing_of_numbers() -> None:
    assert DIALECT.submitted(Answer(1, "", f"{_SAID}Resource temporarily unavailable")) == Busy(
        f"{_SAID}Resource temporarily unavailable"
    )
    assert DIALECT.submitted(Answer(1, "", f"{_SAID}Required partition not available")) == Busy(
        f"{_SAID}Required partition not available", is_general=False
    )


_SAID = "sbatch: error: Batch job submission failed: "
_POLICY = f"{_SAID}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (slurm_answer("submitted"), Submitted),
        (Answer(0, "12;lab\n"), Submitted),
        (slurm_answer("frozen-sbatch"), Doubtful),
        (slurm_answer("no-slurmctld-sbatch"), Doubtful),
        (Answer(None, "12\n"), Doubtful),
        (Answer(1, "12\n", "sbatch: error: something"), Doubtful),
        (Answer(1, "12\n", f"{_SAID}Invalid partition name specified"), Doubtful),
        (Answer(0, "", ""), Doubtful),
        (Answer(0, "Submitted batch job 12\n"), Doubtful),
        (Answer(1, "", f"{_SAID}A text of a later version"), Doubtful),
        (Answer(1, "", f"{_SAID}Resource temporarily unavailable"), Busy),
        (
            Answer(1, "", "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
                          f"{_SAID}Socket timed out on send/recv operation"),
            Doubtful,
        ),
        (Answer(1, "", f"sbatch: error: AssocGrpSubmitJobsLimit\n{_POLICY}"), Busy),
        (Answer(1, "", f"sbatch: error: QOSMaxWallDurationPerJobLimit\n{_POLICY}"), Refused),
        (Answer(127, "", "sh: 10: exec: sbatch: not found"), Busy),
    ],
)  # fmt: skip
def test_answers_to_a_submission(answer: Answer, kind: type[Submission]) -> None:
    assert type(DIALECT.submitted(answer)) is kind


@pytest.mark.parametrize(
    ("name", "compliance"),
    [
        ("hold-done", Compliance.DONE),
        ("hold-unknown", Compliance.GONE),
        ("hold-ended", Compliance.GONE),
        ("hold-stranger", Compliance.REFUSED),
        ("suspend-pending", Compliance.REFUSED),
        ("cancel-stranger", Compliance.REFUSED),
        ("cancel-unknown", Compliance.DONE),
        ("cancel-ended", Compliance.DONE),
        ("cancel-nonsense", Compliance.REFUSED),
        ("no-slurmctld-scancel", Compliance.DOUBTFUL),
        ("no-slurmctld-hold", Compliance.DOUBTFUL),
    ],
)
def test_answers_to_a_wish(name: str, compliance: Compliance) -> None:
    assert DIALECT.complied(slurm_answer(name)) is compliance
    assert DIALECT.complied(replace(slurm_answer(name), exit_code=None)) is Compliance.DOUBTFUL


@pytest.mark.parametrize(
    "words",
    [
        "Socket timed out on send/recv operation for job 1\nslurm_suspend error: Socket timed out on send/recv",
        "slurm_suspend error: Socket timed out on send/recv operation",
        "slurm_update error: Slurm temporarily unable to accept job, sleeping and retrying",
    ],
)
def test_wish_that_timed_out_may_have_been_taken(words: str) -> None:
    assert DIALECT.complied(Answer(1, "", words)) is Compliance.DOUBTFUL


def test_words_are_on_one_line_without_control_characters() -> None:
    told = "sbatch: error: QOSMaxWallDurationPerJobLimit\n\nsbatch:\terror: \x1b[31mBatch job submission failed: "
    answer = DIALECT.submitted(Answer(1, "", f"{told}Job violates accounting/QOS policy\r\n"))

    assert isinstance(answer, Refused)
    assert answer.words == (
        "sbatch: error: QOSMaxWallDurationPerJobLimit; "
        "sbatch: error: [31mBatch job submission failed: Job violates accounting/QOS policy"
    )


# The cluster.


def test_cluster_is_described() -> None:
    partitions = {each.name: each for each in DIALECT.read_partitions(slurm_answer("partitions"))}
    nodes = {each.name: each for each in DIALECT.read_nodes(slurm_answer("nodes"))}

    assert partitions["debug"] == Partition("debug", True, True, 172800.0, 2, 8)
    assert not partitions["shut"].is_up
    assert nodes["n1"].partitions == ("debug", "short")
    assert nodes["n1"].gpus == 2
    assert [name for name, node in nodes.items() if not node.is_up] == ["n2"]
    assert DIALECT.fitted([slurm_answer("config")]).array_cap == 1001
    assert DIALECT.read_version(slurm_answer("version")) == "slurm-wlm 22.05.8"


def test_everybodys_jobs_are_listed_with_user_and_partition() -> None:
    listing = DIALECT.read_everything(slurm_answer("everything"))

    whose = {job.id: (job.user, job.partition) for job in listing.jobs}
    assert listing.complete
    assert (whose[IDS["held"]], whose["16"]) == (("root", "debug"), ("root", "idle"))
    assert {(job.user, job.partition) for job in listed("all").jobs} == {("", "")}


def test_what_everybodys_jobs_have_and_ask_for_is_told() -> None:
    listing = DIALECT.read_everything(slurm_answer("everything"))

    held = {job.id: (job.node_count, job.cpus, job.memory_bytes) for job in listing.jobs}
    small = (1, 1, 100 * 2**20)
    assert (held["11_1"], held[IDS["held"]], held["16"]) == (small, small, (1, 4, 2**32))


@pytest.mark.parametrize(
    ("told", "cpus", "memory_bytes"),
    [
        ("cpu=2,mem=300M,node=1,billing=2", 2, 300 * 2**20),
        ("cpu=128,mem=1.50T,node=4,billing=128,gres/gpu:a100=8", 128, 3 * 2**39),
        ("cpu=1,mem=64,node=1", 1, 2**26),
        ("cpu=1,node=1,billing=1", 1, None),
        ("", None, None),
        ("N/A", None, None),
    ],
)
def test_resources_are_read_as_slurm_writes_them(
    told: str, cpus: int | None, memory_bytes: int | None
) -> None:
    fields = ("9", "PENDING", "0", "0", "N/A", "N/A", "", "Priority", "n", "debug", "ann", told)

    (job,) = DIALECT.read_everything(Answer(0, "\x1f".join(fields) + "\x1e\n")).jobs

    assert (job.cpus, job.memory_bytes) == (cpus, memory_bytes)


@pytest.mark.parametrize(
    ("state", "is_up"),
    [("idle", True), ("idle~", True), ("idle*", False), ("drained", False), ("down*", False)],
)
def test_node_that_does_not_answer_is_not_up(state: str, is_up: bool) -> None:
    line = FIELD.join(("n1", "debug", state, "1/2/0/4", "4000", "gpu:a100:2(S:0-1),gpu:3,license:9"))

    (node,) = DIALECT.read_nodes(Answer(0, f"{line}\n"))

    assert (node.is_up, node.gpus, node.cpus_used) == (is_up, 5, 1)


def test_partitions_of_a_node_are_sorted() -> None:
    lines = [FIELD.join(("n1", name, "idle", "0/4/0/4", "4000", "(null)")) for name in ("b", "a")]

    (node,) = DIALECT.read_nodes(Answer(0, "\n".join(lines)))

    assert (node.partitions, node.gpus) == (("a", "b"), 0)


def test_what_is_not_understood_is_said() -> None:
    for answer in (Answer(None), Answer(1, "", "no"), Answer(0, "garbage")):
        with pytest.raises(NotUnderstood):
            DIALECT.read_partitions(answer)
        with pytest.raises(NotUnderstood):
            DIALECT.read_nodes(answer)
        with pytest.raises(NotUnderstood):
            DIALECT.fitted([answer])
    assert DIALECT.read_version(Answer(0, "something else 1.0")) is None


NUMBERS = ["²", "9" * 18, "9" * 5000, "-1", ""]


@pytest.mark.parametrize("text", NUMBERS)
def test_what_is_no_number_is_not_taken_for_one(text: str) -> None:
    """Nor for a time, of which there are none after the year 9999."""
    queue = FIELD.join(("1", "FAILED", text, text, text, text, "n1", "None", "jm-1")) + RECORD
    account = "".join(
        FIELD.join((id_, "FAILED", f"{text}:{text}", text, text, "n1", f"{text}:00", text, "jm-2")) + "\n"
        for id_ in ("2", "2.batch", f"3_{text}", f"4_[{text}]", f"4_[0-{text}]", f"4_[0-9:{text}]")
    )

    standings = DIALECT.seen([Answer(0, queue), Answer(0, account)]).jobs

    assert {job.ended_at for job in standings} == {None}
    assert len(standings) < 20


def test_an_array_of_impossible_length_is_not_counted_out() -> None:
    line = FIELD.join(("4_[0-999999999]", "PENDING", "0:0", "Unknown", "Unknown", "", "0", "", "jm-2")) + "\n"

    assert DIALECT.seen([Answer(0, ""), Answer(0, line)]).jobs == ()


def test_one_queue_and_one_account_command_for_any_number_of_jobs() -> None:
    assert [command.argv[4] for command in DIALECT.look(["1", "2", "3"])] == ["squeue", "sacct"]
    assert "--jobs=1,2,3" in DIALECT.look(["1", "2", "3"])[1].argv
    assert DIALECT.ask(Wish.CANCEL, ["1", "2"]) is not None


# Scripts.


def directives(script: str) -> list[str]:
    """The options that sbatch would read: lines at the top that begin so."""
    found = []
    for line in script.split("\n")[1:]:
        if not line.startswith("#SBATCH "):
            break
        found.append(line.removeprefix("#SBATCH "))
    return found


@pytest.mark.parametrize(
    ("priority", "said"),
    [(0, []), (5, []), (-5, ["--nice=5"]), (-(2**31) + 1, ["--nice=2147483645"])],
)
def test_priority_is_said_as_far_as_everybody_may(priority: int, said: list[str]) -> None:
    resources = Resources(directives=("--nice=9",))

    plain = directives(DIALECT.script(replace(ORDER, priority=priority)))
    own = directives(DIALECT.script(replace(ORDER, priority=priority, resources=resources)))

    assert [line for line in plain if "nice" in line] == said
    # Of an option that is said twice the last one counts.
    assert [line for line in own if "nice" in line] == [*said, "--nice=9"]


def test_script_is_directives_and_body() -> None:
    resources = Resources(cpus=4, partition="debug", exclusive=True, directives=("--nice=5",))

    script = DIALECT.script(replace(ORDER, body="echo hi\n", resources=resources, elements=10))

    assert script == (
        "#!/bin/sh\n#SBATCH --nice=5\n#SBATCH --cpus-per-task=4\n#SBATCH --partition=debug\n#SBATCH --exclusive\n"
        '#SBATCH --job-name=jm-1\n#SBATCH --output="/c/out"\n#SBATCH --error="/c/err"\n#SBATCH --open-mode=append\n'
        '#SBATCH --chdir="/c"\n#SBATCH --no-requeue\n#SBATCH --export=NONE\n#SBATCH --propagate=NONE\n'
        "#SBATCH --array=0-9\n"
        "export SLURM_EXPORT_ENV=ALL\necho hi\n"
    )


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        (Resources(gpu_type="a100"), "resources.gpu_type"),
        (Resources(gpus=1, gpu_type="a100:7,v100"), "resources.gpu_type"),
        (Resources(memory_bytes=1, memory_per_cpu_bytes=1), "resources.memory_per_cpu"),
        (Resources(mail_to="me@example.com"), "resources.mail_to"),
        (Resources(directives=("-a1-5",)), "resources.directives"),
        (Resources(directives=("nice=5",)), "resources.directives"),
        (Resources(directives=("--requeue",)), "resources.directives"),
        (Resources(directives=("--reque",)), "resources.directives"),
        (Resources(directives=("--arr=1-5",)), "resources.directives"),
        (Resources(directives=("--wait",)), "resources.directives"),
        (Resources(directives=("--quiet",)), "resources.directives"),
        (Resources(directives=("--export=ALL",)), "resources.directives"),
        (Resources(directives=("--nice=1 --requeue",)), "resources.directives"),
    ],
)
def test_what_slurm_cannot_be_told_is_refused(resources: Resources, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DIALECT.script(replace(ORDER, resources=resources))

    assert refused.value.field == field


_TEXTS = ("partition", "account", "qos", "reservation", "constraint", "mail_to", "gpu_type")
_HOSTILE = st.text(
    st.sampled_from("ab1 \n\r\t;#$`'\"\\&|<>(){}*?!=%,:-_@\x00\x1b\x85\u2028é"), max_size=12
) | st.text(max_size=12)


@given(field=st.sampled_from([*_TEXTS, "licenses", "directives"]), text=_HOSTILE)
def test_no_value_makes_an_option_or_a_command_of_its_own(field: str, text: str) -> None:
    asked: dict[str, Any] = {field: (text,) if field in {"licenses", "directives"} else text}
    resources = Resources(**asked, gpus=1, mail_on=("end",))
    plain = DIALECT.script(replace(ORDER, resources=Resources(gpus=1, mail_on=("end",))))
    try:
        script = DIALECT.script(replace(ORDER, resources=resources))
    except InvalidRequest as refused:
        assert refused.field == f"resources.{field}"
        return

    changed = [option for option in directives(script) if option not in directives(plain)]
    assert len(changed) == 1
    assert text in changed[0]
    assert not re.search(r"[\s\"'`\\$;<>#\x00-\x1f]", changed[0])
    assert script.count("\n") == plain.count("\n") + (0 if field == "gpu_type" else 1)


@given(name=st.sampled_from(["stdout", "stderr", "cwd"]), text=_HOSTILE)
def test_no_path_makes_an_option_of_its_own(name: str, text: str) -> None:
    path = f"/{text}"
    changes: dict[str, Any] = {name: path}
    try:
        script = DIALECT.script(replace(ORDER, **changes))
    except InvalidRequest as refused:
        assert refused.field == name
        return

    written = path if name == "cwd" else path.replace("%", "%%")
    assert sum(option.endswith(f'="{written}"') for option in directives(script)) >= 1
    assert len(directives(script)) == len(directives(DIALECT.script(ORDER)))
    assert not set(text) & set('"\\$`\n')
