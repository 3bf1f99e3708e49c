"""No answer, however broken, breaks a dialect or is taken for more than it says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobmgr.dialects import registry
from jobmgr.dialects.dialect import Answer, Dialect, Doubtful, NotUnderstood, Submitted
from tests.dialects import recording
from tests.dialects.everyone import ALL

_IBM_JOBS = (Path(__file__).parent.parent / "data" / "lsf" / "ibm_bjobs.json").read_text()
_TEXTS = [
    recording.answer("pbs", name).stdout
    for name in (
        "qstat_x_f_text_finished_walltime",
        "qstat_Q_f",
        "pbsnodes_a",
        "torque_qstat_f_all",
        "qselect_N_dup",
    )
] + [
    recording.answer("lsf", name).stdout
    for name in ("bjobs_various_exits", "bjobs_o_valid_json", "bqueues_w", "bhosts_w", "bhist", "bparams_l")
]
_SLURM_TEXTS = [
    recording.slurm_answer(name).stdout
    for name in ("all-squeue", "all-sacct", "partitions", "nodes", "config", "submitted")
]
# Of these nothing is recorded: as Microsoft documents them, and as a shell here tells of processes.
_OTHER_TEXTS = [
    "Job has been submitted. ID: 35.\n",
    "Id : 35\nName : jm-1\nState : Running\n\nId : 36\nName : jm-1\nState : Canceled\n\n2 matching jobs for LAB\\ann\n",
    "Node Name : N1\nState : Online\nNumber Of Cores : 8\n\n",
    "boot 5f0c\nstat 12 R 12 345\n/proc/12/cmdline:jobmgr-job\n/proc/12/cmdline:jm-1\nend\n",
]
_PIECES = st.text(max_size=12) | st.sampled_from(
    [
        "9" * 5000,
        "9" * 18,
        "²",
        "[0-999999999]",
        "[1-5:0]",
        "\x1f",
        "\x1e",
        "1.2.3 seconds",
        "1.2.3 Mbytes",
        '"',
        "{",
        "}",
        "\n",
        "\t",
        "\0",
        "\udcff",
        "[",
        "[9]",
        "Job Id: ",
        "-",
    ]
)


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A recorded text of which a part is missing or is something else."""
    text = draw(st.sampled_from([*_TEXTS, *_SLURM_TEXTS, *_OTHER_TEXTS, _IBM_JOBS, ""]))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 40)))
    return text[:start] + draw(_PIECES) + text[end:] if draw(st.booleans()) else text[:start] + draw(_PIECES)


ANSWERS = st.builds(
    Answer, st.sampled_from([None, 0, 1, 2, 35, 38, 99, 153, 162, 255]), broken(), broken() | st.just("")
)


@ALL
@settings(deadline=None)
@given(answer=ANSWERS)
def test_a_broken_answer_breaks_no_dialect(dialect: Dialect, answer: Answer) -> None:
    dialect.submitted(answer)
    dialect.complied(answer)
    dialect.read_version(answer)
    for listing in (
        dialect.found(["jm-1"], [answer] * len(dialect.find(["jm-1"]))),
        dialect.seen([answer] * len(dialect.look(["1"]))),
        dialect.read_everything(answer),
    ):
        assert listing.complete or listing.why
    for read in (dialect.read_partitions, dialect.read_nodes):
        try:
            read(answer)
        except NotUnderstood as error:
            assert str(error)


_PROBED = {
    "slurm": [recording.slurm_answer("config")],
    "pbs": [recording.answer("pbs", "qsub_version"), recording.answer("pbs", "qstat_B_f")],
    "lsf": [recording.answer("lsf", "bjobs_V"), recording.answer("lsf", "bparams_l")],
}


@pytest.mark.parametrize("name", _PROBED)
@pytest.mark.parametrize("size", ["²", "x", "1x", "0", "9" * 5000])
def test_a_broken_answer_fits_no_dialect_to_what_there_is_not(name: str, size: str) -> None:
    *version, told = _PROBED[name]
    limits = re.sub(
        r"((?:max_array_size|MaxArraySize|MAX_JOB_ARRAY_SIZE) *= *)\d+", rf"\g<1>{size}", told.stdout
    )
    assert limits != told.stdout

    try:
        fitted = registry.dialect(name).fitted([*version, replace(told, stdout=limits)])
    except NotUnderstood as error:
        assert str(error)
    else:
        assert (size, fitted.array_cap) == ("0", None)


@ALL
@settings(deadline=None)
@given(stdout=broken(), stderr=broken())
def test_a_command_that_did_not_end_proves_nothing(dialect: Dialect, stdout: str, stderr: str) -> None:
    answer = Answer(None, stdout, stderr)

    assert isinstance(dialect.submitted(answer), Doubtful)
    assert not dialect.found(["jm-1"], [answer] * len(dialect.find(["jm-1"]))).complete
    assert not dialect.seen([answer] * len(dialect.look(["1"]))).complete
    for read in (dialect.read_partitions, dialect.read_nodes):
        with pytest.raises(NotUnderstood):
            read(answer)


@ALL
def test_silence_is_no_submission(dialect: Dialect) -> None:
    for exit_code in (None, 0, 1, 2, 38, 162, 255):
        submission = dialect.submitted(Answer(exit_code))
        assert not isinstance(submission, Submitted)
        assert submission.words
