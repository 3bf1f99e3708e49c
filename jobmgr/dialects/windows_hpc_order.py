"""What is said to HPC Pack about an order: a job file in XML, which has all of it.

Sources: "Job Complex Type" and "Task Complex Type" of the schema with the namespace below, and the properties of the
same names of ISchedulerJob and ISchedulerTask, HPC Pack 2008 R2 to 2012 R2 on learn.microsoft.com.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree as ET

from jobmgr.dialects import request
from jobmgr.dialects.dialect import Order
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest

_NAMESPACE = "http://schemas.microsoft.com/HPCS2008R2/scheduler/"
_VERSION = "3.000"
_MAX_COMMAND_LINE = 480  # Source: ISchedulerTask.CommandLine

# What of `job submit` may be asked for in its own words, and the attribute that says it in a job file.
_OPTIONS = {
    "/jobtemplate": "JobTemplate",
    "/nodegroupop": "NodeGroupOp",
    "/orderby": "OrderBy",
    "/priority": "Priority",
    "/requestednodes": "RequestedNodes",
}
_OPTION = re.compile(r"(/[a-z]+):(.+)")
_MB = 1024**2
_UNSAYABLE = {
    "qos": "name a job template in `directives`, as /jobtemplate:fast",
    "gpus": "ask for a partition that has them",
    "gpu_type": "ask for a partition that has them",
    "memory_per_cpu_bytes": "ask for memory of a node",
    "reservation": "ask for a partition",
    "constraint": "ask for a partition, or name nodes in `directives`, as /requestednodes:n1,n2",
    "modules": "there are no modules on Windows",
}


def job_file(order: Order, command_line: str) -> str:
    """A job of one task that runs `command_line`, which is no cmd.exe's: the node passes it to CreateProcess."""
    if len(command_line) > _MAX_COMMAND_LINE:
        raise InvalidRequest(
            "work_dir", f"a command line of HPC Pack has {_MAX_COMMAND_LINE} characters; choose a shorter one"
        )
    allocation = _allocation(order.resources)
    job = ET.Element("Job", {"xmlns": _NAMESPACE, "Version": _VERSION, **_job(order, allocation)})
    ET.SubElement(job, "Dependencies")
    tasks = ET.SubElement(job, "Tasks")
    task = {"Version": _VERSION, "CommandLine": command_line, "IsRerunnable": "false", **allocation}
    ET.SubElement(tasks, "Task", task)
    ET.indent(job)
    # Other characters become references, so nobody's locale is asked.
    document: bytes = ET.tostring(job, encoding="us-ascii", xml_declaration=True)
    return document.decode()


def _job(order: Order, allocation: Mapping[str, str]) -> dict[str, str]:
    """The attributes of the job, in the order of `Resources`."""
    resources = order.resources
    request.refuse_unsayable(resources, "Windows HPC", _UNSAYABLE)
    if order.elements is not None:
        raise InvalidRequest("elements", "job list does not tell elements apart; submit jobs one by one")
    if order.is_held:
        raise InvalidRequest("is_held", "Windows HPC cannot hold a job without a time; submit it at once")
    licenses = ",".join(f"{name}:{number}" for name, number in request.licenses(resources, frozenset()))
    attributes = {
        "Name": request.name(order.name),
        **allocation,
        **_nodes(resources, allocation),
        "RuntimeSeconds": None if resources.walltime_s is None else str(math.ceil(resources.walltime_s)),
        "NodeGroups": _text(resources.partition, "partition"),
        "Project": _text(resources.account, "account"),
        "IsExclusive": None if resources.exclusive is None else str(resources.exclusive).lower(),
        "SoftwareLicense": licenses or None,
        "EmailAddress": _text(resources.mail_to, "mail_to"),
        **_mail(resources),
        **options((*order.directives, *resources.directives)),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _allocation(resources: Resources) -> dict[str, str]:
    """Cores, or whole nodes: of the job, and of its only task as much."""
    if resources.nodes is not None:
        unit, number = "Node", resources.nodes
    elif request.is_sized(resources):
        unit, number = "Core", request.tasks(resources) * (resources.cpus or 1)
    else:
        return {}
    return {"UnitType": unit, f"Min{unit}s": str(number), f"Max{unit}s": str(number)}


def _nodes(resources: Resources, allocation: Mapping[str, str]) -> dict[str, str]:
    """What chooses among nodes; of memory nothing is reserved."""
    asked = {}
    if allocation:
        # Else the scheduler counts by the tasks what it allocates.
        asked = {"AutoCalculateMin": "false", "AutoCalculateMax": "false"}
    if resources.nodes is None and request.is_sized(resources) and request.tasks(resources) == 1:
        asked["SingleNode"] = "true"
    if resources.nodes is not None and (resources.tasks is not None or resources.cpus is not None):
        cores = max(share.tasks for share in request.shares(resources)) * (resources.cpus or 1)
        asked["MinCoresPerNode"] = str(cores)
    if resources.memory_bytes is not None:
        asked["MinMemory"] = str(request.units(resources.memory_bytes, _MB))
    return asked


def _mail(resources: Resources) -> dict[str, str]:
    occasions = request.mail_at_ends(resources, "Windows HPC")
    names = {"begin": "NotifyOnStart", "end": "NotifyOnCompletion"}
    return {name: "true" for occasion, name in names.items() if occasion in occasions}


def _text(value: str | None, field: str) -> str | None:
    """A value that XML can hold."""
    if value is not None and (not value.strip() or not value.isprintable()):
        raise InvalidRequest(f"resources.{field}", f"{value[:100]!r} has control characters, or is empty")
    return value


def options(texts: Iterable[str]) -> dict[str, str]:
    """What users say in words of `job submit`, as attributes. Raises InvalidRequest for what they may not."""
    return dict(_option(text) for text in texts)


def _option(text: str) -> tuple[str, str]:
    match = _OPTION.fullmatch(text)
    if match is None or match[1] not in _OPTIONS:
        allowed = ", ".join(_OPTIONS)
        raise InvalidRequest(
            "resources.directives", f"{text[:40]!r} cannot be set here; only {allowed}, as /priority:High"
        )
    return _OPTIONS[match[1]], _text(match[2], "directives") or ""
