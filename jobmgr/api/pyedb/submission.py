"""What is posted as a simulation, as a configuration."""

from __future__ import annotations

import os
from typing import Any

from msgspec import structs

from jobmgr.errors import InvalidConfig
from jobmgr.hfss import installation
from jobmgr.hfss.config import HFSSSimulationConfig
from jobmgr.hfss.program import Programs
from jobmgr.hfss.scheduler import SchedulerOptions, SchedulerType
from jobmgr.wire.pyedb import SimulationAsked

_PROGRAM = "ansys_edt_path"
# What stands beside the configuration, and which field of it that is.
_BESIDE = {
    "user": "user",
    "machine_nodes": "machine_nodes",
    "batch_options": "layout_options",
    "scheduler_type": "scheduler_type",
}


def configuration(asked: SimulationAsked, programs: Programs, *, or_newest: bool) -> HFSSSimulationConfig:
    """The configuration. Raises InvalidRequest naming the field, as `config.scheduler_options.time`.

    A program that clients may not name is an error, or, with `or_newest`, left to the newest installation. Blocks: it
    looks for programs.
    """
    fields = {**asked.config, **_beside(asked)}
    if fields.get(_PROGRAM) == installation.NEWEST:
        # As if it were left out.
        del fields[_PROGRAM]
    try:
        config = HFSSSimulationConfig.from_dict(fields)
        return _with_program(config, programs, or_newest=or_newest) if fields.get(_PROGRAM) else config
    except InvalidConfig as error:
        raise placed(error, asked) from error


def _beside(asked: SimulationAsked) -> dict[str, Any]:
    """By field of the configuration, what stands beside it. What is empty there says nothing, as in pyedb."""
    given = {field: getattr(asked, name) for name, field in _BESIDE.items()}
    return {field: value for field, value in given.items() if value}


def _with_program(
    config: HFSSSimulationConfig, programs: Programs, *, or_newest: bool
) -> HFSSSimulationConfig:
    try:
        program = programs.check(config.ansys_edt_path, os.environ)
    except InvalidConfig as refused:
        if not or_newest:
            raise
        try:
            program = installation.find(os.environ)
        except InvalidConfig:
            raise refused from None
    return structs.replace(config, ansys_edt_path=program)


def placed(error: InvalidConfig, asked: SimulationAsked) -> InvalidConfig:
    """The same with the place of the field in the request."""
    for name, field in _BESIDE.items():
        if getattr(asked, name) and error.field.startswith(field):
            return type(error)(name + error.field.removeprefix(field), error.message)
    return type(error)(f"config.{error.field}".rstrip("."), error.message)


def wants_scheduler(asked: SimulationAsked, config: HFSSSimulationConfig) -> bool:
    """Whether it has options of a scheduler and does not name one: pyedb's clients leave that to the service.

    In their configurations `none` says nothing. Beside one, where they say nothing, it is what is meant.
    """
    is_open = not asked.scheduler_type and config.scheduler_type is SchedulerType.NONE
    return is_open and config.scheduler_options != SchedulerOptions()


def with_scheduler(config: HFSSSimulationConfig, scheduler: SchedulerType) -> HFSSSimulationConfig:
    """The same for the scheduler of this service."""
    return structs.replace(config, scheduler_type=scheduler)
