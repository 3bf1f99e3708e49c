from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from jobmgr.dispatch.admission import PATIENCE_S, Admission, choose, judge
from jobmgr.domain.limits import ResourceLimits
from jobmgr.monitor import Machine, Sample
from jobmgr.store.claims import Candidate, Room

MACHINE = Machine(cpus=4, memory_bytes=8000, gpus=("0", "1"))
NONE_IN_USE = Room(0, 0, 0, ())


def candidate(
    job: int, *, cpus: int = 0, memory_bytes: int = 0, gpus: int = 0, queue: str = "default"
) -> Candidate:
    return Candidate(job, f"job{job}", queue, 0, cpus, memory_bytes, gpus)


def room(
    *, slots: int = 8, cpus: int = 4, memory_bytes: int = 8000, gpus: tuple[str, ...] = ("0", "1")
) -> Room:
    return Room(slots, cpus, memory_bytes, gpus)


def sample(*, cpu_percent: float = 0.0, memory_free_gb: float = 100.0, disk_free_gb: float = 100.0) -> Sample:
    return Sample(datetime(2026, 1, 1, tzinfo=UTC), cpu_percent, 200.0, memory_free_gb, 200.0, disk_free_gb)


def keys(chosen: Sequence[Candidate]) -> list[int]:
    return [one.job for one in chosen]


def test_jobs_that_ask_for_nothing_fill_the_slots_in_order() -> None:
    chosen = choose(
        [candidate(n) for n in range(5)], room(slots=3, cpus=0, memory_bytes=0), {"default": None}
    )

    assert keys(chosen) == [0, 1, 2]


def test_a_job_that_does_not_fit_is_passed_by_one_that_does() -> None:
    chosen = choose(
        [candidate(1, cpus=8), candidate(2, cpus=3), candidate(3, cpus=2)], room(), {"default": None}
    )

    assert keys(chosen) == [2]


def test_resources_are_spent_by_each_chosen_job() -> None:
    chosen = choose([candidate(n, memory_bytes=3000) for n in range(4)], room(), {"default": None})

    assert keys(chosen) == [0, 1]


def test_gpus_are_spent_by_each_chosen_job() -> None:
    jobs = [candidate(1, gpus=1), candidate(2, gpus=2), candidate(3, gpus=1), candidate(4, gpus=1)]

    assert keys(choose(jobs, room(), {"default": None})) == [1, 3]


def test_gpus_are_kept_for_a_reserved_job() -> None:
    large = candidate(1, gpus=2)
    jobs = [large, candidate(2, gpus=1), candidate(3)]

    assert keys(choose(jobs, room(gpus=("1",)), {"default": None}, large)) == [3]


def test_a_queue_gives_no_more_than_its_quota() -> None:
    jobs = [candidate(1, queue="small"), candidate(2, queue="small"), candidate(3)]

    assert keys(choose(jobs, room(), {"small": 1, "default": None})) == [1, 3]


def test_room_is_kept_for_a_reserved_job() -> None:
    large = candidate(1, cpus=4)

    assert keys(
        choose([large, candidate(2, cpus=1), candidate(3)], room(cpus=3), {"default": None}, large)
    ) == [3]


def test_a_reserved_job_that_fits_goes_first() -> None:
    large = candidate(9, cpus=4)

    assert keys(choose([candidate(2, cpus=1), large], room(), {"default": None}, large)) == [9]


def test_a_job_is_reserved_only_after_it_was_passed_over_for_long() -> None:
    clock = [0.0]
    admission = Admission(MACHINE, ResourceLimits(), monotonic=lambda: clock[0])
    large = candidate(1, cpus=4)
    admission.passed_over(large)

    early = admission.reserved
    clock[0] = PATIENCE_S
    admission.passed_over(large)

    assert early is None
    assert admission.reserved == large


def test_another_best_job_starts_a_new_wait() -> None:
    clock = [0.0]
    admission = Admission(MACHINE, ResourceLimits(), monotonic=lambda: clock[0])
    admission.passed_over(candidate(1, cpus=4))
    clock[0] = PATIENCE_S

    admission.passed_over(candidate(2, cpus=4))

    assert admission.reserved is None


def test_the_number_of_cores_is_the_default_limit() -> None:
    admission = Admission(MACHINE, ResourceLimits())

    assert admission.room(Room(1, 0, 0, ())) == Room(3, 4, 8000, ("0", "1"))


@pytest.mark.parametrize(
    ("taken", "free"),
    [((), ("0", "1")), (("0",), ("1",)), (("1", "0"), ()), (("GPU-gone", "1", "1"), ("0",))],
)
def test_gpus_that_nobody_holds_are_free(taken: tuple[str, ...], free: tuple[str, ...]) -> None:
    admission = Admission(MACHINE, ResourceLimits())

    assert admission.room(Room(1, 0, 0, taken)).gpus == free


def test_a_host_limit_stops_every_start_and_names_itself() -> None:
    admission = Admission(MACHINE, ResourceLimits(min_memory_gb=8, min_disk_gb=1, max_cpu_percent=50))

    admission.observe(sample(memory_free_gb=7.9))

    assert admission.room(NONE_IN_USE).slots == 0
    assert admission.closed == ["7.9 GB of memory are free, the limit min_memory_gb asks for 8 GB"]


def test_a_closed_door_opens_only_when_the_value_is_clearly_better() -> None:
    limits = ResourceLimits(max_cpu_percent=80, min_disk_gb=100)
    closed = judge(limits, sample(cpu_percent=81, disk_free_gb=99), {})

    still = judge(limits, sample(cpu_percent=79, disk_free_gb=101), closed)
    opened = judge(limits, sample(cpu_percent=74, disk_free_gb=106), still)

    assert set(closed) == set(still) == {"max_cpu_percent", "min_disk_gb"}
    assert opened == {}


def test_a_value_better_than_an_open_limit_closes_nothing() -> None:
    assert judge(ResourceLimits(max_cpu_percent=80), sample(cpu_percent=79), {}) == {}


def test_a_limit_of_all_of_the_cpu_opens_a_closed_door_however_busy_the_machine_is() -> None:
    closed = judge(ResourceLimits(max_cpu_percent=80), sample(cpu_percent=100), {})

    opened = judge(ResourceLimits(max_cpu_percent=100), sample(cpu_percent=100), closed)

    assert (set(closed), opened) == ({"max_cpu_percent"}, {})


def test_lifting_a_limit_opens_the_door() -> None:
    admission = Admission(MACHINE, ResourceLimits(min_memory_gb=1000))
    admission.observe(sample())

    admission.limits = ResourceLimits()
    admission.observe(sample())

    assert admission.room(NONE_IN_USE).slots == 4
