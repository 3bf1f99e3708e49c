"""Control files: a job may write them, and whatever it writes decides nothing, or is whole."""

from __future__ import annotations

import json
import math
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.dialects.dialect import Cause, Phase, Standing
from jobmgr.executors import evidence, gate, place, process, verdict
from jobmgr.executors.evidence import Finding
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import ExitRecord
from jobmgr.executors.verdict import Known
from tests.fuzz import garbage

TOKEN = "0123456789abcdef"
AT = "2026-11-21T10:00:00.000000Z"
LOCAL: dict[str, Any] = {
    "host": process.host(), "boot_id": process.boot_id(), "pid_ns": process.pid_namespace(), "pid": 2**22,
    "start_ticks": 2, "socket": "/s", "mark": None, "warden": {"pid": 3, "start_ticks": 4, "socket": "/w"},
}  # fmt: skip
AT_SITE = {"site": "lab", "id": "12", "restarts": 0, "host": "n1", "at": AT}
VOID = {"v": 1, "token": TOKEN, "decision": "void", "nonce": "n", "reason": "cancelled"}
GATES: list[dict[str, Any]] = [
    VOID,
    *({"v": 1, "token": TOKEN, "decision": "run", "nonce": "n", "holder": one} for one in (LOCAL, AT_SITE)),
]
ENDED: dict[str, Any] = {
    "v": 1, "token": TOKEN, "exit_code": 3, "signal": None, "error": None, "ended_by": "self", "started_at": AT,
    "ended_at": AT, "cpu_s": 0.5, "peak_memory_bytes": 4096, "leftovers": 0, "pid": 7, "start_ticks": 8,
    "boot_id": "b", "signals": "TERM", "times": "0m0.1s 0m0.2s",
}  # fmt: skip
FAILED = {**ENDED, "exit_code": None, "error": {"code": "spawn_failed", "message": "no"}}
NOTE = {
    "v": 1,
    "token": TOKEN,
    "pid": 2**22,
    "start_ticks": 8,
    "boot_id": "b",
    "started_at": AT,
    "op": "started",
}
RECORDS = [ENDED, FAILED, NOTE]


@pytest.fixture
def control(tmp_path: Path) -> str:
    gate.make_roots(str(tmp_path))
    path = str(tmp_path / "control" / "job" / "1")
    gate.make(path, TOKEN)
    return path


def assert_storable(record: ExitRecord) -> None:
    """As the tables have it."""
    for number in (record.exit_code, record.signal, record.leftovers):
        assert number is None or (type(number) is int and abs(number) <= 2**31)
    for amount in (record.cpu_s, record.peak_memory_bytes):
        assert amount is None or (math.isfinite(amount) and 0 <= amount < 2**63)
    assert record.ended_at.astimezone(UTC).tzinfo is UTC
    assert record.started_at is None or record.started_at <= record.ended_at or record.started_at.tzinfo
    assert record.error is None or isinstance(record.error.message, str)


@given(
    decided=st.none() | garbage.json_bytes(*GATES),
    ended=st.none() | garbage.json_bytes(*RECORDS),
    noted=st.none() | garbage.json_bytes(*RECORDS),
)
def test_what_lies_in_a_control_directory_is_understood_or_decides_nothing(
    control: str, decided: bytes | None, ended: bytes | None, noted: bytes | None
) -> None:
    for name, content in (("gate", decided), ("exit", ended), ("exit.n", noted)):
        file = Path(control, name)
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)

    sighting = evidence.look(control, TOKEN)

    if sighting.record is not None:
        assert_storable(sighting.record)
    if sighting.finding is Finding.OPEN:
        assert sighting.gate is not None
        evidence.running_processes(control, sighting.gate)
    if (note := gate.read_note(control, "n")) is not None and note.get("pid") and note.get("started_at"):
        assert evidence.handle_of(note)


@given(token=st.binary(max_size=20) | garbage.broken([TOKEN.encode()]))
def test_a_token_is_this_attempts_or_another(control: str, token: bytes) -> None:
    Path(control, "token").write_bytes(token)

    finding = evidence.look(control, TOKEN).finding

    assert (finding is Finding.UNDECIDED) == (token in (b"", TOKEN.encode()))


_HANDED_IN = st.sampled_from(["", "jm-1 0", "jm-1 -", "jm-1", f"jm-1 {'9' * 5000}", "jm-1 ²", "jm-1 ٣"])
_STANDINGS = st.builds(
    Standing,
    id=st.sampled_from(["12", "13"]),
    name=st.just("jm-1"),
    phase=st.sampled_from(Phase),
    word=st.just("W"),
    cause=st.none() | st.sampled_from(Cause),
    restarts=st.none() | st.integers(0, 2),
)


def _line(text: bytes) -> str:
    # As place.sh prints it: what lies in a file comes without tabs and line ends.
    return " ".join(text.decode("utf-8", "surrogateescape").split())


@given(
    handed_in=_HANDED_IN,
    decided=st.just(b"") | garbage.json_bytes(*GATES),
    ended=st.just(b"") | garbage.json_bytes(*RECORDS),
    noted=st.just(b"") | garbage.json_bytes(*RECORDS),
    standings=st.lists(_STANDINGS, max_size=2),
    gone_s=st.sampled_from([0.0, 1e6]),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)
def test_what_a_site_tells_of_an_attempt_leads_to_a_verdict(
    handed_in: str,
    decided: bytes,
    ended: bytes,
    noted: bytes,
    standings: list[Standing],
    gone_s: float,
    flags: tuple[bool, bool, bool, bool],
) -> None:
    told = "\t".join(["job/1", TOKEN, handed_in, _line(decided), _line(ended), _line(noted)])
    complete, has_queue, is_cancelled, heeds_memory = flags
    known = Known(TOKEN, is_cancelled, gone_s, Pace(), heeds_memory=heeds_memory, recorded_s=gone_s)

    _, files = place.read(told)
    found = verdict.judge(known, files, standings, complete=complete, has_queue=has_queue)

    verdict.is_alive(files, standings)
    record = getattr(found, "record", None)
    if record is not None:
        assert_storable(record)


def test_the_examples_are_what_holders_write() -> None:
    """Else the tests above would try nothing."""
    assert all(gate.is_gate(one) for one in GATES)
    assert gate.is_exit(ENDED)
    assert gate.is_exit(FAILED)
    assert gate.is_note(NOTE)
    assert json.loads(json.dumps(RECORDS)) == RECORDS
