"""A simulation as a job: what it runs, where, and what is kept of its configuration."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import structs, to_builtins

from jobmgr.domain.job import NewJob
from jobmgr.domain.queue import DEFAULT_QUEUE
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidConfig
from jobmgr.hfss import script
from jobmgr.hfss.config import HFSSSimulationConfig
from jobmgr.hfss.scheduler import SchedulerType
from jobmgr.wire.submission import JobSubmission, check_priority, to_new_job

# What jobs of simulations are called as a kind (`Job.kind`).
KIND = "hfss"


def new_job(
    config: HFSSSimulationConfig, *, priority: int = 0, queue: str = DEFAULT_QUEUE, user: str
) -> NewJob:
    """The job that runs `config`: on this machine, or at the default site of its scheduler's kind.

    It starts in the directory of its project. Raises InvalidRequest, and InvalidConfig for what its scheduler cannot be
    told and for what cannot be stored.
    """
    here = structs.replace(script.absolute(config), ansys_edt_path=config.program)
    # What was submitted from another directory, or comes over the network, is the same only then.
    kept = payload(here)
    scheduler = config.scheduler_type
    asked = JobSubmission(
        command=script.argv(here, scheduler),
        job_id=config.jobid,
        name=_name(config.project_path),
        executor=None if scheduler is SchedulerType.NONE else scheduler.value,
        priority=check_priority(priority, "priority"),
        queue=queue,
    )
    new = to_new_job(asked, user=user)
    spec = replace(new.spec, cwd=script.directory(here.project_path) or None, resources=_resources(config))
    return replace(new, spec=spec, kind=KIND, payload=kept)


def payload(config: HFSSSimulationConfig) -> Mapping[str, Any]:
    """What is kept of a configuration: all of its fields as JSON has them, whatever they are by default today.

    Raises InvalidConfig for a name of a file that is no text.
    """
    fields: dict[str, Any] = to_builtins(config)
    for name, value in fields.items():
        try:
            msgspec.json.encode(value)
        except UnicodeEncodeError as error:
            raise InvalidConfig(
                name, "has bytes that are not UTF-8, which cannot be stored; rename it"
            ) from error
    # As it comes back from JSON, so that two can be compared.
    return fields | {"machine_nodes": list(fields["machine_nodes"])}


def configuration(kept: Mapping[str, Any]) -> HFSSSimulationConfig:
    """The configuration of which `payload` was kept."""
    return HFSSSimulationConfig.from_dict(kept)


def _resources(config: HFSSSimulationConfig) -> Resources:
    scheduler = config.scheduler_type
    if scheduler is SchedulerType.NONE:
        # The only one of these options that means something without a scheduler.
        return Resources(walltime_s=config.scheduler_options.walltime_s)
    return replace(script.resources(config.scheduler_options, scheduler), setup=script.setup(scheduler))


def _name(project_path: str) -> str:
    """The file of the project; a path may have what no name may."""
    name = posixpath.basename(project_path.replace("\\", "/"))
    return "".join(character if character.isprintable() else "?" for character in name)
