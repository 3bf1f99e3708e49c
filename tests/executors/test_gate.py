"""The control directory: one decision per attempt, and files that are whole or nothing."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from jobmgr.executors import gate

HOLDER: gate.Content = {
    "host": "here",
    "boot_id": "b",
    "pid_ns": "n",
    "pid": 1,
    "start_ticks": 2,
    "socket": "/s",
    "warden": {"pid": 3, "start_ticks": 4, "socket": "/w"},
}
RECORD: gate.Content = {
    "v": 1, "token": "token", "exit_code": 3, "signal": None, "error": None, "ended_by": "self", "started_at": None,
    "ended_at": "2026-01-01T00:00:00Z", "cpu_s": None, "peak_memory_bytes": None, "leftovers": 0,
}  # fmt: skip


@pytest.fixture
def control(tmp_path: Path) -> str:
    gate.make_roots(str(tmp_path))
    path = str(tmp_path / "control" / "job" / "1")
    gate.make(path, "token")
    return path


def test_first_one_through_the_gate_wins(control: str) -> None:
    assert gate.pass_gate(control, "token", "first", HOLDER)
    assert not gate.pass_gate(control, "token", "second", HOLDER)

    decision = gate.read(control)
    assert decision is not None
    assert (decision["decision"], decision["nonce"], decision["holder"]) == ("run", "first", HOLDER)


def test_void_gate_lets_nobody_pass(control: str) -> None:
    assert gate.void(control, "token", "cancelled")

    assert not gate.pass_gate(control, "token", "late", HOLDER)
    assert gate.void(control, "token", "again")
    decision = gate.read(control)
    assert decision is not None
    assert decision["reason"] == "cancelled"


def test_passed_gate_cannot_be_voided(control: str) -> None:
    gate.pass_gate(control, "token", "first", HOLDER)

    assert not gate.void(control, "token", "too late")


@pytest.mark.parametrize("decided", ["gate", "exit"])
def test_decision_stands_though_its_private_file_cannot_be_removed(
    control: str, monkeypatch: pytest.MonkeyPatch, decided: str
) -> None:
    space = gate.ExitSpace(control, "first")

    def refuse(path: str) -> None:
        raise OSError(errno.EIO, "unlink", path)

    monkeypatch.setattr(os, "unlink", refuse)
    if decided == "gate":
        assert gate.pass_gate(control, "token", "first", HOLDER)
    else:
        assert space.publish(RECORD) == RECORD
    monkeypatch.undo()


def test_nothing_passes_without_the_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        gate.pass_gate(str(tmp_path / "none"), "token", "nonce", HOLDER)


def test_nothing_passes_before_the_token_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="token"):
        gate.pass_gate(str(tmp_path), "token", "nonce", HOLDER)

    assert gate.read(str(tmp_path)) is None


def test_directory_of_another_attempt_is_refused(control: str) -> None:
    for act in (
        lambda: gate.make(control, "other"),
        lambda: gate.pass_gate(control, "other", "nonce", HOLDER),
        lambda: gate.void(control, "other", "reason"),
    ):
        with pytest.raises(gate.OtherToken, match="token"):
            act()

    assert gate.read(control) is None


def test_void_makes_what_a_slow_service_would_still_make(tmp_path: Path) -> None:
    gate.make_roots(str(tmp_path))
    control = str(tmp_path / "control" / "job" / "1")

    assert gate.void(control, "token", "recovered")

    gate.make(control, "token")
    assert not gate.pass_gate(control, "token", "slow", HOLDER)


def test_no_private_files_remain(control: str) -> None:
    gate.pass_gate(control, "token", "first", HOLDER)
    gate.pass_gate(control, "token", "second", HOLDER)
    gate.void(control, "token", "late")

    assert sorted(os.listdir(control)) == ["gate", "token"]


def _race(control: str, barrier: Barrier, rounds: int, index: int, wins: Any) -> None:
    for number in range(rounds):
        path = f"{control}/{number}"
        barrier.wait()
        if index % 4 == 0:
            gate.void(path, "token", f"by {index}")
        elif gate.pass_gate(path, "token", f"nonce-{index}", HOLDER):
            wins.put((number, index))
    wins.put(None)


def test_gate_has_one_winner_among_racing_processes(tmp_path: Path) -> None:
    rounds, racers = 200, 8
    context = multiprocessing.get_context("spawn")
    barrier, wins = context.Barrier(racers), context.Queue()
    for number in range(rounds):
        gate.make(str(tmp_path / str(number)), "token")
    processes = [
        context.Process(target=_race, args=(str(tmp_path), barrier, rounds, index, wins))
        for index in range(racers)
    ]

    for process in processes:
        process.start()
    won: dict[int, list[int]] = {}
    ended = 0
    while ended < racers:
        answer = wins.get(timeout=60)
        if answer is None:
            ended += 1
        else:
            won.setdefault(answer[0], []).append(answer[1])
    for process in processes:
        process.join()

    for number in range(rounds):
        decision = gate.read(str(tmp_path / str(number)))
        assert decision is not None
        expected = [] if decision["decision"] == "void" else [int(decision["nonce"].removeprefix("nonce-"))]
        assert won.get(number, []) == expected


@pytest.mark.parametrize(
    "content", [b"", b"{", b"garbage", b"[]", b"null", b'{"v": 1}', b'{"v": 2, "token": "t"}', b"\xff"]
)
@pytest.mark.parametrize("name", ["gate", "exit"])
def test_garbled_file_is_a_clear_error(control: str, name: str, content: bytes) -> None:
    (Path(control) / name).write_bytes(content)

    with pytest.raises(gate.ControlFileGarbled, match=name) as caught:
        gate.read(control) if name == "gate" else gate.read_exit(control)

    assert caught.value.path == f"{control}/{name}"


def _put_fifo(path: str) -> None:
    os.mkfifo(path)


def _put_socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)


def _put_link(path: str) -> None:
    os.symlink("/dev/zero", path)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("put", [_put_fifo, _put_socket, _put_link, os.mkdir])
@pytest.mark.parametrize("name", ["token", "gate", "exit", "exit.nonce"])
def test_what_is_no_regular_file_is_garbled(control: str, name: str, put: Callable[[str], None]) -> None:
    acts: dict[str, Callable[[], object]] = {
        "token": lambda: gate.make(control, "token"),
        "gate": lambda: gate.void(control, "token", "reason"),
        "exit": lambda: gate.read_exit(control),
        "exit.nonce": lambda: gate.ExitSpace(control, "nonce", again=True),
    }
    Path(control, name).unlink(missing_ok=True)
    put(f"{control}/{name}")

    with pytest.raises(gate.ControlFileGarbled, match="no regular file") as caught:
        acts[name]()

    assert caught.value.path == f"{control}/{name}"


@pytest.mark.timeout(10)
def test_work_directory_with_a_fifo_for_its_name_has_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "id")

    assert gate.work_id(str(tmp_path)) is None
    with pytest.raises(gate.ControlFileGarbled, match="no regular file"):
        gate.make_roots(str(tmp_path))


def test_gate_may_be_of_a_keeper_without_a_mark_and_must_show_a_number_else(control: str) -> None:
    assert gate.pass_gate(control, "token", "nonce", {**HOLDER, "mark": 7})
    assert gate.read(control) is not None

    content = {"v": 1, "token": "token", "decision": "run", "nonce": "n", "holder": {**HOLDER, "mark": "7"}}
    Path(control, "gate").write_text(json.dumps(content))

    with pytest.raises(gate.ControlFileGarbled):
        gate.read(control)


@pytest.mark.parametrize("missing", ["host", "boot_id", "pid_ns", "pid", "start_ticks", "socket", "warden"])
def test_run_gate_names_its_whole_holder(control: str, missing: str) -> None:
    holder = {name: value for name, value in HOLDER.items() if name != missing}

    gate.pass_gate(control, "token", "nonce", holder)

    with pytest.raises(gate.ControlFileGarbled):
        gate.read(control)


def test_exit_space_is_really_taken(control: str) -> None:
    space = gate.ExitSpace(control, "nonce")

    stat = Path(control, "exit.nonce").stat()
    assert stat.st_size == 4096
    assert stat.st_blocks > 0
    space.drop()
    assert os.listdir(control) == ["token"]


def test_first_exit_record_stands(control: str) -> None:
    first, second = gate.ExitSpace(control, "first"), gate.ExitSpace(control, "second")

    assert first.publish(RECORD) == RECORD
    assert second.publish({**RECORD, "exit_code": 4}) == RECORD

    assert gate.read_exit(control) == RECORD
    assert sorted(os.listdir(control)) == ["exit", "token"]


def test_record_that_cannot_be_linked_stays_written_and_keeps_no_descriptor(
    control: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = gate.ExitSpace(control, "nonce")
    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", _refuse)
        with pytest.raises(PermissionError):
            space.publish(RECORD)

    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert gate.settle_exit(control, "nonce")
    assert gate.read_exit(control) == RECORD


def _refuse(*_arguments: object) -> None:
    raise PermissionError


def test_shorter_record_replaces_a_longer_note(control: str) -> None:
    space = gate.ExitSpace(control, "nonce")
    space.note({**RECORD, "more": "x" * 1000})

    space.publish(RECORD)

    assert gate.read_exit(control) == RECORD


def test_noted_status_becomes_the_record_of_a_dead_holder(control: str) -> None:
    gate.ExitSpace(control, "nonce").note(RECORD)

    assert gate.settle_exit(control, "nonce")

    assert gate.read_exit(control) == RECORD


def test_noted_start_becomes_no_record(control: str) -> None:
    gate.ExitSpace(control, "nonce").note({"v": 1, "token": "token", "pid": 7, "start_ticks": 8})

    assert not gate.settle_exit(control, "nonce")

    assert gate.read_exit(control) is None
    assert gate.read_note(control, "nonce") is not None


@pytest.mark.parametrize(
    "change",
    [
        {"ended_at": "yesterday"}, {"ended_at": "2026-01-01T00:00:00"}, {"ended_at": "9999-12-31T23:59:59-23:59"},
        {"started_at": 3}, {"exit_code": "3"}, {"exit_code": 2**40}, {"exit_code": True}, {"signal": 9},
        {"exit_code": None, "error": "no"}, {"cpu_s": float("nan")}, {"cpu_s": -1}, {"peak_memory_bytes": 1e400},
        {"peak_memory_bytes": 0.5}, {"leftovers": None}, {"ended_by": None}, {"token": "a\0b"}, {"times": 3},
    ],
)  # fmt: skip
def test_record_that_cannot_be_relied_on_is_garbled(control: str, change: gate.Content) -> None:
    Path(control, "exit").write_text(json.dumps({**RECORD, **change}))

    with pytest.raises(gate.ControlFileGarbled):
        gate.read_exit(control)
