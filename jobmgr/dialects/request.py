"""What a request asks of a scheduler, where schedulers differ only in how they write it down."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from jobmgr.dialects.dialect import Order
from jobmgr.dialects.quoting import directive
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_LICENSE = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)(?::([1-9][0-9]{0,8}))?")


@dataclass(frozen=True, slots=True)
class Share:
    """So many nodes get so many tasks each."""

    nodes: int
    tasks: int


def is_sized(resources: Resources) -> bool:
    """Whether a number of nodes, tasks or cpus is asked for."""
    return any(number is not None for number in (resources.nodes, resources.tasks, resources.cpus))


def tasks(resources: Resources) -> int:
    """How many tasks there are: one, or one per node, if nothing else is said."""
    return resources.tasks or resources.nodes or 1


def shares(resources: Resources) -> tuple[Share, ...]:
    """How the tasks lie on the nodes asked for, as even as can be. Without nodes: each task wherever it fits."""
    count = tasks(resources)
    if resources.nodes is None:
        return (Share(count, 1),)
    least, more = divmod(count, resources.nodes)
    if least == 0:
        raise InvalidRequest("resources.tasks", f"{count} tasks are too few for {resources.nodes} nodes")
    both = (Share(more, least + 1), Share(resources.nodes - more, least))
    return tuple(share for share in both if share.nodes)


def node_memory_bytes(resources: Resources, cpus: int) -> int | None:
    """The memory asked for on a node where the job has `cpus`."""
    if resources.memory_per_cpu_bytes is None:
        return resources.memory_bytes
    if resources.memory_bytes is not None:
        raise InvalidRequest(
            "resources.memory_per_cpu", "memory is asked for per node; leave one of both out"
        )
    return resources.memory_per_cpu_bytes * cpus


def minutes(walltime_s: float) -> int:
    """In whole minutes, never shorter than asked."""
    return max(1, math.ceil(walltime_s / 60))


def units(amount_bytes: int, unit_bytes: int) -> int:
    """In whole units, never less than asked."""
    return max(1, -(-amount_bytes // unit_bytes))


def name(text: str) -> str:
    """The token of a submission. Other names would be patterns, lists or array specifications for some scheduler."""
    if _TOKEN.fullmatch(text) is None:
        raise InvalidRequest("name", f"{text[:100]!r} must have letters, digits and dashes only")
    return text


def argument(text: str, field: str) -> str:
    """`text` as the value of an option on a line of directives; never an option itself."""
    if text.startswith("-"):
        raise InvalidRequest(field, f"{text[:100]!r} begins with a dash and would be read as an option")
    return directive(text, field)


def option(text: str, allowed: frozenset[str], remedy: str) -> tuple[str, str]:
    """An option in the scheduler's own words and its value, which may be empty.

    Only options in `allowed` pass: others would change what this product relies on, as the name or the output.
    """
    field = "resources.directives"
    word, _, value = text.strip().partition(" ")
    if word not in allowed:
        raise InvalidRequest(field, f"{word[:40]!r} cannot be set here; {remedy}")
    return word, value.strip()


def says(order: Order, option: str) -> bool:
    """Whether the order has this option in the scheduler's own words."""
    return any(text.split()[:1] == [option] for text in (*order.resources.directives, *order.directives))


def licenses(resources: Resources, taken: frozenset[str]) -> tuple[tuple[str, int], ...]:
    """Names of licences with their numbers. Names in `taken` are those of resources that have fields of their own."""
    return tuple(
        _license(text, f"resources.licenses[{index}]", taken) for index, text in enumerate(resources.licenses)
    )


def _license(text: str, field: str, taken: frozenset[str]) -> tuple[str, int]:
    match = _LICENSE.fullmatch(text)
    if match is None:
        raise InvalidRequest(field, f"{text[:100]!r} is not a licence; write it as ansys or ansys:2")
    if match[1] in taken:
        raise InvalidRequest(field, f"{match[1]!r} is no licence; ask for it in its own field")
    return match[1], int(match[2] or 1)


def mail(resources: Resources) -> frozenset[str]:
    """On what mail is asked for. Raises InvalidRequest for occasions that there are not."""
    unknown = set(resources.mail_on) - {"begin", "end", "fail"}
    if unknown:
        raise InvalidRequest("resources.mail_on", f"{min(unknown)[:40]!r} is none of begin, end, fail")
    return frozenset(resources.mail_on)


def mail_at_ends(resources: Resources, scheduler: str) -> frozenset[str]:
    """As `mail`, for schedulers that mail at a start and at any end: failure alone is refused."""
    occasions = mail(resources)
    if "fail" in occasions and "end" not in occasions:
        raise InvalidRequest(
            "resources.mail_on", f"{scheduler} cannot mail on failure alone; ask for end too"
        )
    return occasions


def refuse_unsayable(resources: Resources, scheduler: str, unsayable: dict[str, str]) -> None:
    """Raise InvalidRequest for the first asked field that `scheduler` has no word for; `unsayable` has the remedies."""
    for field, remedy in unsayable.items():
        value = getattr(resources, field)
        if value is not None and value != ():
            raise InvalidRequest(f"resources.{asked_as(field)}", f"{scheduler} cannot express it; {remedy}")


def asked_as(field: str) -> str:
    """What a field of `Resources` is called where it is asked for: there units are a part of the value."""
    return field.removesuffix("_bytes").removesuffix("_s")
