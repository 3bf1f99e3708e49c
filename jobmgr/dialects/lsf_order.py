"""What is said to bsub about an order. Sources: bsub(1) of IBM Spectrum LSF 10.1; usage and answers of volclava 2.2."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from jobmgr.dialects import request
from jobmgr.dialects.dialect import Order
from jobmgr.dialects.quoting import bsub_argument
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest


class Variant(StrEnum):
    """What the commands understand: IBM's since 10.1.0.2, or what they have in common with OpenLava and volclava.

    The older ones misread options that they do not know and end with 0: `-env none cmd` runs `none cmd`.
    """

    IBM = "ibm"
    CLASSIC = "classic"


_FIELD = "resources.directives"
# Options with one value that change nothing this product relies on.
_CLASSIC_OPTIONS = frozenset(
    {"-a", "-b", "-c", "-D", "-E", "-Ep", "-F", "-Jd", "-m", "-P", "-S", "-sp", "-t", "-w"}
)
_IBM_OPTIONS = _CLASSIC_OPTIONS | {
    "-app",
    "-C",
    "-G",
    "-g",
    "-Lp",
    "-p",
    "-R",
    "-sla",
    "-T",
    "-U",
    "-v",
}
_RESERVED = (
    "jobmgr sets name, output, array and environment itself, and only options with one value are passed on"
)

_SELECTION = re.compile(r"[A-Za-z0-9_ .()!=<>&|+*/-]+")
_MODEL = re.compile(r"[A-Za-z0-9_.-]+")
_UNSAYABLE = {"qos": "LSF has queues and, in `directives`, service classes (-sla)"}
_CLASSIC_UNSAYABLE = _UNSAYABLE | {
    "gpus": "ask for a partition that has them",
    "gpu_type": "ask for a partition that has them",
    "reservation": "ask for a partition",
}
_TAKEN = frozenset({"mem", "swp", "tmp", "duration", "decay", "ngpus_physical"})
_MB = 1024**2


def directives(order: Order, variant: Variant, max_array_size: int, top_priority: int | None) -> list[str]:
    """What goes after `#BSUB`. `top_priority`: None where jobs of users have no priorities."""
    resources = order.resources
    is_ibm = variant is Variant.IBM
    request.refuse_unsayable(resources, "LSF", _UNSAYABLE if is_ibm else _CLASSIC_UNSAYABLE)
    # %I is the index of an element, or elements would write to one file.
    suffix = "" if order.elements is None else ".%I"
    lines = [f"-J {bsub_argument(_name(order, max_array_size), 'name')}"]
    lines += [f"-o {_path(order.stdout + suffix, 'stdout')}", f"-e {_path(order.stderr + suffix, 'stderr')}"]
    lines += ["-rn"] if is_ibm else []
    lines += ["-H"] if order.is_held else []
    lines += _priority(order, top_priority)
    for letter, field in (("-q", "partition"), ("-P", "account"), ("-U", "reservation"), ("-u", "mail_to")):
        value = getattr(resources, field)
        lines += [f"{letter} {request.argument(value, f'resources.{field}')}"] if value is not None else []
    lines += _size(resources, variant)
    lines += [f"-W {_run_limit(resources.walltime_s)}"] if resources.walltime_s is not None else []
    lines += ["-x"] if resources.exclusive else []
    lines += _mail(resources)
    return lines + options((*resources.directives, *order.directives), variant)


def user_priority(priority: int, top_priority: int) -> int:
    """A priority as LSF knows them, 0 in their middle, which is also LSF's default. Source: bsub(1), `-sp`."""
    return max(1, min(top_priority, top_priority // 2 + priority))


def _priority(order: Order, top_priority: int | None) -> list[str]:
    if not order.priority or top_priority is None or request.says(order, "-sp"):
        return []
    return [f"-sp {user_priority(order.priority, top_priority)}"]


def _name(order: Order, max_array_size: int) -> str:
    """Of an array with its indices, from 1. Those that LSF does not like it takes for a part of a plain job's name."""
    name = request.name(order.name)
    if order.elements is None:
        return name
    if not 2 <= order.elements <= max_array_size:
        raise InvalidRequest(
            "elements", f"{order.elements} is not from 2 to {max_array_size}, what this LSF allows"
        )
    return f"{name}[1-{order.elements}]"


def _path(path: str, field: str) -> str:
    if "%" in path.removesuffix("%I"):
        raise InvalidRequest(
            field, f"{path[:200]!r} means something else to LSF; use a work directory without %"
        )
    return bsub_argument(path, field)


def _size(resources: Resources, variant: Variant) -> list[str]:
    """Slots, memory, GPUs, licences and where they are to be."""
    if resources.gpu_type is not None and resources.gpus is None:
        raise InvalidRequest("resources.gpus", "say how many GPUs of this type")
    requirement = " ".join([*_select(resources), *_rusage(resources, variant), *_span(resources, variant)])
    lines = [f"-n {request.tasks(resources) * (resources.cpus or 1)}"] if request.is_sized(resources) else []
    lines += [f"-R {bsub_argument(requirement, 'resources')}"] if requirement else []
    memory_mb = _memory_mb(resources)
    # Of several nodes it would be the limit of all together or of each, by the site's LSB_JOB_MEMLIMIT. Without
    # units, which classic commands do not know, it is in what the site has chosen (LSF_UNIT_FOR_LIMITS).
    lines += (
        [f"-M {memory_mb}MB"] if memory_mb and variant is Variant.IBM and _is_on_one_node(resources) else []
    )
    return lines + (
        [f"-gpu {bsub_argument(_gpus(resources), 'resources.gpu_type')}"] if resources.gpus else []
    )


def _is_on_one_node(resources: Resources) -> bool:
    return resources.nodes == 1 or (resources.nodes is None and request.tasks(resources) == 1)


def _slots_of_node(resources: Resources) -> int | None:
    """How many slots are on each node, if that is asked for."""
    cpus = resources.cpus or 1
    if resources.nodes is None:
        return cpus if request.tasks(resources) == 1 else None
    shares = request.shares(resources)
    if len(shares) > 1:
        raise InvalidRequest(
            "resources.tasks", "LSF puts as many tasks on each node; ask for a multiple of the nodes"
        )
    return shares[0].tasks * cpus


def _select(resources: Resources) -> list[str]:
    if resources.constraint is None:
        return []
    if _SELECTION.fullmatch(resources.constraint) is None:
        raise InvalidRequest(
            "resources.constraint",
            f"{resources.constraint[:100]!r} is no selection as LSF has it; write bigmem or ncpus>8",
        )
    return [f"select[{resources.constraint}]"]


def _rusage(resources: Resources, variant: Variant) -> list[str]:
    """Reserved on each node. Megabytes are what is meant without units, unless the site chose others."""
    memory_mb = _memory_mb(resources)
    unit = "MB" if variant is Variant.IBM else ""
    parts = [f"mem={memory_mb}{unit}"] if memory_mb is not None else []
    parts += [f"{name}={number}" for name, number in request.licenses(resources, _TAKEN)]
    return [f"rusage[{','.join(parts)}]"] if parts else []


def _memory_mb(resources: Resources) -> int | None:
    slots = _slots_of_node(resources)
    if slots is None and resources.memory_per_cpu_bytes is not None:
        raise InvalidRequest("resources.nodes", "say on how many nodes: LSF reserves memory per node")
    memory_bytes = request.node_memory_bytes(resources, slots or 1)
    return None if memory_bytes is None else request.units(memory_bytes, _MB)


def _span(resources: Resources, variant: Variant) -> list[str]:
    """The cpus of a task are on one node."""
    if not request.is_sized(resources):
        return []
    if _is_on_one_node(resources):
        return ["span[hosts=1]"]
    if resources.nodes is not None:
        return [f"span[ptile={_slots_of_node(resources)}]"]
    if resources.cpus is None or resources.cpus == 1:
        return []
    if variant is Variant.CLASSIC:
        raise InvalidRequest("resources.nodes", "say on how many nodes, to keep the cpus of a task together")
    return [f"span[block={resources.cpus}]"]


def _gpus(resources: Resources) -> str:
    """Of each node."""
    if resources.gpu_type is None:
        return f"num={resources.gpus}"
    if _MODEL.fullmatch(resources.gpu_type) is None:
        raise InvalidRequest(
            "resources.gpu_type", f"{resources.gpu_type[:100]!r} is not the name of a GPU model"
        )
    return f"num={resources.gpus}:gmodel={resources.gpu_type}"


def _run_limit(walltime_s: float) -> str:
    """`hours:minutes`. A third part would be misread, so seconds are rounded up."""
    minutes = request.minutes(walltime_s)
    return f"{minutes // 60}:{minutes % 60:02}"


def _mail(resources: Resources) -> list[str]:
    occasions = request.mail_at_ends(resources, "LSF")
    return (["-B"] if "begin" in occasions else []) + (["-N"] if "end" in occasions else [])


def options(texts: Iterable[str], variant: Variant) -> list[str]:
    """What users say in bsub's own words. Raises InvalidRequest for what they may not."""
    return [_option(text, variant) for text in texts]


def _option(text: str, variant: Variant) -> str:
    allowed = _IBM_OPTIONS if variant is Variant.IBM else _CLASSIC_OPTIONS
    option, value = request.option(text, allowed, _RESERVED)
    if value.startswith("-"):
        raise InvalidRequest(_FIELD, f"{value[:100]!r} begins with a dash and would be read as an option")
    return f"{option} {bsub_argument(value, _FIELD)}"
