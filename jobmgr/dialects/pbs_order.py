"""What is said to qsub about an order: directives of OpenPBS 23.06, options of the Torque flavour."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from jobmgr.dialects import request
from jobmgr.dialects.dialect import Order
from jobmgr.dialects.quoting import directive, word
from jobmgr.dialects.request import Share
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest

_RESERVED = (
    "jobmgr sets name, output, array and environment itself; of qsub's options -a -c -l -p -P -u -W are left"
)
_OPTIONS = frozenset({"-a", "-c", "-l", "-p", "-P", "-u", "-W"})
# What `-W` may set. Any other attribute qsub hands on by its name, also one that has an option of its own: Rerunable,
# Job_Name, Output_Path. Source: qsub(1B), OpenPBS 23.06, "-W".
_ATTRIBUTES = frozenset(
    {
        "depend",
        "group_list",
        "release_nodes_on_stageout",
        "sandbox",
        "stagein",
        "stageout",
        "tolerate_node_failures",
        "umask",
    }
)
_UMASK = re.compile(r"0{0,2}[0-7]{1,2}")
_CONSTRAINT = re.compile(r"[A-Za-z_]\w*=[\w.-]+(?::[A-Za-z_]\w*=[\w.-]+)*")
_OF_CHUNK = frozenset({"ncpus", "mpiprocs", "mem", "ngpus"})
_TAKEN = _OF_CHUNK | {"select", "place", "walltime", "nodes"}
_MAIL = {"begin": "b", "end": "e", "fail": "a"}
_UNSAYABLE = {
    "qos": "PBS has queues only: ask for a partition",
    "gpu_type": "name the site's resource in `constraint`, as gpu_model=a100",
}
_TORQUE_UNSAYABLE = _UNSAYABLE | {
    "constraint": "ask for a partition",
    "exclusive": "ask for all cpus of a node",
    "licenses": "leave it out",
    "reservation": "ask for a partition",
    "directives": "use the site's own scheduler",
}
_KB, _MB = 1024, 1024**2


def directives(order: Order) -> list[str]:
    """Source: qsub(1B), OpenPBS 23.06. `-S`: else the login shell reads the script, whichever it is."""
    resources = order.resources
    request.refuse_unsayable(resources, "PBS", _UNSAYABLE)
    lines = ["-S /bin/sh", f"-N {request.name(order.name)}", "-r n"]
    # ^array_index^ is put in by PBS, or elements would write to one file.
    suffix = "" if order.elements is None else ".^array_index^"
    lines += [f"-o {_path(order.stdout, 'stdout')}{suffix}", f"-e {_path(order.stderr, 'stderr')}{suffix}"]
    lines += [f"-J {_array(order)}"] if order.elements is not None else []
    lines += ["-h"] if order.is_held else []
    lines += [f"-p {rank(order.priority)}"] if order.priority and not request.says(order, "-p") else []
    lines += _queue(resources)
    lines += _valued(resources, "-A", "account")
    lines += [f"-l {each}" for each in _resource_list(resources)]
    lines += [f"-m {_mail_points(resources)}"]
    lines += _valued(resources, "-M", "mail_to")
    return lines + options((*resources.directives, *order.directives))


def rank(priority: int) -> int:
    """A priority as PBS knows them. Source: qsub(1B), `-p`."""
    return max(-1024, min(1023, priority))


def _valued(resources: Resources, option: str, field: str) -> list[str]:
    value = getattr(resources, field)
    return [] if value is None else [f"{option} {request.argument(value, f'resources.{field}')}"]


def _path(path: str, field: str) -> str:
    """A colon would be the end of a host's name."""
    if ":" in path or "^" in path:
        raise InvalidRequest(
            field, f"{path[:200]!r} means something else to PBS; use a work directory without : and ^"
        )
    return directive(path, field)


def _array(order: Order) -> str:
    if order.elements is None or order.elements < 2:
        raise InvalidRequest("elements", "PBS has no arrays of less than two elements; submit the job alone")
    return f"0-{order.elements - 1}"


def _queue(resources: Resources) -> list[str]:
    """A reservation of PBS is a queue."""
    if resources.reservation is not None and resources.partition is not None:
        raise InvalidRequest("resources.reservation", "PBS reservations are queues: leave the partition out")
    return _valued(resources, "-q", "reservation") + _valued(resources, "-q", "partition")


def _resource_list(resources: Resources) -> list[str]:
    """What goes after `-l`. Source: pbs_resources(7B)."""
    lines = [f"select={select}"] if (select := _select(resources)) else []
    lines += [f"place={place}"] if (place := _place(resources)) else []
    lines += [f"walltime={_clock(resources.walltime_s)}"] if resources.walltime_s is not None else []
    return lines + [f"{name}={number}" for name, number in request.licenses(resources, _TAKEN)]


def _select(resources: Resources) -> str:
    asked = (resources.memory_bytes, resources.memory_per_cpu_bytes, resources.gpus, resources.constraint)
    if not request.is_sized(resources) and all(value is None for value in asked):
        return ""
    return "+".join(_chunk(share, resources) for share in request.shares(resources))


def _chunk(share: Share, resources: Resources) -> str:
    """So many alike parts, each of which lies on one node."""
    if resources.nodes is None and share.nodes > 1:
        for field in ("memory_bytes", "gpus"):
            if getattr(resources, field) is not None:
                raise InvalidRequest(
                    "resources.nodes",
                    f"say on how many nodes: {request.asked_as(field)} is reserved per node",
                )
    cpus = share.tasks * (resources.cpus or 1)
    text = f"{share.nodes}:ncpus={cpus}"
    text += f":mpiprocs={share.tasks}" if resources.tasks is not None else ""
    memory_bytes = request.node_memory_bytes(resources, cpus)
    text += f":mem={request.units(memory_bytes, _KB)}kb" if memory_bytes is not None else ""
    text += f":ngpus={resources.gpus}" if resources.gpus is not None else ""
    return f"{text}:{_constraint(resources.constraint)}" if resources.constraint is not None else text


def _constraint(text: str) -> str:
    if _CONSTRAINT.fullmatch(text) is None:
        raise InvalidRequest("resources.constraint", f"{text[:100]!r} is not name=value[:name=value]")
    if _OF_CHUNK & {part.partition("=")[0] for part in text.split(":")}:
        raise InvalidRequest(
            "resources.constraint", f"{text[:100]!r} has what is asked for in fields of its own"
        )
    return text


def _place(resources: Resources) -> str:
    """Several nodes are different ones."""
    scatter = ["scatter"] if resources.nodes is not None and resources.nodes > 1 else []
    sharing = {None: [], True: ["excl"], False: ["shared"]}[resources.exclusive]
    return ":".join([*scatter, *sharing])


def _clock(walltime_s: float) -> str:
    minutes, seconds = divmod(max(1, math.ceil(walltime_s)), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _mail_points(resources: Resources) -> str:
    """`a` is said when PBS ends the job; that a command failed, PBS does not mail."""
    return "".join(_MAIL[occasion] for occasion in sorted(request.mail(resources))) or "n"


def options(texts: Iterable[str]) -> list[str]:
    """What users say in qsub's own words. Raises InvalidRequest for what they may not."""
    return [_option(text) for text in texts]


def _option(text: str) -> str:
    option, value = request.option(text, _OPTIONS, _RESERVED)
    argument = request.argument(value, "resources.directives")
    if option == "-W":
        _check_attributes(argument)
    return f"{option} {argument}"


def _check_attributes(argument: str) -> None:
    """Raise InvalidRequest for what `-W` may not set. Source: parse_equal_string() and qsub of OpenPBS 23.06.

    What has an equals sign begins an attribute; what stands between commas without one belongs to the value before.
    """
    field = "resources.directives"
    values: list[tuple[str, str]] = []
    for part in argument.split(","):
        name, sign, value = part.partition("=")
        if sign and name and "=" not in value:
            values.append((name, value))
        elif values and not sign:
            values[-1] = (values[-1][0], f"{values[-1][1]},{part}")
        else:
            raise InvalidRequest(
                field, f"'-W {argument[:100]}': write it as attribute=value[,attribute=value]"
            )
    for name, value in values:
        if name not in _ATTRIBUTES:
            raise InvalidRequest(
                field,
                f"'-W {name[:40]}' cannot be set here; of its attributes {' '.join(sorted(_ATTRIBUTES))} are left",
            )
        if name == "umask" and _UMASK.fullmatch(value) is None:
            # Gate and record are written with this mask, and read afterwards.
            raise InvalidRequest(
                field, f"'-W umask={value[:40]}' takes rights from the owner; write it as 027 or 077"
            )


def torque_options(order: Order) -> tuple[str, ...]:
    """Options that the wrapper passes to a shell as they are, so nothing may need quotes. Source: its qsub.pl."""
    resources = order.resources
    request.refuse_unsayable(resources, "this flavour of PBS", _TORQUE_UNSAYABLE)
    if order.elements is not None:
        raise InvalidRequest(
            "elements", "this flavour of PBS does not tell elements apart; submit jobs one by one"
        )
    if order.directives:
        raise InvalidRequest("resources.directives", "this flavour of PBS takes none; leave them out")
    options = ["-N", request.name(order.name), "-r", "n"]
    options += ["-o", _plain(order.stdout, "stdout"), "-e", _plain(order.stderr, "stderr")]
    options += ["-h"] if order.is_held else []
    for letter, field in (("-q", "partition"), ("-A", "account"), ("-M", "mail_to")):
        value = getattr(resources, field)
        options += [letter, _plain(value, f"resources.{field}")] if value is not None else []
    options += ["-l", ",".join(asked)] if (asked := _torque_resource_list(resources)) else []
    return (*options, "-m", _mail_points(resources))


def _plain(text: str, field: str) -> str:
    if word(request.argument(text, field)) != text:
        raise InvalidRequest(field, f"{text[:100]!r} would not reach SLURM as one word through this qsub")
    return text


def _torque_resource_list(resources: Resources) -> list[str]:
    """All in one list: of several only the last would count."""
    shares = request.shares(resources)
    if len(shares) > 1 or (resources.nodes is None and shares[0].nodes > 1):
        raise InvalidRequest(
            "resources.tasks", "ask for as many tasks on each node, and say on how many nodes"
        )
    cpus = shares[0].tasks * (resources.cpus or 1)
    gpus = f":gpus={resources.gpus}" if resources.gpus is not None else ""
    asked = [f"nodes={shares[0].nodes}:ppn={cpus}{gpus}"] if request.is_sized(resources) or gpus else []
    memory_bytes = request.node_memory_bytes(resources, cpus)
    asked += [f"mem={request.units(memory_bytes, _MB)}mb"] if memory_bytes is not None else []
    return asked + ([f"walltime={_clock(resources.walltime_s)}"] if resources.walltime_s is not None else [])
