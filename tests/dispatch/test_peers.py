"""Who is taken for silent, and what becomes of whose attempts. Pure rules, with a clock of the test."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from jobmgr.dispatch.peers import SILENT_BEATS, Fate, Watch, fate
from jobmgr.executors import process
from jobmgr.store.dispatchers import Identity, Peer

OWN = Identity(
    id="own",
    host="here",
    boot_id="boot",
    pid_namespace="pid:[1]",
    pid=os.getpid(),
    start_ticks=process.start_ticks(os.getpid()),
    work_dir="/work",
    work_id="work",
    heartbeat_s=5.0,
)
# A process that surely lives: this one.
LIVING = replace(OWN, id="living")
DEAD = replace(LIVING, id="dead", start_ticks=OWN.start_ticks + 1)


def peer(identity: Identity, heartbeat: int = 0, *, has_stopped: bool = False) -> Peer:
    return Peer(identity, heartbeat, has_stopped)


def fate_of(other: Peer, *, is_silent: bool = False, is_only: bool = False) -> Fate:
    return fate(OWN, other, is_silent=is_silent, is_only=is_only)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_counter_that_stands_still_long_enough_is_silence() -> None:
    clock = Clock()
    watch = Watch(clock)

    found = []
    for _ in range(SILENT_BEATS + 1):
        found.append(watch.silent([peer(LIVING, 7)]))
        clock.now += 5.0

    assert found == [set()] * SILENT_BEATS + [{"living"}]


def test_counter_that_moves_is_no_silence() -> None:
    clock = Clock()
    watch = Watch(clock)

    for beat in range(50):
        assert watch.silent([peer(LIVING, beat // 2)]) == set()
        clock.now += 5.0


def test_one_look_after_a_long_sleep_proves_nothing() -> None:
    clock = Clock()
    watch = Watch(clock)
    watch.silent([peer(LIVING, 7)])

    clock.now += 86_400.0

    assert watch.silent([peer(LIVING, 7)]) == set()


def test_many_quick_looks_prove_nothing_about_one_that_beats_slowly() -> None:
    clock = Clock()
    watch = Watch(clock)

    for _ in range(50):
        assert watch.silent([peer(LIVING, 7)]) == set()
        clock.now += 0.1


def test_a_sign_of_life_ends_the_silence() -> None:
    clock = Clock()
    watch = Watch(clock)
    for _ in range(10):
        watch.silent([peer(LIVING, 7)])
        clock.now += 5.0

    assert watch.silent([peer(LIVING, 8)]) == set()


@pytest.mark.parametrize(
    ("other", "is_silent", "expected"),
    [
        (peer(LIVING), False, Fate.LEAVE),
        (peer(LIVING), True, Fate.ADOPT),
        (peer(LIVING, has_stopped=True), False, Fate.ADOPT),
        (peer(DEAD), False, Fate.ADOPT),
    ],
)
def test_in_the_same_boot_and_namespace_who_is_gone_is_inherited(
    other: Peer, is_silent: bool, expected: Fate
) -> None:
    assert fate_of(other, is_silent=is_silent) is expected


@pytest.mark.parametrize("elsewhere", [{"boot_id": "another"}, {"pid_namespace": "pid:[2]"}])
def test_elsewhere_only_silence_or_a_stop_counts(elsewhere: dict[str, str]) -> None:
    dead = replace(DEAD, **elsewhere)  # type: ignore[arg-type]
    stranger = replace(dead, work_id="other work")

    # A pid means nothing there, and the same host name may be another machine.
    assert fate_of(peer(dead)) is Fate.LEAVE
    assert fate_of(peer(dead), is_silent=True) is Fate.ADOPT
    assert fate_of(peer(dead, has_stopped=True)) is Fate.ADOPT
    assert fate_of(peer(stranger)) is Fate.LEAVE
    assert fate_of(peer(stranger), is_silent=True) is Fate.UNATTENDED
    assert fate_of(peer(stranger, has_stopped=True)) is Fate.UNATTENDED


def test_unknown_work_directories_are_not_the_same() -> None:
    nameless = replace(DEAD, boot_id="another", work_id="")

    assert fate(replace(OWN, work_id=""), peer(nameless), is_silent=True, is_only=False) is Fate.UNATTENDED


def test_who_is_alone_on_a_file_inherits_everything() -> None:
    assert fate_of(peer(replace(LIVING, boot_id="another")), is_only=True) is Fate.ADOPT
