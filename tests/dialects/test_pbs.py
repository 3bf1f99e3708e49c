"""PBS: what OpenPBS 23.06 was seen to answer, and what is written for it after its manual."""

from __future__ import annotations

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
    Command,
    Compliance,
    Dialect,
    Doubtful,
    NotUnderstood,
    Order,
    Phase,
    Refused,
    Standing,
    Submitted,
    Wish,
)
from jobmgr.dialects.pbs import Flavour, Pbs
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest
from tests.dialects import recording, shell

PBS: Dialect = Pbs()
FORGETFUL: Dialect = Pbs(keeps_history=False)
TORQUE: Dialect = Pbs(Flavour.TORQUE)
ORDER = Order("jm-0123abcd", "exec run-it\n", "/w/j1/out", "/w/j1/err", "/w/j 1")


def recorded(name: str) -> Answer:
    return recording.answer("pbs", name)


def jobs(name: str) -> dict[str, Standing]:
    return {job.id: job for job in PBS.seen([recording.full_text(name)]).jobs}


def job(name: str) -> Standing:
    (only,) = jobs(name).values()
    return only


def asking(dialect: Dialect = PBS, **resources: Any) -> list[str]:
    """The directives of a script that asks for `resources`, without what every script has."""
    return directives(dialect.script(replace(ORDER, resources=Resources(**resources))))[6:]


def directives(script: str) -> list[str]:
    """Lines that qsub would read. Source: qsub(1B), "the first executable line" ends them."""
    lines = script.splitlines()
    assert lines[0] == "#!/bin/sh"
    taken = []
    for line in lines[1:]:
        if line.startswith("#PBS "):
            taken.append(line.removeprefix("#PBS "))
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return taken


# --- Submitting


def test_qsub_that_prints_an_id_has_submitted() -> None:
    assert PBS.submitted(recorded("qsub_f_ok")) == Submitted("28.pbsvm")
    assert PBS.submitted(recorded("qsub_array_ok")) == Submitted("65[].pbsvm")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qsub_f_err_unknown_queue", "Unknown queue"),
        ("qsub_f_err_unknown_resource", "Unknown resource Resource_List.nosuchres"),
        ("qsub_f_err_select_plus_ncpus", "cannot be used with"),
        ("qsub_f_err_illegal_W", "Error (15002) submitting job"),
        ("qsub_err_disabled_queue", "Queue is not enabled"),
        ("qsub_err_acl_queue", "Unauthorized Request"),
        ("qsub_err_queue_walltime_max", "violates queue and/or server resource limits"),
        ("qsub_err_array_too_big", "Array job exceeds"),
        ("qsub_err_array_one", "illegal -J value"),
        ("qsub_err_name_231", "Job name is too long"),
        ("qsub_err_bad_mem", "Illegal attribute or resource value select.mem"),
        ("qsub_as_root", "Bad UID"),
    ],
)
def test_plain_refusals_of_qsub_are_refusals_in_its_words(name: str, words: str) -> None:
    submission = PBS.submitted(recorded(name))

    assert isinstance(submission, Refused)
    assert words in submission.words


@pytest.mark.parametrize(
    ("name", "is_full"),
    [
        ("qsub_err_server_max_queued", True),
        ("qsub_err_over_queue_limit", True),
        ("down_qsub_f", False),
        ("qsub_err_PBS_SERVER_unknown", False),
    ],
)
def test_a_limit_or_a_server_that_was_not_reached_is_busy(name: str, *, is_full: bool) -> None:
    submission = PBS.submitted(recorded(name))

    assert isinstance(submission, Busy)
    assert (submission.is_full, submission.is_general) == (is_full, not is_full)


@pytest.mark.parametrize(
    "answer",
    [
        recorded("frozen_qsub_f_timeout5"),
        recorded("qsub_err_missing_script"),
        Answer(0, "", ""),
        Answer(0, "accepted, thank you\n", ""),
        Answer(0, "12.pbsvm\n13.pbsvm\n", ""),
        Answer(162, "", "qsub: System error occurred"),
        Answer(255, "", "qsub: cannot connect to server pbsvm (errno=15010)"),
        Answer(255, "", ""),
        Answer(1, "12.pbsvm\n", ""),
        Answer(None, "12.pbsvm\n", ""),
    ],
)
def test_any_other_answer_of_qsub_is_doubtful(answer: Answer) -> None:
    assert isinstance(PBS.submitted(answer), Doubtful)


def test_the_exit_code_of_qsub_counts_and_not_its_text() -> None:
    stale = recorded("qsub_daemon_stale_message_1")  # exit code 154, with the texts of earlier submissions

    assert isinstance(PBS.submitted(stale), Refused)
    assert isinstance(PBS.submitted(replace(stale, exit_code=0)), Doubtful)
    assert isinstance(PBS.submitted(Answer(38, "", "qsub: Unknown queue")), Busy)


def test_qsub_leaves_no_process_behind_that_submits_later() -> None:
    assert PBS.submit("/w/j1/script", ORDER).argv == ("qsub", "-f", "/w/j1/script")


# --- Finding by name


def test_find_asks_for_ended_jobs_too_and_finds_every_job_of_the_name() -> None:
    (command,) = PBS.find(["dup"])
    listing = PBS.found(["dup"], [recorded("qselect_N_dup")])

    assert command.argv[-4:] == ("qselect", "-x", "-N", "dup")
    assert listing.complete
    assert [(each.id, each.name, each.phase) for each in listing.jobs] == [
        ("1004.pbsvm", "dup", Phase.UNKNOWN),
        ("1005.pbsvm", "dup", Phase.UNKNOWN),
    ]


def test_jobs_of_several_names_are_found_one_name_after_the_other() -> None:
    answers = [recorded("qselect_N_dup"), recorded("frozen_after_qselect_w")]

    listing = PBS.found(["dup", "frozenw"], answers)
    blind = PBS.found(["dup", "findme"], [answers[0], recorded("down_qselect")])

    assert [command.argv[-1] for command in PBS.find(["dup", "frozenw"])] == ["dup", "frozenw"]
    assert listing.complete
    assert [(each.id, each.name) for each in listing.jobs] == [
        ("1004.pbsvm", "dup"),
        ("1005.pbsvm", "dup"),
        ("1098.pbsvm", "frozenw"),
    ]
    assert (blind.has_whole_queue, len(blind.jobs)) == (False, 2)


def test_a_job_that_appeared_after_qsub_had_timed_out_is_found() -> None:
    assert [each.id for each in PBS.found(["frozenw"], [recorded("frozen_after_qselect_w")]).jobs] == [
        "1098.pbsvm"
    ]


def test_nothing_found_with_history_is_complete() -> None:
    listing = PBS.found(["nosuchname"], [recorded("qselect_x_N_unknown")])

    assert listing.complete
    assert listing.jobs == ()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nohist_qselect_x_N", "not configured to maintain job history"),
        ("down_qselect", "cannot connect to server"),
        ("frozen_qselect_timeout2", "did not answer"),
    ],
)
def test_a_blind_search_is_not_complete_and_says_why(name: str, why: str) -> None:
    listing = PBS.found(["findme"], [recorded(name)])

    assert not listing.complete
    assert why in listing.why


def test_without_history_what_is_found_counts_and_what_is_not_does_not() -> None:
    (command,) = FORGETFUL.find(["dup"])
    found = FORGETFUL.found(["dup"], [recorded("qselect_N_dup")])
    missed = FORGETFUL.found(["ok"], [recorded("qselect_N_finished_nox")])

    assert "-x" not in command.argv
    assert len(found.jobs) == 2
    assert not found.complete
    assert not missed.complete


# --- Looking


def test_one_command_looks_at_all_jobs_and_at_the_elements_of_arrays() -> None:
    (alone,) = PBS.look(["30.pbsvm", "31.pbsvm"])
    (arrays,) = PBS.look(["30.pbsvm", "64[].pbsvm"])

    assert alone.argv == ("env", "LC_ALL=C", "TZ=UTC0", "qstat", "-x", "-f", "30.pbsvm", "31.pbsvm")
    assert arrays.argv[3:] == ("qstat", "-x", "-t", "-f", "30.pbsvm", "64[].pbsvm")


def test_the_full_text_of_a_running_job_is_read() -> None:
    listing = PBS.seen([recorded("qstat_f_running")])

    assert listing.complete
    assert listing.jobs == (
        Standing(
            id="44.pbsvm", name="runner", phase=Phase.RUNNING, word="R", has_run=True,
            started_at=datetime(2026, 11, 21, 0, 58, 39, tzinfo=UTC), nodes="pbsvm",
            user="pbsuser", partition="workq", node_count=1, cpus=1,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "json"),
    [
        ("qstat_x_f_text_finished_walltime", "qstat_x_f_json_finished_walltime"),
        ("qstat_f_running", "qstat_f_json_running"),
    ],
)
def test_recorded_json_made_into_text_says_what_the_recorded_text_says(text: str, json: str) -> None:
    (read,) = PBS.seen([recorded(text)]).jobs
    usage = ("cpu_s", "peak_memory_bytes")  # not printed yet in the one, a moment later in the other
    (made,) = PBS.seen([recording.full_text(json)]).jobs

    assert replace(made, **{name: getattr(read, name) for name in usage}) == read


def test_a_job_with_bytes_that_are_no_text_spoils_nothing() -> None:
    odd = recorded("qstat_x_f_text_latin1_control")
    both = replace(odd, stdout=odd.stdout + recorded("qstat_f_running").stdout)

    assert [(each.id, each.word, each.exit_code) for each in PBS.seen([both]).jobs] == [
        ("1123.pbsvm", "F", 0),
        ("44.pbsvm", "R", None),
    ]


def test_a_folded_line_is_one_line_again() -> None:
    text = "Job Id: 1.s\n    job_state = Q\n    comment = Can Never Run: Insuff\n\ticient amount = of \n\tmemory\n"

    (read,) = PBS.seen([Answer(0, text)]).jobs

    assert read.reason == "Can Never Run: Insufficient amount = of memory"


def test_unknown_ids_among_known_ones_leave_the_listing_complete() -> None:
    mixed = recording.full_text(
        "qstat_f_json_mixed_known_unknown"
    )  # of two known ids JSON has the first only
    listing = PBS.seen(
        [replace(mixed, stdout=mixed.stdout + recorded("qstat_x_f_text_finished_walltime").stdout)]
    )

    assert listing.complete
    assert [each.id for each in listing.jobs] == ["30.pbsvm", "35.pbsvm"]


@pytest.mark.parametrize("name", ["hist_qstat_unknown", "hist_purged_qstat_x"])
def test_an_unknown_job_is_absent(name: str) -> None:
    listing = PBS.seen([recorded(name)])

    assert listing.complete
    assert listing.jobs == ()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nohist_qstat_x_live", "not configured to maintain job history"),
        ("nohist_qstat_x", "not configured to maintain job history"),
        ("down_qstat", "cannot connect to server"),
        ("down_qstat_id_json", "cannot connect to server"),
        ("frozen_qstat_timeout3", "did not answer"),
    ],
)
def test_a_blind_look_is_not_complete_and_says_why(name: str, why: str) -> None:
    listing = PBS.seen([recorded(name)])

    assert not listing.complete
    assert why in listing.why


def test_without_history_who_is_missing_is_not_absent() -> None:
    assert not FORGETFUL.seen([recorded("hist_qstat_unknown")]).complete
    assert not FORGETFUL.seen([recorded("qstat_f_json_finished_without_x")]).complete
    assert len(FORGETFUL.seen([recorded("qstat_f_running")]).jobs) == 1


@pytest.mark.parametrize(
    "name",
    [
        "qstat_x_f_json_deleted_queued",
        "qstat_x_f_json_deleted_waiting",
        "qstat_f_json_depend_unknown",
        "qstat_x_f_json_dep_failed",
    ],
)
def test_an_ended_job_without_exit_status_never_ran(name: str) -> None:
    ended = job(name)

    assert (ended.phase, ended.has_run, ended.cause) == (Phase.ENDED, False, Cause.CANCELLED)


@pytest.mark.parametrize(
    ("name", "cause", "exit_code", "signal"),
    [
        ("qstat_x_f_json_finished_ok", Cause.COMPLETED, 0, None),
        ("qstat_x_f_json_finished_nonzero3", Cause.FAILED, 3, None),
        ("qstat_x_f_json_finished_sig9", Cause.FAILED, 137, None),
        ("qstat_x_f_json_finished_exit255", Cause.FAILED, 255, None),
        ("qstat_x_f_json_finished_badexe", Cause.FAILED, 254, None),
        ("qstat_x_f_json_finished_walltime", Cause.TIMEOUT, None, None),
        ("qstat_x_f_json_deleted_running", Cause.CANCELLED, None, 15),
        ("qstat_x_f_json_deleted_force", Cause.CANCELLED, None, 9),
        ("qstat_x_f_json_qsig_kill", Cause.FAILED, None, 9),
        ("qstat_x_f_json_qsig_term", Cause.FAILED, None, 15),
        ("nodefail_qstat_f_json_rn", Cause.NODE_FAIL, None, None),
        ("momrestart_qstat_x_f_json_end_rn", Cause.NODE_FAIL, None, None),
    ],
)
def test_the_exit_status_of_an_ended_job_tells_what_ended_it(
    name: str, cause: Cause, exit_code: int | None, signal: int | None
) -> None:
    ended = job(name)

    assert (ended.phase, ended.cause, ended.exit_code, ended.signal) == (
        Phase.ENDED,
        cause,
        exit_code,
        signal,
    )
    assert ended.has_run


def test_a_job_requeued_after_its_node_was_lost_waits() -> None:
    waiting = job("nodefail_qstat_f_json_rerunnable")

    assert (waiting.phase, waiting.cause, waiting.has_run) == (Phase.PENDING, Cause.NODE_FAIL, True)
    assert (waiting.exit_code, waiting.signal, waiting.ended_at) == (None, None, None)


@pytest.mark.parametrize("name", ["momrestart_qstat_f_json_3s", "qstat_f_json_rerun_0s"])
def test_count_of_tries_to_start_a_job_is_not_told_as_one_of_its_runs(name: str) -> None:
    """`run_count` is 2 here, and would be if the first node had been down: the script never learns it."""
    again = job(name)

    assert (again.phase, again.restarts, again.ended_at, again.cause) == (Phase.RUNNING, None, None, None)


def test_an_exit_status_does_not_end_a_job_that_is_still_ending() -> None:
    ending = next(each for each in jobs("qstat_f_json_all_live").values() if each.word == "E")

    assert (ending.phase, ending.cause, ending.exit_code) == (Phase.ENDING, None, None)


def test_a_job_is_called_running_for_a_while_after_the_server_came_back() -> None:
    assert job("after_restart_qstat_x_f_json_ended_while_down").phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("qstat_f_json_held_user", Phase.HELD),
        ("qstat_f_json_dep_held", Phase.HELD),
        ("qstat_f_json_hold_running", Phase.RUNNING),
        ("qstat_f_json_suspended", Phase.SUSPENDED),
        ("qstat_f_json_transit", Phase.PENDING),
        ("qstat_f_json_waiting", Phase.PENDING),
    ],
)
def test_each_state_is_a_phase(name: str, phase: Phase) -> None:
    assert job(name).phase is phase


def test_an_unheard_of_state_is_unknown_and_not_an_end() -> None:
    (read,) = PBS.seen([Answer(0, "Job Id: 1.s\n    job_state = M\n    Exit_status = 0\n")]).jobs

    assert (read.phase, read.word, read.cause, read.exit_code) == (Phase.UNKNOWN, "M", None, None)


def test_why_a_job_waits_is_told() -> None:
    assert jobs("qstat_f_json_impossible")["20.pbsvm"].reason.startswith(
        "Can Never Run: Insufficient amount of resource"
    )


def test_an_array_that_began_is_running_whatever_its_exit_status_says() -> None:
    elements = jobs("qstat_t_f_json_array")

    assert (elements["64[].pbsvm"].phase, elements["64[].pbsvm"].exit_code) == (Phase.RUNNING, None)
    assert (elements["64[1].pbsvm"].phase, elements["64[1].pbsvm"].exit_code) == (Phase.ENDED, 1)
    assert elements["64[2].pbsvm"].phase is Phase.RUNNING


def test_an_ended_array_has_no_exit_code_of_its_own() -> None:
    ended = job("qstat_x_f_json_array_parent_done")

    assert (ended.phase, ended.exit_code, ended.cause) == (Phase.ENDED, None, None)


def test_an_element_without_a_run_does_not_have_the_exit_status_of_its_array() -> None:
    elements = jobs("qstat_x_t_f_json_array2_deleted")

    assert (elements["65[0].pbsvm"].cause, elements["65[0].pbsvm"].signal) == (Cause.CANCELLED, 15)
    assert (elements["65[6].pbsvm"].phase, elements["65[6].pbsvm"].cause) == (Phase.ENDED, None)
    assert (elements["65[6].pbsvm"].exit_code, elements["65[6].pbsvm"].started_at) == (None, None)


def test_what_a_job_used_is_read() -> None:
    (ended,) = PBS.seen([recorded("qstat_x_f_text_finished_walltime")]).jobs

    assert (ended.cpu_s, ended.peak_memory_bytes) == (0.0, 5976 * 1024)
    assert ended.ended_at == datetime(2026, 11, 21, 0, 58, 51, tzinfo=UTC)


# --- Asking


@pytest.mark.parametrize(
    ("name", "compliance"),
    [
        ("qdel_queued", Compliance.DONE),
        ("qdel_running_again_at_once", Compliance.DONE),
        ("qdel_array", Compliance.DONE),
        ("qrls", Compliance.DONE),
        ("qdel_finished", Compliance.GONE),
        ("qdel_multi_mixed", Compliance.GONE),  # said of one of three, of which one was deleted
        ("qdel_unknown", Compliance.GONE),
        ("qhold_finished", Compliance.GONE),
        ("qalter_unknown", Compliance.GONE),
        ("qhold_o_user", Compliance.REFUSED),
        ("qsig_suspend_user", Compliance.REFUSED),
        ("qsig_queued", Compliance.REFUSED),
        ("momdown_qdel_running", Compliance.DOUBTFUL),
        ("down_qdel", Compliance.DOUBTFUL),
        ("frozen_qstat_timeout3", Compliance.DOUBTFUL),
        ("qdel_bad_id", Compliance.DOUBTFUL),
    ],
)
def test_what_became_of_a_wish(name: str, compliance: Compliance) -> None:
    assert PBS.complied(recorded(name)) is compliance


def test_each_wish_is_a_command() -> None:
    ids = ["1.s", "2.s"]
    argvs = [command.argv for wish in Wish if (command := PBS.ask(wish, ids)) is not None]

    assert argvs == [
        ("qdel", "1.s", "2.s"), ("qhold", "1.s", "2.s"), ("qrls", "1.s", "2.s"),
        ("qsig", "-s", "suspend", "1.s", "2.s"), ("qsig", "-s", "resume", "1.s", "2.s"),
    ]  # fmt: skip


@pytest.mark.parametrize(("priority", "said"), [(-9999, "-1024"), (7, "7"), (9999, "1023")])
def test_a_priority_is_kept_within_what_pbs_takes(priority: int, said: str) -> None:
    command = PBS.prioritise(priority, ["1.s"])

    assert command is not None
    assert command.argv == ("qalter", "-p", said, "1.s")


# --- Queues, machines, versions


def test_queues_are_read_with_limits_and_the_default() -> None:
    both = recorded("qstat_B_f").stdout + recorded("qstat_Q_f").stdout
    queues = {queue.name: queue for queue in PBS.read_partitions(Answer(0, both))}

    assert [name for name, queue in queues.items() if queue.is_default] == ["workq"]
    assert [name for name, queue in queues.items() if not queue.is_up] == ["offq", "stopq"]
    assert queues["wtq"].max_walltime_s == 600
    assert (queues["workq"].jobs_running, queues["workq"].jobs_pending) == (0, 0)


def test_machines_are_read() -> None:
    (busy,) = PBS.read_nodes(recorded("pbsnodes_a_busy"))
    (down,) = PBS.read_nodes(recorded("momdown_pbsnodes"))

    assert (busy.name, busy.state, busy.is_up, busy.cpus, busy.cpus_used) == ("pbsvm", "free", True, 8, 5)
    assert busy.memory_bytes == 24684084 * 1024
    assert (down.state, down.is_up) == ("down", False)


def test_a_server_that_is_down_has_no_queues_and_no_machines_to_tell() -> None:
    with pytest.raises(NotUnderstood, match="cannot connect to server"):
        PBS.read_nodes(recorded("down_pbsnodes"))
    with pytest.raises(NotUnderstood, match="cannot connect to server"):
        PBS.read_partitions(recorded("down_qstat"))


def test_everything_is_complete_without_history_and_not_without_a_server() -> None:
    assert FORGETFUL.read_everything(recorded("qstat_f_running")).complete
    assert not PBS.read_everything(recorded("down_qstat")).complete


def test_everybodys_jobs_are_listed_with_user_and_queue() -> None:
    (job,) = PBS.read_everything(recorded("qstat_f_running")).jobs
    torque = TORQUE.read_everything(recorded("torque_qstat_f_all")).jobs

    assert (job.user, job.partition) == ("pbsuser", "workq")
    assert {(job.user, job.partition) for job in torque} == {("root", "debug")}


def test_what_jobs_have_and_ask_for_is_told() -> None:
    answer = recorded("qstat_f_running")
    ncpus = "    Resource_List.ncpus = 1\n"
    large = answer.stdout.replace(ncpus, "    Resource_List.ncpus = 8\n    Resource_List.mem = 2gb\n")

    (small_job,) = PBS.read_everything(answer).jobs
    (large_job,) = PBS.read_everything(replace(answer, stdout=large)).jobs
    (torque_job, *_) = TORQUE.read_everything(recorded("torque_qstat_f_all")).jobs

    assert (small_job.node_count, small_job.cpus, small_job.memory_bytes) == (1, 1, None)
    assert (large_job.node_count, large_job.cpus, large_job.memory_bytes) == (1, 8, 2**31)
    assert (torque_job.node_count, torque_job.cpus) == (1, 1)


def test_the_version_tells_the_flavour() -> None:
    assert PBS.read_version(recorded("qsub_version")) == "PBS 23.06.06"
    assert PBS.read_version(Answer(127, "", "sh: qsub: not found")) is None


@pytest.mark.parametrize("keeps", [True, False])
def test_the_server_tells_what_it_keeps_and_allows(keeps: bool) -> None:
    server = recorded("qstat_B_f")
    text = server.stdout.replace("job_history_enable = True", f"job_history_enable = {keeps}")

    fitted = Pbs().fitted([recorded("qsub_version"), replace(server, stdout=text)])

    assert (fitted.flavour, fitted.keeps_history) == (Flavour.OPENPBS, keeps)
    assert fitted.array_cap == 10000
    with pytest.raises(NotUnderstood):
        PBS.fitted([recorded("qsub_version"), recorded("down_qstat")])
    with pytest.raises(NotUnderstood):
        PBS.fitted([Answer(127, "", "sh: qsub: not found"), server])


# --- Scripts


def test_a_script_has_what_exactly_once_needs() -> None:
    script = PBS.script(ORDER)

    assert directives(script) == [
        "-S /bin/sh", "-N jm-0123abcd", "-r n", "-o /w/j1/out", "-e /w/j1/err", "-m n",
    ]  # fmt: skip
    assert script.endswith("\ncd -- '/w/j 1' || exit 1\nexec run-it\n")
    shell.insist_on_syntax(script)


@pytest.mark.parametrize(
    ("priority", "own", "said"),
    [(0, (), []), (7, (), ["-p 7"]), (-5000, (), ["-p -1024"]), (7, ("-p 9",), ["-p 9"])],
)
def test_a_priority_is_said_unless_the_job_says_another(
    priority: int, own: tuple[str, ...], said: list[str]
) -> None:
    order = replace(ORDER, priority=priority, resources=Resources(directives=own))

    assert [line for line in directives(PBS.script(order)) if line.startswith("-p")] == said


def test_a_held_array_is_said() -> None:
    script = PBS.script(replace(ORDER, is_held=True, elements=100))

    assert {"-h", "-J 0-99", "-o /w/j1/out.^array_index^"} <= set(directives(script))


@pytest.mark.parametrize("elements", [0, 1])
def test_pbs_has_no_array_of_one(elements: int) -> None:
    with pytest.raises(InvalidRequest, match="elements"):
        PBS.script(replace(ORDER, elements=elements))


@pytest.mark.parametrize(
    ("resources", "lines"),
    [
        ({"cpus": 4}, ["-l select=1:ncpus=4"]),
        ({"memory_bytes": 2**30 + 1}, ["-l select=1:ncpus=1:mem=1048577kb"]),
        ({"tasks": 3, "cpus": 2}, ["-l select=3:ncpus=2:mpiprocs=1"]),
        ({"nodes": 2, "cpus": 8, "gpus": 1}, ["-l select=2:ncpus=8:ngpus=1", "-l place=scatter"]),
        ({"nodes": 2, "tasks": 5}, ["-l select=1:ncpus=3:mpiprocs=3+1:ncpus=2:mpiprocs=2", "-l place=scatter"]),
        ({"nodes": 1, "tasks": 4, "cpus": 2, "memory_per_cpu_bytes": 2**20},
         ["-l select=1:ncpus=8:mpiprocs=4:mem=8192kb"]),
        ({"constraint": "arch=linux:gpu_model=a100", "gpus": 2},
         ["-l select=1:ncpus=1:ngpus=2:arch=linux:gpu_model=a100"]),
        ({"exclusive": True}, ["-l place=excl"]),
        ({"exclusive": False, "nodes": 2}, ["-l select=2:ncpus=1", "-l place=scatter:shared"]),
        ({"walltime_s": 90_061.5}, ["-l walltime=25:01:02"]),
        ({"walltime_s": 0.2}, ["-l walltime=0:00:01"]),
        ({"partition": "workq", "account": "p1"}, ["-q workq", "-A p1"]),
        ({"reservation": "R123"}, ["-q R123"]),
        ({"licenses": ("ansys:2", "hfss")}, ["-l ansys=2", "-l hfss=1"]),
        ({"directives": ("-W umask=022", "-p 7")}, ["-W umask=022", "-p 7"]),
    ],
)  # fmt: skip
def test_resources_are_said_as_the_manual_has_it(resources: dict[str, Any], lines: list[str]) -> None:
    said = [
        line
        for line in directives(PBS.script(replace(ORDER, resources=Resources(**resources))))[5:]
        if line != "-m n"
    ]

    assert said == lines
    for line in said:
        insist_on_resource(line)


def test_mail_is_asked_for_on_what_is_wished() -> None:
    assert asking(mail_to="a@x.org", mail_on=("end", "begin", "fail")) == ["-M a@x.org"]
    assert "-m bea" in PBS.script(replace(ORDER, resources=Resources(mail_on=("end", "begin", "fail"))))


@pytest.mark.parametrize(
    ("field", "resources"),
    [
        ("qos", {"qos": "high"}),
        ("gpu_type", {"gpus": 1, "gpu_type": "a100"}),
        ("reservation", {"reservation": "R1", "partition": "workq"}),
        ("nodes", {"tasks": 4, "memory_bytes": 2**30}),
        ("nodes", {"tasks": 4, "gpus": 1}),
        ("tasks", {"tasks": 2, "nodes": 4}),
        ("memory_per_cpu", {"memory_bytes": 1, "memory_per_cpu_bytes": 1}),
        ("mail_on", {"mail_on": ("never",)}),
        ("partition", {"partition": "a b"}),
        ("partition", {"partition": "-V"}),
        ("account", {"account": "x\n#PBS -V"}),
        ("constraint", {"constraint": "a=1+4:ncpus=99"}),
        ("constraint", {"constraint": "fast"}),
        ("licenses[1]", {"licenses": ("ansys", "a=1,walltime=1")}),
        ("licenses[0]", {"licenses": ("walltime:1",)}),
        ("constraint", {"constraint": "arch=linux:ncpus=99"}),
        ("account", {"account": ""}),
        ("mail_to", {"mail_to": "a b"}),
        ("directives", {"directives": ("-N other",)}),
        ("directives", {"directives": ("-V",)}),
        ("directives", {"directives": ("-Wblock=true",)}),
        ("directives", {"directives": ("-W block=true",)}),
        ("directives", {"directives": ("-W interactive=true",)}),
        ("directives", {"directives": ("-W umask=022,block=true",)}),
        ("directives", {"directives": ("-W Rerunable=y",)}),
        ("directives", {"directives": ("-W depend=afterok:7,rerunable=y",)}),
        ("directives", {"directives": ("-W Job_Name=other",)}),
        ("directives", {"directives": ("-W Output_Path=/tmp/x",)}),
        ("directives", {"directives": ("-W Umask=022",)}),
        ("directives", {"directives": ("-W umask=0777",)}),
        ("directives", {"directives": ("-W umask=022,0",)}),
        ("directives", {"directives": ("-W stagein=a@h:b=c",)}),
        ("directives", {"directives": ("-W block",)}),
        ("directives", {"directives": ("-W x,umask=022",)}),
        ("directives", {"directives": ("-W =x",)}),
        ("directives", {"directives": ("-p 1 -V",)}),
        ("directives", {"directives": ("-p -V",)}),
        ("directives", {"directives": ("-p",)}),
    ],
)
def test_what_pbs_cannot_say_is_refused_with_the_field(field: str, resources: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asking(**resources)

    assert refused.value.field == f"resources.{field}"


def test_what_dash_w_may_not_set_is_named_with_what_it_may() -> None:
    with pytest.raises(InvalidRequest) as refused:
        asking(directives=("-W umask=022,Rerunable=y",))

    assert refused.value.message == (
        "'-W Rerunable' cannot be set here; of its attributes depend group_list release_nodes_on_stageout sandbox"
        " stagein stageout tolerate_node_failures umask are left"
    )


@pytest.mark.parametrize(
    "option",
    [
        "-W depend=afterok:12.server:13.server,beforeany:14",
        "-W umask=77",
        "-W group_list=lab@n1,staff,umask=0027",
        "-W stagein=a@h:/b,c@h:/d,stageout=e@h:/f,sandbox=PRIVATE",
    ],
)
def test_attributes_that_change_nothing_of_ours_are_passed_on(option: str) -> None:
    assert asking(directives=(option,)) == [option]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a:b"},
        {"name": "a b"},
        {"name": "x[1]"},
        {"name": ""},
        {"stdout": "/w/a:b"},
        {"stderr": "/w/a b"},
    ],
)
def test_names_and_paths_that_would_be_misread_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        PBS.script(replace(ORDER, **change))  # type: ignore[arg-type]

    assert refused.value.field == next(iter(change))


def test_a_body_cannot_say_directives() -> None:
    script = PBS.script(replace(ORDER, body="#PBS -q other\nexec run-it\n"))

    assert "-q other" not in directives(script)


_TEXTS = st.text(max_size=30) | st.sampled_from(
    ["#PBS -V", "a\n#PBS -V", "-V", "$(id)", "a;b", "a,b=c", "x" * 300]
)


@given(
    values=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("partition", "account", "constraint", "mail_to", "reservation", "qos"), _TEXTS
        )
        | {name: st.lists(_TEXTS, max_size=3).map(tuple) for name in ("licenses", "directives", "mail_on")}
        | {name: st.integers(1, 99) for name in ("nodes", "tasks", "cpus", "gpus", "memory_bytes")},
    ),
    cwd=_TEXTS,
)
@pytest.mark.parametrize("dialect", [PBS, TORQUE], ids=["openpbs", "torque"])
def test_no_value_makes_a_line_or_an_option_of_its_own(
    dialect: Dialect, values: dict[str, Any], cwd: str
) -> None:
    order = replace(ORDER, cwd=cwd.replace("\0", ""), resources=Resources(**values))
    try:
        script = dialect.script(order)
        argv = dialect.submit("/w/script", order).argv
    except InvalidRequest as refused:
        assert refused.field
        return

    asked = sum(len(value) if isinstance(value, tuple) else 1 for value in values.values())
    lines = directives(script)
    assert len(lines) <= 7 + asked
    for line in lines:
        insist_on_resource(line)
    assert len([word for word in argv if word == "-V"]) == 0


_LINE = re.compile(r"-[SNroejJhqAlmMacpPuW](?: [^\s\"'`\\$;<>#]+)?")
_ITEM = r"[A-Za-z_][\w.-]*=[^:+=,\s]+"
_SELECT = re.compile(rf"\d+(?::{_ITEM})+(?:\+\d+(?::{_ITEM})+)*")
_PLACE = re.compile(r"(?:free|pack|scatter|vscatter)?:?(?:excl|shared|exclhost)?")


def insist_on_resource(line: str) -> None:
    """Hold a line against qsub(1B) and pbs_resources(7B): one option; chunks, placement, durations."""
    assert _LINE.fullmatch(line) is not None, line
    option, _, value = line.partition(" ")
    resource, _, amount = value.partition("=")
    if option == "-l" and resource == "select":
        assert _SELECT.fullmatch(amount) is not None, line
    if option == "-l" and resource == "place":
        assert amount
        assert _PLACE.fullmatch(amount) is not None, line
    if option == "-l" and resource == "walltime":
        assert re.fullmatch(r"\d+:[0-5]\d:[0-5]\d", amount) is not None, line


# --- The commands that come with SLURM


def test_the_wrapper_gets_its_options_as_words_and_no_environment(tmp_path: Path) -> None:
    shell.install(tmp_path / "bin", "qsub", 'env; printf "<%s>" "$@"')
    resources = Resources(nodes=2, tasks=4, memory_bytes=2**30, walltime_s=3600, partition="debug", gpus=1)

    command = TORQUE.submit("/w/script", replace(ORDER, resources=resources, is_held=True))
    answer = shell.run(command, tmp_path / "bin", {"SECRET": "x", "HOME": "/home/a b"})

    assert "SECRET" not in answer.stdout
    assert "HOME=/home/a b\n" in answer.stdout
    assert answer.stdout.endswith(
        "<-N><jm-0123abcd><-r><n><-o></w/j1/out><-e></w/j1/err><-h><-q><debug>"
        "<-l><nodes=2:ppn=2:gpus=1,mem=1024mb,walltime=1:00:00><-m><n></w/script>"
    )


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("elements", {"elements": 5}),
        ("stdout", {"stdout": "/w/a b"}),
        ("stderr", {"stderr": "/w/a&b"}),
        ("resources.partition", {"resources": Resources(partition="a|b")}),
        ("resources.exclusive", {"resources": Resources(exclusive=True)}),
        ("resources.licenses", {"resources": Resources(licenses=("a",))}),
        ("resources.directives", {"resources": Resources(directives=("-p 1",))}),
        ("resources.tasks", {"resources": Resources(tasks=5, nodes=2)}),
    ],
)
def test_what_the_wrapper_cannot_say_is_refused(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        TORQUE.script(replace(ORDER, **change))

    assert refused.value.field == field


def test_the_wrapper_lists_jobs_but_never_all_of_them() -> None:
    found = TORQUE.found(["jm-0002"], [recorded("torque_qstat_f_all")])
    seen = TORQUE.seen([recorded("torque_qstat_f_ended")])

    assert [(each.id, each.phase) for each in found.jobs] == [("2", Phase.PENDING)]
    assert [(each.id, each.name, each.phase, each.cause, each.nodes) for each in seen.jobs] == [
        ("1", "jm-0001", Phase.ENDED, None, "n1"),
        ("2", "jm-0002", Phase.RUNNING, None, "n1"),
    ]
    assert not found.complete
    assert found.has_whole_queue
    assert not seen.complete
    assert not TORQUE.seen([recorded("torque_qstat_f_unknown")]).complete


def test_states_that_the_wrapper_does_not_tell_are_unknown() -> None:
    ended = recorded("torque_qstat_f_ended")

    (read, _) = TORQUE.seen([replace(ended, stdout=ended.stdout.replace("= C", "= U"))]).jobs

    assert read.phase is Phase.UNKNOWN


def test_the_wrapper_lists_nothing_without_a_server_and_says_so() -> None:
    listing = TORQUE.seen([recorded("torque_down_qstat")])

    assert not listing.complete
    assert listing.why == "Problem loading jobs."
    assert not TORQUE.read_everything(recorded("torque_down_qstat")).complete
    assert TORQUE.read_everything(recorded("torque_qstat_f_all")).complete


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (recorded("torque_qsub_ok"), Submitted),
        (recorded("torque_qsub_bad_partition"), Refused),
        (recorded("torque_down_qsub"), Busy),
        (
            Answer(1, "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"),
            Doubtful,
        ),
        (Answer(0, ""), Doubtful),
    ],
)
def test_what_sbatch_said_is_taken_through_the_wrapper(answer: Answer, kind: type) -> None:
    assert isinstance(TORQUE.submitted(answer), kind)


def test_the_wrapper_does_not_tell_why_it_did_not_cancel() -> None:
    assert TORQUE.complied(recorded("torque_qdel")) is Compliance.DONE
    assert TORQUE.complied(recorded("torque_qrls")) is Compliance.DONE
    assert TORQUE.complied(recorded("torque_qdel_unknown")) is Compliance.DOUBTFUL
    assert TORQUE.complied(recorded("torque_down_qdel")) is Compliance.DOUBTFUL


def test_queues_machines_and_version_are_read_through_the_wrapper() -> None:
    (queue,) = TORQUE.read_partitions(recorded("torque_qstat_Q_f"))
    (node,) = TORQUE.read_nodes(recorded("torque_pbsnodes"))
    version = TORQUE.read_version(recorded("torque_qsub_version"))

    assert (queue.name, queue.is_up) == ("debug", True)
    assert (node.name, node.is_up, node.cpus) == ("n1", True, 2)
    assert version == "Torque commands of SLURM"
    fitted = Pbs().fitted([recorded("torque_qsub_version"), recorded("torque_down_qstat")])
    assert (fitted.flavour, fitted.array_cap) == (Flavour.TORQUE, None)
    with pytest.raises(NotUnderstood, match="Problem loading node"):
        TORQUE.read_nodes(recorded("torque_down_pbsnodes"))


@pytest.mark.parametrize(("dialect", "id"), [(PBS, "65[3].pbsvm"), (TORQUE, "65[3].pbsvm")])
def test_a_running_script_knows_itself_as_it_is_listed(dialect: Dialect, id: str, tmp_path: Path) -> None:  # noqa: A002
    shell.install(tmp_path / "bin", "tell", f'echo "{dialect.id_word}"')

    told = shell.run(Command(("tell",)), tmp_path / "bin", {"PBS_JOBID": id, "SLURM_JOB_ID": "7"})

    assert told.stdout == f"{id}\n"


def test_a_script_behind_the_wrapper_knows_itself_by_slurms_word(tmp_path: Path) -> None:
    shell.install(tmp_path / "bin", "tell", f'echo "{TORQUE.id_word}"')

    told = shell.run(Command(("tell",)), tmp_path / "bin", {"SLURM_JOB_ID": "7"})

    assert told.stdout == "7\n"
