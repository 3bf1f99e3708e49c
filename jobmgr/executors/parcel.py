"""What is handed in together: one attempt, or attempts that are alike as the elements of an array."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jobmgr.domain.resources import Resources
from jobmgr.executors.protocol import Launch

# However long an array may be: what lies at the site for it is stored, and looked up after a doubt, as a whole.
MOST = 1000


@dataclass(frozen=True, slots=True)
class Member:
    """An attempt in a parcel; `index` is that of its element, None if it is alone."""

    launch: Launch
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One submission, with a token of its own; that of an attempt which is alone is the attempt's.

    An attempt is in one parcel for all its life, unless an array was refused for certain, and is parted. An array that
    an earlier service handed in is not `is_whole`: only some of its elements may be known, so it cannot be handed in
    again. `former` is the name of the array that it is a part of.
    """

    name: str
    members: tuple[Member, ...]
    is_whole: bool = True
    former: str = ""

    @property
    def is_array(self) -> bool:
        """Whether its members are elements."""
        return self.members[0].index is not None

    @property
    def token(self) -> str:
        """Where its script lies, if it is an array."""
        return self.name.removeprefix(_PREFIX)


_PREFIX = "jm-"


def is_ours(name: str) -> bool:
    """Whether it is the name of something that a service of this product handed in."""
    return name.startswith(_PREFIX)


def name_of(token: str) -> str:
    """What a scheduler is told as the name of a job."""
    return f"{_PREFIX}{token}"


def alone(launch: Launch) -> Parcel:
    """An attempt that is handed in by itself."""
    return Parcel(name_of(launch.token), (Member(launch),))


def parcels(launches: Sequence[Launch], array_cap: int | None, new_token: Callable[[], str]) -> list[Parcel]:
    """As few as may be: who asks for the same goes together, in the order given."""
    most = longest(array_cap)
    alike: dict[tuple[Resources, int], list[Launch]] = defaultdict(list)
    for launch in launches:
        alike[launch.resources, launch.priority].append(launch)
    chunks = [same[start : start + most] for same in alike.values() for start in range(0, len(same), most)]
    return [_together(chunk, new_token) for chunk in chunks]


def longest(array_cap: int | None) -> int:
    """How many elements an array gets where the scheduler takes so many (None: no arrays); 1 is no array."""
    return min(array_cap or 1, MOST)


def halves(former: str, launches: Sequence[Launch], new_token: Callable[[], str]) -> list[Parcel]:
    """Two parcels of members of one of this name, in their order; of a single one its own."""
    middle = (len(launches) + 1) // 2
    parts = [_together(half, new_token) for half in (launches[:middle], launches[middle:]) if half]
    return [replace(part, former=former) for part in parts]


def _together(launches: Sequence[Launch], new_token: Callable[[], str]) -> Parcel:
    return alone(launches[0]) if len(launches) == 1 else _array(launches, new_token())


def _array(launches: Sequence[Launch], token: str) -> Parcel:
    return Parcel(name_of(token), tuple(Member(launch, index) for index, launch in enumerate(launches)))
