"""LSF: what volclava 2.2 was seen to answer, and what IBM documents of LSF 10.1."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from dataclasses import replace
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
from jobmgr.dialects.lsf import Lsf
from jobmgr.dialects.lsf_order import Variant
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest
from tests.dialects import recording, shell

IBM: Dialect = Lsf()
CLASSIC: Dialect = Lsf(Variant.CLASSIC)
PRIORITIES: Dialect = Lsf(top_priority=100)
BOTH = pytest.mark.parametrize("dialect", [IBM, CLASSIC], ids=["ibm", "classic"])
ORDER = Order("jm-0123abcd", "exec run-it\n", "/w/j 1/out", "/w/j 1/err", "/w/j 1")
IBM_JOBS = (Path(__file__).parent.parent / "data" / "lsf" / "ibm_bjobs.json").read_text()


def recorded(name: str) -> Answer:
    return recording.answer("lsf", name)


def jobs(name: str) -> dict[str, Standing]:
    return {job.id: job for job in CLASSIC.seen([recorded(name)]).jobs}


def directives(script: str) -> list[str]:
    """Lines that bsub would read: all of the script, wherever they stand."""
    return [line.removeprefix("#BSUB ") for line in script.splitlines() if re.match(r"\s*#\s*BSUB", line)]


def asking(dialect: Dialect, **resources: Any) -> list[str]:
    """The directives of a script that asks for `resources`, without what every script has."""
    script = dialect.script(replace(ORDER, resources=Resources(**resources)))
    shell.insist_on_syntax(script)
    return [line for line in directives(script)[3:] if line != "-rn"]


# --- Submitting


def test_bsub_that_prints_one_id_has_submitted() -> None:
    assert IBM.submitted(recorded("bsub_ok")) == Submitted("3")
    assert IBM.submitted(recorded("bsub_ok_queue")) == Submitted("4")
    assert IBM.submitted(recorded("bsub_array_pct")) == Submitted("27")


def test_an_id_is_found_among_what_esubs_and_sites_print() -> None:
    answer = Answer(0, "Welcome!\nJob <77> is submitted to queue <normal>.\nGood luck.\n", "esub: checked\n")

    assert IBM.submitted(answer) == Submitted("77")


@pytest.mark.parametrize(
    "name",
    [
        "bsub_bad_queue", "bsub_bad_R", "bsub_bad_W", "bsub_W_over_queue", "bsub_closed_queue", "bsub_queue_denied",
        "bsub_too_many_procs", "bsub_root", "bsub_unknown_option", "bsub_stdin_bad_directive", "bsub_name5000",
        "bsub_rn_option", "bsub_bad_user_prio",
    ],
)  # fmt: skip
def test_plain_refusals_of_bsub_are_refusals_in_its_words(name: str) -> None:
    submission = CLASSIC.submitted(recorded(name))

    assert isinstance(submission, Refused)
    lines = [line.split() for line in recorded(name).stderr.splitlines()]
    assert submission.words == "; ".join(" ".join(line) for line in lines if line)


@pytest.mark.parametrize(
    ("name", "is_full"),
    [("bsub_ntries1_down", False), ("bsub_pend_threshold_notry", True), ("lim_down_ntries1", False)],
)
def test_a_limit_or_a_daemon_that_was_not_reached_is_busy(name: str, *, is_full: bool) -> None:
    submission = CLASSIC.submitted(recorded(name))

    assert isinstance(submission, Busy)
    assert (submission.is_full, submission.is_general) == (is_full, not is_full)


@pytest.mark.parametrize(
    "answer",
    [
        recorded("bsub_ntries1_recvtimeout"),  # "Job not submitted." was said of a job that ran
        recorded("bsub_recvtimeout_stopped"),  # one bsub, five jobs
        recorded("bsub_batch_down"),
        recorded("bsub_mbatchd_stopped_client_killed"),
        recorded("bsub_mbatchd_killed_while_waiting"),  # an id, after it tried again
        Answer(0, "", ""),
        Answer(255, "", ""),
        Answer(255, "Job <7> is submitted to queue <normal>.\n", ""),
        Answer(None, "Job <7> is submitted to queue <normal>.\n", ""),
        Answer(0, "Job <7> is submitted to queue <a>.\nJob <8> is submitted to queue <a>.\n", ""),
        Answer(255, "", "Cannot connect to LSF. Please wait ...\nBad job name. Job not submitted.\n"),
        Answer(255, "", "User <u>: Pending job threshold reached. Retrying in 60 seconds...\n"),
        Answer(255, "", "Failed in an LSF library call: A socket operation has failed. Job not submitted."),
    ],
)
def test_any_other_answer_of_bsub_is_doubtful(answer: Answer) -> None:
    assert isinstance(CLASSIC.submitted(answer), Doubtful)


@BOTH
def test_bsub_reads_the_script_tries_once_and_copies_no_environment(dialect: Dialect, tmp_path: Path) -> None:
    shell.install(tmp_path / "bin", "bsub", 'env; echo "[$#]"; cat')
    script = tmp_path / "a script"
    script.write_text("#BSUB -J x\n")

    command = dialect.submit(str(script), ORDER)
    answer = shell.run(
        command, tmp_path / "bin", {"SECRET": "x", "LSF_ENVDIR": "/opt/l s", "LSB_DEFAULTQUEUE": "q"}
    )

    assert "SECRET" not in answer.stdout
    assert "LSB_DEFAULTQUEUE" not in answer.stdout
    assert "LSB_NTRIES=1\n" in answer.stdout
    assert "LSF_ENVDIR=/opt/l s\n" in answer.stdout
    assert "HOME" not in answer.stdout  # not set, so not set to nothing
    assert answer.stdout.endswith("[0]\n#BSUB -J x\n")


# --- Finding by name


def nothing_past() -> Answer:
    return recorded("bhist_JOBNAME")


def test_find_asks_for_ended_and_for_forgotten_jobs() -> None:
    now, then = CLASSIC.find(["jm-1"])

    assert now.argv == ("env", "LC_ALL=C", "LSB_NTRIES=1", "bjobs", "-w", "-a", "-J", "jm-1")
    assert then.argv[3:] == ("bhist", "-a", "-w", "-n", "0", "-J", "jm-1")


def test_five_jobs_of_one_bsub_are_all_found() -> None:
    listing = CLASSIC.found(["duptest"], [recorded("bjobs_duptest"), nothing_past()])

    assert [job.id for job in listing.jobs] == ["150", "151", "152", "153", "154"]


def test_a_job_that_bsub_denied_is_found_after_its_end() -> None:
    listing = CLASSIC.found(["ntries1"], [recorded("bjobs_after_ntries1"), nothing_past()])

    assert listing.complete
    assert [(job.id, job.word) for job in listing.jobs] == [("155", "DONE")]


def test_a_forgotten_job_is_found_in_the_past() -> None:
    listing = CLASSIC.found(["cleantest"], [recorded("bjobs_cleaned_a_J"), recorded("bhist_cleaned_J")])

    assert listing.complete
    assert [(job.id, job.name, job.phase) for job in listing.jobs] == [("157", "cleantest", Phase.UNKNOWN)]


def test_jobs_of_several_names_are_found_in_present_and_past() -> None:
    """bjobs and bhist take one name each."""
    names = ["ntries1", "cleantest"]
    present = [recorded("bjobs_after_ntries1"), recorded("bjobs_cleaned_a_J")]
    denied = Answer(255, "", "bhist: Cannot open event file /lsf/lsb.events: Permission denied")

    listing = CLASSIC.found(names, [*present, nothing_past(), recorded("bhist_cleaned_J")])
    blind = CLASSIC.found(names, [*present, nothing_past(), denied])

    assert [command.argv[-1] for command in CLASSIC.find(names)] == [*names, *names]
    assert listing.complete
    assert [job.id for job in listing.jobs] == ["155", "157"]
    assert (blind.complete, blind.has_whole_queue, "Permission denied" in blind.why) == (False, True, True)


def test_a_job_of_present_and_past_is_one_job() -> None:
    listing = CLASSIC.found(["first"], [recorded("bjobs_a_w_1"), recorded("bhist")])

    assert [(job.id, job.phase) for job in listing.jobs] == [("3", Phase.RUNNING)]


def test_who_is_not_in_the_present_and_not_in_the_past_is_absent() -> None:
    listing = CLASSIC.found(["nosuchname"], [recorded("bjobs_J_unknown"), recorded("bhist_JOBNAME")])

    assert listing.complete
    assert listing.jobs == ()


@pytest.mark.parametrize(
    "name", ["bjobs_ntries1_down", "bjobs_ntries1_recvtimeout", "bjobs_batch_down", "lim_down"]
)
def test_a_blind_search_is_not_complete_and_says_why(name: str) -> None:
    listing = CLASSIC.found(["x"], [recorded(name), nothing_past()])

    assert not listing.complete
    assert listing.why


def test_a_search_without_the_past_is_not_complete() -> None:
    denied = Answer(255, "", "bhist: Cannot open event file /lsf/lsb.events: Permission denied")

    assert not CLASSIC.found(["nosuchname"], [recorded("bjobs_J_unknown"), denied]).complete


def test_an_array_is_found_by_its_name_and_others_are_not() -> None:
    elements = CLASSIC.found(["arrp"], [recorded("bjobs_J_wild"), nothing_past()])

    assert [(job.id, job.word) for job in elements.jobs] == [
        ("27[1]", "EXIT"), ("27[2]", "DONE"), ("27[3]", "EXIT"), ("27[4]", "DONE"), ("27[5]", "EXIT"),
    ]  # fmt: skip
    assert {job.name for job in elements.jobs} == {"arrp"}


def test_an_array_that_was_taken_for_a_plain_job_is_found_by_its_name() -> None:
    listing = CLASSIC.found(["x"], [recorded("bjobs_a_w_1"), recorded("bhist")])

    assert [(job.id, job.word) for job in listing.jobs][:2] == [("17", "RUN"), ("18", "RUN")]


# --- Looking


def test_one_command_looks_at_all_jobs() -> None:
    command, reasons = CLASSIC.look(["1", "27"])
    (ibm,) = IBM.look(["1", "27"])

    assert command.argv[3:] == ("bjobs", "-w", "-a", "1", "27")
    assert reasons.argv[3:] == ("bjobs", "-w", "-p", "1", "27")
    assert ibm.argv[3:5] == ("bjobs", "-o")
    assert ibm.argv[6:] == ("-json", "-a", "1", "27")


def test_unknown_ids_among_known_ones_leave_the_listing_complete() -> None:
    listing = CLASSIC.seen([recorded("bjobs_unknown_and_known")])

    assert listing.complete
    assert [job.id for job in listing.jobs] == ["1"]
    assert CLASSIC.seen([recorded("bjobs_unknown")]).complete
    assert CLASSIC.seen([recorded("bjobs_cleaned_mixed")]).complete


def test_why_jobs_wait_is_read_beside_their_listing() -> None:
    states, reasons = recorded("bjobs_states1"), recorded("bjobs_p_reasons")
    alone = CLASSIC.seen([states])

    listing = CLASSIC.seen([states, reasons])

    assert {job.id: job.reason for job in listing.jobs if job.reason} == {
        "30": "The schedule of the job is postponed for a while: 1 host",
        "31": "The job was suspended by the user while pending: 1 host",
        "33": "The job has a specified start time: 1 host",
    }
    assert replace(listing, jobs=tuple(replace(job, reason="") for job in listing.jobs)) == alone


def test_why_elements_wait_is_told_of_each() -> None:
    row = "27      lsfuser PEND  quick      vm             -        jm-1[{}]    Nov 21 00:56\n"
    several = " Closed by LSF administrator: 1 host;\n Job slot limit reached: 2 hosts;\n"
    listed = Answer(0, row.format(4) + row.format(5) + row.format(6).replace("PEND", "RUN "))
    told = Answer(0, f"{recorded('bjobs_p').stdout}{row.format(4)}{several}{row.format(6)} Too late;\n")

    listing = CLASSIC.seen([listed, told])

    assert {job.id: job.reason for job in listing.jobs} == {
        "27[4]": "Closed by LSF administrator: 1 host; Job slot limit reached: 2 hosts",
        "27[5]": "The job array has reached its running element limit: 1 host",
        "27[6]": "",
    }


@pytest.mark.parametrize("name", ["bjobs_ntries1_down", "bjobs_unknown", "bjobs_bad_id", "bjobs_o_badfield"])
def test_reasons_that_are_not_to_be_had_take_nothing_from_the_listing(name: str) -> None:
    listing = CLASSIC.seen([recorded("bjobs_states1")])

    assert CLASSIC.seen([recorded("bjobs_states1"), recorded(name)]) == listing
    assert CLASSIC.seen([recorded("bjobs_states1"), Answer(None)]) == listing
    assert listing.complete


def test_what_is_printed_while_waiting_is_not_the_answer() -> None:
    listing = CLASSIC.seen([recorded("bjobs_right_after_mbatchd_killed")])

    assert listing.complete
    assert [job.id for job in listing.jobs] == ["131"]


@pytest.mark.parametrize("answer", [Answer(0, "", ""), Answer(255, "", ""), recorded("bjobs_bad_id")])
@BOTH
def test_silence_and_complaints_are_no_listing(dialect: Dialect, answer: Answer) -> None:
    listing = dialect.seen([answer])

    assert not listing.complete
    assert listing.why


@pytest.mark.parametrize("name", ["bjobs_l_finished_while_sbatchd_down", "bjobs_o_badfield"])
@BOTH
def test_answer_in_another_form_than_was_asked_for_says_nothing_of_any_job(
    dialect: Dialect, name: str
) -> None:
    """Not that the first one's job ended, which it calls EXIT, nor that there is none."""
    by_id = dialect.seen([recorded(name)])
    by_name = dialect.found(["rerun"], [recorded(name), recorded(name)])

    for listing in (by_id, by_name):
        assert (listing.jobs, listing.complete, listing.has_whole_queue) == ((), False, False)
        assert recorded(name).stderr.strip() in listing.why
        assert listing.why


@pytest.mark.parametrize(
    ("name", "id", "phase"),
    [
        ("bjobs_states1", "29", Phase.RUNNING),
        ("bjobs_states1", "31", Phase.HELD),
        ("bjobs_states1", "33", Phase.PENDING),
        ("bjobs_after_bstop", "32", Phase.SUSPENDED),
        ("bjobs_after_bstop", "30", Phase.HELD),
        ("bjobs_unkwn", "127", Phase.UNKNOWN),
        ("bjobs_various_exits", "36", Phase.ENDED),
        ("bjobs_various_exits", "30", Phase.ENDED),
    ],
)
def test_each_state_is_a_phase(name: str, id: str, phase: Phase) -> None:  # noqa: A002 - the field's name
    assert jobs(name)[id].phase is phase


def test_done_of_a_killed_job_is_told_as_the_hint_that_it_is() -> None:
    killed = jobs("bjobs_various_exits")["36"]  # kill -9 $$

    assert (killed.word, killed.cause, killed.exit_code, killed.signal) == (
        "DONE",
        Cause.COMPLETED,
        None,
        None,
    )


def test_exit_is_not_final() -> None:
    before, after = jobs("bjobs_after_brequeue")["47"], jobs("bjobs_after_brequeue_later")["47"]

    assert (before.phase, after.phase) == (Phase.ENDED, Phase.RUNNING)
    assert before.has_run is None


def test_all_names_are_read_whatever_is_in_them() -> None:
    listing = CLASSIC.seen([recorded("bjobs_w_longnames")])

    assert listing.complete
    assert [job.name for job in listing.jobs][7:9] == ["a/b c:d*e?f", "/grp/x"]
    assert listing.jobs[10].name == ""
    assert listing.jobs[-1].name == "jobmgr-7f3a9c2e-1b2c-4d5e-8f90-0123456789ab.r1"


def test_nobody_there_is_complete() -> None:
    assert CLASSIC.seen([recorded("bjobs_none_user")]).complete
    assert CLASSIC.read_everything(recorded("bjobs_none_user_a")).complete
    assert len(CLASSIC.read_everything(recorded("bjobs_u_all_w")).jobs) == 6


def test_everybodys_jobs_are_listed_with_user_and_queue() -> None:
    whose = [(job.user, job.partition) for job in CLASSIC.read_everything(recorded("bjobs_u_all_w")).jobs]
    record = IBM_JOBS.replace('"STAT":"PEND"', '"STAT":"PEND", "USER":"ada", "QUEUE":"night"')

    assert whose == [("lsfuser", "quick")] * 4 + [("lsfuser", "normal")] * 2
    assert "user queue" in " ".join(IBM.everything().argv)
    assert "user queue" not in " ".join(IBM.look(["1"])[0].argv)
    waiting = [job for job in IBM.read_everything(Answer(0, record)).jobs if job.phase is Phase.PENDING]
    assert [(job.user, job.partition) for job in waiting] == [("ada", "night")]


def test_slots_and_hosts_of_what_runs_are_told() -> None:
    table = recorded("bjobs_u_all_w")
    wide = replace(table, stdout=table.stdout.replace("  vm          arrp[4]", "  8*vm:2*v2:vm arrp[4]"))

    classic = {job.id: (job.node_count, job.cpus, job.nodes) for job in CLASSIC.read_everything(wide).jobs}
    ibm = {job.id: (job.node_count, job.cpus) for job in IBM.read_everything(Answer(0, IBM_JOBS)).jobs}

    assert (classic["27[3]"], classic["27[4]"]) == ((1, 1, "vm"), (2, 11, "vm,v2"))
    assert classic["20"] == (None, None, "")
    assert (ibm["22005"], ibm["22006"], ibm["22009"]) == ((2, 3), (1, 8), (None, None))


def test_ibms_records_are_read_behind_what_is_printed_while_waiting() -> None:
    listing = IBM.seen([Answer(0, IBM_JOBS)])

    assert listing.complete
    assert [(job.id, job.name, job.phase, job.cause, job.exit_code) for job in listing.jobs] == [
        ("22005", "jm-0123abcd", Phase.ENDED, Cause.COMPLETED, None),
        ("22006", "jm-0123abce", Phase.ENDED, Cause.TIMEOUT, 140),
        ("22007[3]", "jm-0123abcf", Phase.ENDED, Cause.OUT_OF_MEMORY, 137),
        ("22008", "jm-0123abd0", Phase.ENDED, Cause.CANCELLED, 130),
        ("22009", "jm-0123abd1", Phase.PENDING, None, None),
        ("22010", "jm-0123abd2", Phase.UNKNOWN, None, None),
    ]
    assert (listing.jobs[0].nodes, listing.jobs[1].nodes, listing.jobs[4].nodes) == ("h1,h2", "h1", "")
    assert (listing.jobs[0].cpu_s, listing.jobs[0].peak_memory_bytes) == (12.5, int(6.5 * 2**20))
    assert listing.jobs[4].reason == "Job slot limit reached: 1 host;"


def test_recorded_json_of_the_same_form_is_read() -> None:
    listing = IBM.seen([recorded("bjobs_o_valid_json")])

    assert listing.complete
    assert len(listing.jobs) == json.loads(recorded("bjobs_o_valid_json").stdout, strict=False)["JOBS"]
    assert listing.jobs[0].id == "27[5]"
    assert IBM.seen([recorded("bjobs_o_json_unknown")]).complete
    assert IBM.seen([recorded("bjobs_none_user_json")]).complete


@pytest.mark.parametrize(
    "answer",
    [
        recorded("bjobs_o_json"),  # a field that this version does not know
        Answer(0, IBM_JOBS[: len(IBM_JOBS) // 2]),
        Answer(0, '{"COMMAND":"bjobs"}'),
        Answer(0, '{"RECORDS":[{"JOBID":"1"}]}'),
        Answer(0, '{"RECORDS":[{"JOBID":"1","ERROR":"Batch daemon not responding"}]}'),
        Answer(None, '{"RECORDS":[]}'),
    ],
)
def test_records_that_are_not_all_there_are_not_complete(answer: Answer) -> None:
    assert not IBM.seen([answer]).complete


# --- Asking


@pytest.mark.parametrize(
    ("name", "compliance"),
    [
        ("bkill_running", Compliance.DONE),
        ("bkill_pending", Compliance.DONE),
        ("bkill_s_USR1", Compliance.DONE),
        ("bstop_running", Compliance.DONE),
        ("bstop_pending", Compliance.DONE),
        ("bresume_running", Compliance.DONE),
        ("bkill_two_mixed", Compliance.DONE),
        ("bkill_finished", Compliance.GONE),
        ("bkill_unknown", Compliance.GONE),
        ("bkill_cleaned", Compliance.GONE),
        ("bkill_array_elem_unknown", Compliance.GONE),
        ("bkill_J", Compliance.GONE),
        ("bkill_other_user", Compliance.REFUSED),
        ("bkill_unkwn", Compliance.DOUBTFUL),
        ("bkill_array_whole", Compliance.DOUBTFUL),
        ("bkill_ntries1_down", Compliance.DOUBTFUL),
        ("bkill_batch_down", Compliance.DOUBTFUL),
    ],
)
def test_what_became_of_a_wish(name: str, compliance: Compliance) -> None:
    assert CLASSIC.complied(recorded(name)) is compliance


def test_each_wish_is_a_command() -> None:
    argvs = [command.argv[3:] for wish in Wish if (command := IBM.ask(wish, ["1", "27[2]"])) is not None]

    assert argvs == [(name, "1", "27[2]") for name in ("bkill", "bstop", "bresume", "bstop", "bresume")]


@pytest.mark.parametrize(("priority", "number"), [(0, 50), (7, 57), (-7, 43), (1000, 100), (-1000, 1)])
def test_priorities_lie_around_lsfs_default(priority: int, number: int) -> None:
    order = replace(ORDER, priority=priority)

    command = PRIORITIES.prioritise(priority, ["1", "27[2]"])

    assert command is not None
    assert command.argv[:3] == ("env", "LC_ALL=C", "LSB_NTRIES=1")
    assert command.argv[6:] == (str(number), "1", "27[2]")
    said = [line for line in directives(PRIORITIES.script(order)) if line.startswith("-sp")]
    assert said == ([f"-sp {number}"] if priority else [])
    own = replace(order, resources=Resources(directives=(" -sp 3",)))
    assert [line for line in directives(PRIORITIES.script(own)) if line.startswith("-sp")] == ['-sp "3"']


def test_a_site_without_priorities_of_users_is_told_none() -> None:
    assert IBM.prioritise(1, ["1"]) is None
    assert IBM.script(replace(ORDER, priority=5)) == IBM.script(ORDER)


def test_bmod_is_asked_for_each_job_by_itself(tmp_path: Path) -> None:
    bmod = tmp_path / "bmod"
    bmod.write_text('#!/bin/sh\necho "Parameters of job <$3> are being changed ($*, $LSB_NTRIES)"\n')
    bmod.chmod(0o755)
    command = PRIORITIES.prioritise(7, ["1", "27[2]"])
    assert command is not None

    told = subprocess.run(
        command.argv,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert [line.partition("(")[2] for line in told.splitlines()] == ["-sp 57 1, 1)", "-sp 57 27[2], 1)"]
    assert IBM.complied(Answer(0, told)) is Compliance.DONE


@pytest.mark.parametrize(
    ("words", "compliance"),
    [
        ("Job has already finished. Job not modified.", Compliance.GONE),
        ("Job has already started. Job not modified.", Compliance.REFUSED),
        ("Job priority control undefined. Job not modified.", Compliance.REFUSED),
        ("User permission denied. Job not modified.", Compliance.REFUSED),
        ("Failed in an LSF library call: Communication time out. Job not modified.", Compliance.DOUBTFUL),
        ("Connection refused by server. Job not modified.", Compliance.DOUBTFUL),
        ("Failed in an LSF library call: LIM is down; try later. Job not modified.", Compliance.DOUBTFUL),
        ("Batch daemon cannot fork. Job not modified.", Compliance.DOUBTFUL),
        ("batch system daemon not responding ... still trying", Compliance.DOUBTFUL),
    ],
)
def test_what_became_of_a_priority(words: str, compliance: Compliance) -> None:
    """As its sources have it: bmod of OpenLava, whose reasons are those of bsub."""
    assert PRIORITIES.complied(Answer(255, "", f"{words}\n")) is compliance


# --- Queues, machines, versions


def test_queues_are_read_with_the_default() -> None:
    both = recorded("bqueues_w").stdout + recorded("bparams_l").stdout
    queues = {queue.name: queue for queue in CLASSIC.read_partitions(Answer(0, both))}

    assert list(queues) == ["quick", "onejob", "reque", "limited", "normal", "adminonly"]
    assert [name for name, queue in queues.items() if queue.is_default] == ["normal"]
    assert (queues["quick"].jobs_running, queues["quick"].jobs_pending, queues["quick"].is_up) == (1, 0, True)
    assert (queues["onejob"].cpus, queues["quick"].cpus) == (1, None)


def test_machines_are_read() -> None:
    (up,) = CLASSIC.read_nodes(recorded("bhosts_w"))
    (away,) = CLASSIC.read_nodes(recorded("bhosts_unkwn"))

    assert (up.name, up.state, up.is_up, up.cpus, up.cpus_used) == ("vm", "ok", True, 4, 1)
    assert (away.state, away.is_up) == ("unreach", False)


def test_memory_of_machines_is_read_beside_them() -> None:
    both = recorded("bhosts_w").stdout + "\n" + recorded("lshosts_w").stdout

    (told,) = CLASSIC.read_nodes(Answer(0, both))
    (dashed,) = CLASSIC.read_nodes(Answer(0, both.replace("24105M", "-")))
    (alone,) = CLASSIC.read_nodes(Answer(255, recorded("bhosts_w").stdout, "lshosts: LIM is down; try later"))

    assert (told.name, told.cpus, told.memory_bytes) == ("vm", 4, 24105 * 2**20)
    assert dashed.memory_bytes is alone.memory_bytes is None


def test_a_number_beyond_all_bounds_is_not_told() -> None:
    answer = recorded("bhosts_w")

    (node,) = CLASSIC.read_nodes(replace(answer, stdout=answer.stdout.replace(" 4 ", f" {'9' * 5000} ")))

    assert node.cpus is None


def test_daemons_that_are_down_have_no_queues_and_no_machines_to_tell() -> None:
    with pytest.raises(NotUnderstood, match="not responding"):
        CLASSIC.read_partitions(recorded("bqueues_batch_down"))
    with pytest.raises(NotUnderstood, match="Bad host name"):
        CLASSIC.read_nodes(recorded("bhosts_unknown"))


def test_the_version_tells_what_the_commands_know() -> None:
    assert CLASSIC.read_version(recorded("bjobs_V")) == "volclava project 2.2"
    assert IBM.read_version(Answer(0, "", "IBM Spectrum LSF Standard 10.1.0.0, Apr 01 2016\n")) == (
        "IBM Spectrum LSF Standard 10.1.0.0"
    )
    assert IBM.read_version(Answer(127, "", "sh: bjobs: not found")) is None


def test_what_answers_tells_which_lsf_it_is_and_what_it_allows() -> None:
    parameters = recorded("bparams_l")
    few = replace(parameters, stdout=parameters.stdout.replace("SIZE = 1000", "SIZE = 5"))
    ibm = Answer(0, "", "IBM Spectrum LSF Standard 10.1.0.0, Apr 01 2016\n")
    platform = Answer(0, "Platform LSF 9.1.3.0, Jul 04 2014\n")

    fitted = Lsf().fitted([recorded("bjobs_V"), parameters])
    assert (fitted.variant, fitted.array_cap) == (Variant.CLASSIC, 1000)
    assert Lsf(Variant.CLASSIC).fitted([ibm, parameters]).variant is Variant.IBM
    assert Lsf().fitted([platform, few]).variant is Variant.CLASSIC
    assert Lsf().fitted([platform, few]).array_cap == 5
    assert fitted.top_priority is None
    defined = replace(parameters, stdout=f"{parameters.stdout}    MAX_USER_PRIORITY = 2147483647\n")
    assert Lsf().fitted([ibm, defined]).top_priority == 2147483647
    assert Lsf().fitted([ibm, defined]).installation() == "IBM's options, priorities up to 2147483647"
    for answers in ([Answer(127, "", "no bjobs"), parameters], [ibm, recorded("lim_down_ntries1")]):
        with pytest.raises(NotUnderstood):
            IBM.fitted(answers)


# --- Scripts


def test_a_script_has_what_exactly_once_needs() -> None:
    script = IBM.script(ORDER)

    assert directives(script) == ['-J "jm-0123abcd"', '-o "/w/j 1/out"', '-e "/w/j 1/err"', "-rn"]
    assert script.endswith("\nunset LSB_NTRIES\ncd -- '/w/j 1' || exit 1\nexec run-it\n")
    shell.insist_on_syntax(script)


def test_options_that_older_commands_misread_are_not_said_to_them() -> None:
    assert not {"-rn", "-gpu", "-env", "-cwd", "-oo"} & {
        line.split()[0] for line in directives(CLASSIC.script(ORDER))
    }


def test_a_held_array_is_said_with_indices_from_one() -> None:
    lines = directives(IBM.script(replace(ORDER, is_held=True, elements=100)))

    assert {'-J "jm-0123abcd[1-100]"', '-o "/w/j 1/out.%I"', "-H"} <= set(lines)


@pytest.mark.parametrize("name", ["bsub_array_too_large", "bsub_bad_array", "bsub_env_option_none"])
def test_bsub_does_not_tell_what_it_misread(name: str) -> None:
    assert isinstance(CLASSIC.submitted(recorded(name)), Submitted)


@pytest.mark.parametrize("elements", [0, 1, 1001])
def test_arrays_that_lsf_would_take_for_plain_jobs_are_refused(elements: int) -> None:
    with pytest.raises(InvalidRequest, match="elements"):
        IBM.script(replace(ORDER, elements=elements))


def test_the_limit_of_arrays_is_the_sites() -> None:
    assert "[1-1001]" in Lsf(array_cap=2000).script(replace(ORDER, elements=1001))


@pytest.mark.parametrize(("index", "id"), [("0", "27"), ("3", "27[3]")])
def test_a_running_script_knows_itself_as_it_is_listed(index: str, id: str, tmp_path: Path) -> None:  # noqa: A002
    shell.install(tmp_path / "bin", "tell", f"echo {IBM.id_word} {IBM.index_word}{IBM.restarts_word}")

    env = {"LSB_JOBID": "27", "LSB_JOBINDEX": index}
    told = shell.run(Command(("tell",)), tmp_path / "bin", env)

    assert told.stdout == f"{id} {int(index) - 1}\n"


@pytest.mark.parametrize(
    ("resources", "ibm", "classic"),
    [
        ({"cpus": 4}, ["-n 4", '-R "span[hosts=1]"'], None),
        ({"tasks": 3}, ["-n 3"], None),
        ({"tasks": 3, "cpus": 2}, ["-n 6", '-R "span[block=2]"'], "nodes"),
        ({"nodes": 2, "tasks": 4, "cpus": 2}, ["-n 8", '-R "span[ptile=4]"'], None),
        ({"memory_bytes": 2**30 + 1}, ['-R "rusage[mem=1025MB]"', "-M 1025MB"], ['-R "rusage[mem=1025]"']),
        ({"nodes": 2, "memory_bytes": 2**30}, ["-n 2", '-R "rusage[mem=1024MB] span[ptile=1]"'],
         ["-n 2", '-R "rusage[mem=1024] span[ptile=1]"']),
        ({"cpus": 2, "memory_per_cpu_bytes": 2**30}, ["-n 2", '-R "rusage[mem=2048MB] span[hosts=1]"', "-M 2048MB"],
         ["-n 2", '-R "rusage[mem=2048] span[hosts=1]"']),
        ({"licenses": ("ansys:2", "hfss")}, ['-R "rusage[ansys=2,hfss=1]"'], None),
        ({"constraint": "bigmem && ncpus>8"}, ['-R "select[bigmem && ncpus>8]"'], None),
        ({"gpus": 2, "gpu_type": "A100"}, ['-gpu "num=2:gmodel=A100"'], "gpus"),
        ({"exclusive": True}, ["-x"], None),
        ({"walltime_s": 90_061}, ["-W 25:02"], None),
        ({"walltime_s": 1}, ["-W 0:01"], None),
        ({"partition": "normal", "account": "p1"}, ["-q normal", "-P p1"], None),
        ({"reservation": "user_1"}, ["-U user_1"], "reservation"),
        ({"mail_to": "a@x.org", "mail_on": ("begin", "end", "fail")}, ["-u a@x.org", "-B", "-N"], None),
        ({"directives": ("-w done(12) && ended(13)", "-sp 7")}, ['-w "done(12) && ended(13)"', '-sp "7"'], None),
    ],
)  # fmt: skip
def test_resources_are_said_as_the_manual_has_it(
    resources: dict[str, Any], ibm: list[str], classic: list[str] | str | None
) -> None:
    assert asking(IBM, **resources) == ibm
    for line in ibm:
        insist_on_option(line)
    if isinstance(classic, str):
        with pytest.raises(InvalidRequest) as refused:
            asking(CLASSIC, **resources)
        assert refused.value.field == f"resources.{classic}"
    else:
        assert asking(CLASSIC, **resources) == (ibm if classic is None else classic)


@pytest.mark.parametrize(
    ("field", "resources"),
    [
        ("qos", {"qos": "high"}),
        ("gpus", {"gpu_type": "A100"}),
        ("gpu_type", {"gpus": 1, "gpu_type": "A100:mode=exclusive_process"}),
        ("tasks", {"tasks": 5, "nodes": 2}),
        ("tasks", {"tasks": 2, "nodes": 4}),
        ("nodes", {"tasks": 4, "memory_per_cpu_bytes": 2**20}),
        ("memory_per_cpu", {"memory_bytes": 1, "memory_per_cpu_bytes": 1}),
        ("mail_on", {"mail_on": ("fail",)}),
        ("mail_on", {"mail_on": ("never",)}),
        ("partition", {"partition": "a b"}),
        ("partition", {"partition": "-H"}),
        ("account", {"account": "x\n#BSUB -H"}),
        ("constraint", {"constraint": 'a] rusage[mem=1" -H'}),
        ("constraint", {"constraint": "a] rusage[mem=1"}),
        ("licenses[0]", {"licenses": ("a=1,b",)}),
        ("licenses[1]", {"licenses": ("ansys", "mem:1")}),
        ("mail_to", {"mail_to": "a`id`"}),
        ("directives", {"directives": ("-J other",)}),
        ("directives", {"directives": ("-env all",)}),
        ("directives", {"directives": ("-K",)}),
        ("directives", {"directives": ('-Jd a" -H "b',)}),
        ("directives", {"directives": ("-Jd -H",)}),
        ("directives", {"directives": ("-Jd",)}),
        ("directives", {"directives": ("-ti sleep 100",)}),
    ],
)
def test_what_lsf_cannot_say_is_refused_with_the_field(field: str, resources: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asking(IBM, **resources)

    assert refused.value.field == f"resources.{field}"


@pytest.mark.parametrize(
    "change", [{"name": "x[1-2]"}, {"name": "a*"}, {"name": ""}, {"stdout": "/w/%J"}, {"stderr": '/w/"a'}]
)
def test_names_and_paths_that_would_be_misread_are_refused(change: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        IBM.script(replace(ORDER, **change))  # type: ignore[arg-type]

    assert refused.value.field == next(iter(change))


@pytest.mark.parametrize("body", ["export A='x\n#BSUB -q other'\n", "exec a\n  # BSUB -H\n"])
def test_a_body_with_a_line_that_bsub_would_obey_is_refused(body: str) -> None:
    with pytest.raises(InvalidRequest, match="begins with #BSUB"):
        IBM.script(replace(ORDER, body=body))


_TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        "#BSUB -H",
        "a\n#BSUB -H",
        "-H",
        "$(id)",
        "a;b",
        'a" -H "',
        "a] rusage[mem=1",
        "-Jd x",
        "-sp 7",
        "done(1)",
    ]
)


@given(
    values=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("partition", "account", "constraint", "mail_to", "reservation", "qos", "gpu_type"), _TEXTS
        )
        | {name: st.lists(_TEXTS, max_size=3).map(tuple) for name in ("licenses", "directives", "mail_on")}
        | {name: st.integers(1, 99) for name in ("nodes", "tasks", "cpus", "gpus", "memory_bytes")},
    ),
    cwd=_TEXTS,
)
@BOTH
def test_no_value_makes_a_line_or_an_option_of_its_own(
    dialect: Dialect, values: dict[str, Any], cwd: str
) -> None:
    try:
        script = dialect.script(replace(ORDER, cwd=cwd.replace("\0", ""), resources=Resources(**values)))
    except InvalidRequest as refused:
        assert refused.field
        return

    lines = directives(script)
    asked = sum(len(value) if isinstance(value, tuple) else 1 for value in values.values())
    assert len(lines) <= 4 + 2 + asked
    assert "-H" not in lines
    for line in lines:
        insist_on_option(line)


_ALONE = {"-H", "-x", "-B", "-N", "-rn"}
_NUMBER = r"\d+(?:\.\d+)?"
_RUSAGE = re.compile(
    rf"[A-Za-z_][\w.-]*={_NUMBER}(?:KB|MB|GB)?(?:[,:][A-Za-z_][\w.-]*={_NUMBER}(?:KB|MB|GB)?)*"
)
_SPAN = re.compile(r"hosts=1|ptile=\d+|block=\d+")
_GPU = re.compile(r"num=\d+(?::gmodel=[\w.-]+)?")
_SECTION = re.compile(r"(select|rusage|span)\[([^\]\[]*)\]")


def insist_on_option(line: str) -> None:
    """Hold a line against bsub(1): one option with its value; run limits, sections of -R, GPUs."""
    words = shlex.split(line)
    assert words[0].startswith("-")
    assert len(words) == (1 if words[0] in _ALONE else 2), line
    if words[0] == "-W":
        assert re.fullmatch(r"\d+:[0-5]\d", words[1]) is not None, line
    if words[0] == "-gpu":
        assert _GPU.fullmatch(words[1]) is not None, line
    if words[0] == "-R":
        sections = _SECTION.findall(words[1])
        assert " ".join(f"{name}[{value}]" for name, value in sections) == words[1], line
        for name, value in sections:
            pattern = {"rusage": _RUSAGE, "span": _SPAN}.get(name)
            assert pattern is None or pattern.fullmatch(value) is not None, line
