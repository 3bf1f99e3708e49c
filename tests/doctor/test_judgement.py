"""Judgements on facts that no test machine can be brought to show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobmgr.client.health import Health
from jobmgr.doctor import amount, attempts, clock, database, directories, disk, installation, server, service
from jobmgr.doctor.attempts import Plight
from jobmgr.doctor.facts import Neighbour, Place, Remains, Sighted, Software, SqliteFile, Trouble
from jobmgr.domain.checkup import Check, Verdict, ok, problem, warning, worst
from jobmgr.executors.directories import Extent, Found
from jobmgr.executors.evidence import Finding
from jobmgr.monitor import GB, Space
from jobmgr.store.census import LiveAttempt, Registered
from jobmgr.store.dispatchers import Identity
from jobmgr.store.file import Content, File
from jobmgr.store.integrity import Integrity
from jobmgr.store.schema import Standing
from jobmgr.store.server import Server
from jobmgr.wire.answers import SiteAnswer

NOW = datetime(2026, 1, 31, 18, tzinfo=UTC)
SPACE = Space(100 * GB, 200 * GB, 10**6)
CURRENT = Standing("0002", "0002", is_known=True)
FILE = SqliteFile(
    File(Path("/jobs.db"), Content.WAL, 4096, 1000, 0o600, may_write=True),
    lock_failures=(),
    integrity=Integrity((), is_complete=True),
    space=SPACE,
    file_system="ext4",
)
SERVER = Server(
    "17.2",
    170_002,
    forgets=None,
    is_read_only=False,
    may_write=True,
    max_connections=97,
    used_connections=1,
    ahead_s=0.0,
    uncertainty_s=0.0,
)
PLACE = Place(exists=True, file_system="ext4", is_network=False, decides_once=True, space=SPACE)


def of_file(facts: SqliteFile, *, uid: int = 1000) -> dict[str, Check]:
    return {check.name: check for check in database.judge_file(facts, CURRENT, uid)}


def test_the_worst_verdict_counts() -> None:
    assert worst([]) is Verdict.OK
    assert worst([warning("a", "", ""), ok("b", "")]) is Verdict.WARNING
    assert worst([warning("a", "", ""), problem("b", "", ""), ok("c", "")]) is Verdict.PROBLEM


def test_a_sound_file_is_ok() -> None:
    assert {check.verdict for check in of_file(FILE).values()} == {Verdict.OK}


def test_a_network_file_system_is_refused() -> None:
    found = of_file(replace(FILE, file_system="nfs4", is_network=True))["file system"]

    assert found.verdict is Verdict.PROBLEM
    assert "nfs4" in found.found
    assert "PostgreSQL" in found.remedy


@pytest.mark.parametrize("failures", [("fcntl",), Trouble("No locks available")])
def test_locks_that_do_not_hold_are_a_problem(failures: tuple[str, ...] | Trouble) -> None:
    assert of_file(replace(FILE, lock_failures=failures))["locking"].verdict is Verdict.PROBLEM


def test_log_that_somebody_keeps_from_being_tidied_up_is_warned() -> None:
    grown = File(Path("/jobs.db"), Content.WAL, 4096, 1000, 0o600, may_write=True, log_bytes=3 * GB)

    found = of_file(replace(FILE, file=grown))["journal"]

    assert found.verdict is Verdict.WARNING
    assert "3.0 GB" in found.found
    assert "never remove" in found.remedy


def test_root_on_the_file_of_somebody_else_is_warned() -> None:
    assert of_file(FILE, uid=0)["access"].verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("software", "verdict"),
    [
        (Software("1", "3.11.7", (3, 40, 1), can_run_commands=True), Verdict.OK),
        (Software("1", "3.11.7", (3, 34, 0), can_run_commands=True), Verdict.PROBLEM),
        (Software("1", "3.11.7", (3, 40, 1), can_run_commands=False), Verdict.PROBLEM),
    ],
)
def test_old_libraries_and_other_systems_are_told(software: Software, verdict: Verdict) -> None:
    assert installation.judge_software(software).verdict is verdict


@pytest.mark.parametrize(
    ("space", "verdict"),
    [
        (SPACE, Verdict.OK),
        (replace(SPACE, free_bytes=GB // 2), Verdict.WARNING),
        (replace(SPACE, free_bytes=GB // 100), Verdict.PROBLEM),
        (replace(SPACE, inodes_free=10_000), Verdict.WARNING),
        (replace(SPACE, inodes_free=10), Verdict.PROBLEM),
        (replace(SPACE, inodes_free=None), Verdict.OK),
        (Trouble("denied"), Verdict.WARNING),
    ],
)
def test_scarce_room_is_told_before_there_is_none(space: Space | Trouble, verdict: Verdict) -> None:
    assert disk.judge_space("disk", space).verdict is verdict


@pytest.mark.parametrize(
    ("place", "verdict"),
    [
        (PLACE, Verdict.OK),
        (replace(PLACE, exists=False), Verdict.WARNING),
        (replace(PLACE, is_network=True), Verdict.PROBLEM),
        (replace(PLACE, decides_once=False), Verdict.PROBLEM),
        (replace(PLACE, decides_once=Trouble("denied")), Verdict.PROBLEM),
        (Trouble("denied"), Verdict.PROBLEM),
    ],
)
def test_a_work_directory_must_be_local_and_writable(place: Place | Trouble, verdict: Verdict) -> None:
    assert disk.judge_work("/work", place).verdict is verdict


@pytest.mark.parametrize(
    ("used", "is_served", "verdict"),
    [
        (1, False, Verdict.OK),
        (90, False, Verdict.WARNING),
        (90, True, Verdict.OK),
        (97, True, Verdict.WARNING),
    ],
)
def test_connections_must_suffice_for_a_service(used: int, is_served: bool, verdict: Verdict) -> None:
    crowded = replace(SERVER, used_connections=used)

    assert server.judge_connections(crowded, 9, is_served=is_served).verdict is verdict


def test_a_server_that_is_not_maintained_is_warned() -> None:
    old = replace(SERVER, version="12.22", number=120_022)

    assert server.judge_server("postgresql://host/jobs", old).verdict is Verdict.WARNING
    assert server.judge_server("postgresql://host/jobs", SERVER).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("ahead_s", "words"),
    [(3600.0, "3600 s behind"), (-10.0, "10 s ahead of"), (1.5, "within"), (-1.5, "within")],
)
def test_a_wrong_clock_is_told_with_its_direction(ahead_s: float, words: str) -> None:
    found = clock.judge_server(replace(SERVER, ahead_s=ahead_s))

    assert words in found.found
    assert (found.verdict is Verdict.OK) == (words == "within")
    assert found.verdict is Verdict.OK or "never depends" in found.remedy


def test_a_slow_answer_is_no_proof_of_a_wrong_clock() -> None:
    assert clock.judge_server(replace(SERVER, ahead_s=4.0, uncertainty_s=3.0)).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("ahead_s", "verdict"), [(3600, Verdict.WARNING), (1, Verdict.OK), (-60, Verdict.OK)]
)
def test_events_of_the_future_are_told(ahead_s: int, verdict: Verdict) -> None:
    assert clock.judge_event(NOW + timedelta(seconds=ahead_s), NOW).verdict is verdict


HEALTH = Health("http://127.0.0.1:8080", lives=True, is_ready=True, version="1")


@pytest.mark.parametrize(
    ("health", "verdict"),
    [
        (HEALTH, Verdict.OK),
        (replace(HEALTH, version="2"), Verdict.WARNING),
        (replace(HEALTH, version=None), Verdict.WARNING),
        (replace(HEALTH, is_ready=False), Verdict.PROBLEM),
        (replace(HEALTH, lives=False), Verdict.PROBLEM),
        (None, Verdict.WARNING),
    ],
)
def test_a_service_must_answer_be_ready_and_of_this_version(health: Health | None, verdict: Verdict) -> None:
    assert service.judge(None, health, "1", is_served=False).verdict is verdict


def site(name: str, trouble: str | None = None, *, enabled: bool = True) -> SiteAnswer:
    return SiteAnswer(name, "slurm", None, "/lab", enabled, 500, None, {}, {}, trouble)


@pytest.mark.parametrize(
    ("sites", "verdicts"),
    [
        ([], []),
        ([site("local")], []),
        ([site("local"), site("lab")], [Verdict.OK]),
        ([site("lab"), site("far", "it is another directory")], [Verdict.PROBLEM]),
        ([site("lab", "it is another directory", enabled=False)], []),
    ],
)
def test_sites_that_a_service_does_not_serve_are_told(
    sites: list[SiteAnswer], verdicts: list[Verdict]
) -> None:
    found = list(service.judge_sites(replace(HEALTH, sites=sites)))

    assert [check.verdict for check in found] == verdicts
    assert all("another directory" in check.found for check in found if check.verdict is Verdict.PROBLEM)


def sighted(finding: Finding, *, age_s: float = 3600.0, **shown: Any) -> Sighted:
    claimed_at = NOW - timedelta(seconds=age_s)
    return Sighted(
        LiveAttempt("job", 1, "token", "dispatcher", claimed_at, None),
        finding=finding,
        **shown,
    )


@pytest.mark.parametrize(
    ("one", "is_served", "expected"),
    [
        (sighted(Finding.OPEN, has_holder=True), True, Plight.HELD),
        (sighted(Finding.OPEN, runs=True), True, Plight.UNHELD),
        (sighted(Finding.OPEN), True, Plight.GONE),
        (sighted(Finding.OTHER_BOOT), True, Plight.GONE),
        (sighted(Finding.OTHER_ATTEMPT), True, Plight.GONE),
        (sighted(Finding.UNDECIDED, age_s=1), True, Plight.STARTING),
        (sighted(Finding.UNDECIDED, age_s=1), False, Plight.UNSTARTED),
        (sighted(Finding.UNDECIDED), True, Plight.UNSTARTED),
        (sighted(Finding.ENDED), True, Plight.UNWRITTEN),
        (sighted(Finding.VOID), True, Plight.UNWRITTEN),
        (sighted(Finding.UNREACHABLE), True, Plight.UNREADABLE),
    ],
)
def test_what_the_traces_of_a_live_attempt_mean(one: Sighted, is_served: bool, expected: Plight) -> None:
    assert attempts.plight(one, NOW, is_served=is_served) is expected


def neighbour(
    *,
    here: bool = True,
    alive: bool = False,
    gone_by_itself: bool = False,
    live: int = 0,
    age_s: float = 3600.0,
    **shown: bool,
) -> Neighbour:
    identity = Identity("id", "host", "boot", "namespace", 1, 1)
    registered = Registered(identity, 5, NOW - timedelta(seconds=age_s), gone_by_itself, live)
    marks = {"is_other_boot": False, "is_stopped": False, **shown}
    return Neighbour(registered, is_here=here, is_alive=alive, **marks)


@pytest.mark.parametrize(
    ("neighbours", "verdict", "words"),
    [
        ([], Verdict.OK, "0 at work here"),
        ([neighbour(alive=True, live=3)], Verdict.OK, "1 at work here"),
        ([neighbour(alive=True, is_stopped=True)], Verdict.PROBLEM, "stopped"),
        ([neighbour(live=2)], Verdict.WARNING, "2 live attempts of dispatchers that are gone"),
        ([neighbour(live=2), neighbour(alive=True)], Verdict.PROBLEM, "did not take them up"),
        ([neighbour(live=2), neighbour(alive=True, age_s=5)], Verdict.OK, "just started"),
        ([neighbour(here=False, is_other_boot=True, live=1)], Verdict.WARNING, "1 live attempt of"),
        ([neighbour(here=False, gone_by_itself=True, live=1)], Verdict.WARNING, "1 live attempt of"),
        ([neighbour(here=False, live=1)], Verdict.OK, "--full"),
        ([neighbour(here=False, live=1, is_silent=False)], Verdict.OK, "1 where it cannot be seen"),
        ([neighbour(here=False, live=1, is_silent=True)], Verdict.WARNING, "do not count up"),
        ([neighbour(), neighbour(gone_by_itself=True)], Verdict.OK, "0 at work here"),
    ],
)
def test_somebody_must_hold_each_live_attempt(
    neighbours: list[Neighbour], verdict: Verdict, words: str
) -> None:
    found = attempts.judge_dispatchers(neighbours, NOW)

    assert (found.verdict, words in found.found) == (verdict, True), found


def test_a_look_that_was_cut_says_so() -> None:
    remains = Remains(
        Found(frozenset({("a", 1)}), is_cut=True), frozenset({("a", 1)}), Extent(5, 10**9, is_cut=True)
    )

    found = directories.judge_runs(remains)

    assert "at least 1.0 GB" in found.found
    assert "--full" in found.found
    assert found.verdict is Verdict.WARNING


def test_a_quick_check_that_was_cut_says_so() -> None:
    found = of_file(replace(FILE, integrity=Integrity((), is_complete=False)))["integrity"]

    assert (found.verdict, "--full" in found.found) == (Verdict.OK, True)


def test_amounts_are_readable() -> None:
    assert [amount.in_bytes(size) for size in (0, 999, 1500, 2 * 10**12)] == [
        "0 bytes", "999 bytes", "1.5 KB", "2.0 TB",
    ]  # fmt: skip
    assert amount.some(["a", "b", "c"], 2) == "a, b and 1 more"
