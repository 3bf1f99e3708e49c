"""Which attempts go out together."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from jobmgr.domain.resources import Resources
from jobmgr.executors.parcel import MOST, Parcel, alone, halves, name_of, parcels
from jobmgr.executors.protocol import Launch

SMALL, LARGE = Resources(cpus=1), Resources(cpus=8, licenses=("ansys:2",))


def launches(number: int, resources: Resources = SMALL, *, prefix: str = "job") -> list[Launch]:
    return [
        Launch(f"{prefix}-{index}", 1, f"{prefix}{index}", ("true",), resources=resources)
        for index in range(number)
    ]


def parted(asked: list[Launch], array_cap: int | None) -> list[Parcel]:
    numbers = count()
    return parcels(asked, array_cap, lambda: f"array{next(numbers)}")


def test_who_asks_for_the_same_goes_together_in_the_order_given() -> None:
    small, large = launches(3), launches(2, LARGE, prefix="large")
    first, second = parted([small[0], large[0], small[1], large[1], small[2]], 1000)
    assert (first.name, second.name) == (name_of("array0"), name_of("array1"))
    assert [(member.launch, member.index) for member in first.members] == [
        (small[0], 0),
        (small[1], 1),
        (small[2], 2),
    ]
    assert [member.launch for member in second.members] == large


def test_who_is_alone_is_no_array() -> None:
    (launch,) = launches(1)
    assert parted([launch], 1000) == [alone(launch)]
    assert not alone(launch).is_array
    assert alone(launch).name == name_of(launch.token)


def test_without_arrays_everybody_is_alone() -> None:
    assert parted(launches(3), None) == [alone(launch) for launch in launches(3)]


def test_halves_are_parcels_of_their_own_in_the_same_order() -> None:
    asked = launches(5)
    numbers = count()

    first, second = halves("jm-whole", asked, lambda: f"half{next(numbers)}")

    assert (first.name, second.name) == (name_of("half0"), name_of("half1"))
    assert [(member.launch, member.index) for member in first.members] == [
        *zip(asked[:3], range(3), strict=True)
    ]
    assert [(member.launch, member.index) for member in second.members] == [
        *zip(asked[3:], range(2), strict=True)
    ]


def test_half_of_two_is_alone_and_of_none_nothing() -> None:
    one, other = launches(2)

    def part(launch: Launch) -> Parcel:
        return replace(alone(launch), former="jm-whole")

    assert halves("jm-whole", [one, other], str) == [part(one), part(other)]
    assert halves("jm-whole", [one], str) == [part(one)]
    assert halves("jm-whole", [], str) == []


def test_arrays_are_no_longer_than_the_scheduler_allows() -> None:
    assert [len(one.members) for one in parted(launches(11), 5)] == [5, 5, 1]
    assert [len(one.members) for one in parted(launches(MOST + 2), 10**6)] == [MOST, 2]
    assert [one.is_array for one in parted(launches(11), 5)] == [True, True, False]
