"""What a job writes into its own control directory is not believed unless it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobmgr.executors import evidence, gate
from jobmgr.executors.evidence import Finding
from tests.fuzz.test_records import ENDED, GATES, NOTE, TOKEN, control  # noqa: F401 -- a fixture
from tests.security.guards import NO_LINKS, WHOLE_DECISION, WHOLE_HOLDER, WHOLE_NOTE, WHOLE_RECORD, rests_on

RUN = next(one for one in GATES if one["decision"] == gate.RUN)


def finding(control: str, name: str, found: dict[str, Any]) -> Finding:  # noqa: F811
    Path(control, name).write_text(json.dumps(found))
    return evidence.look(control, TOKEN).finding


@rests_on(WHOLE_RECORD)
@pytest.mark.parametrize(
    "change",
    [{"exit_code": 2**40}, {"exit_code": "0"}, {"signal": 9}, {"cpu_s": -1.0}, {"leftovers": None}],
    ids=repr,
)
def test_a_record_that_is_not_whole_ends_nothing(control: str, change: dict[str, Any]) -> None:  # noqa: F811
    assert finding(control, "exit", {**ENDED, **change}) is not Finding.ENDED


@rests_on(WHOLE_DECISION)
@pytest.mark.parametrize("nonce", ["n/../../../other/1/exit", "", 7])
def test_a_gate_names_no_file_of_others(control: str, nonce: object) -> None:  # noqa: F811
    assert finding(control, "gate", {**RUN, "nonce": nonce}) is not Finding.OPEN


@rests_on(WHOLE_HOLDER)
@pytest.mark.parametrize(
    "change", [{"pid": -1}, {"pid": "self"}, {"start_ticks": None}, {"warden": None}], ids=repr
)
def test_a_gate_that_is_not_whole_names_no_holder(control: str, change: dict[str, Any]) -> None:  # noqa: F811
    assert finding(control, "gate", {**RUN, "holder": {**RUN["holder"], **change}}) is not Finding.OPEN


@rests_on(WHOLE_NOTE)
@pytest.mark.parametrize(
    "change", [{"pid": -1}, {"pid": "self"}, {"start_ticks": None}, {"started_at": "soon"}], ids=repr
)
def test_a_note_that_is_not_whole_names_no_process(control: str, change: dict[str, Any]) -> None:  # noqa: F811
    Path(control, "exit.n").write_text(json.dumps({**NOTE, **change}))

    assert gate.read_note(control, "n") is None


@rests_on(NO_LINKS)
def test_a_link_is_no_record(control: str, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "elsewhere").write_text(json.dumps(ENDED))
    Path(control, "exit").symlink_to(tmp_path / "elsewhere")

    assert evidence.look(control, TOKEN).finding is not Finding.ENDED
