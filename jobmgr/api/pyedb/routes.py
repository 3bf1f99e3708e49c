"""The table of these routes: what pyedb's job manager had, and who answers it here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from jobmgr.api.pyedb import cluster, jobs, machine
from jobmgr.api.pyedb.refusal import MANNER
from jobmgr.api.route import Route
from jobmgr.domain.access import Verb
from jobmgr.errors import (
    ClusterUnavailable,
    ExecutorUnavailable,
    IllegalTransition,
    InvalidRequest,
    JobExists,
    JobNotFound,
    NotASimulation,
    SiteRefused,
    SiteSilent,
    SiteUnreachable,
)
from jobmgr.wire.answers import LimitsAnswer
from jobmgr.wire.pyedb import (
    CancelAnswer,
    Done,
    MeAnswer,
    PoolLimitsAnswer,
    PriorityAsked,
    PrioritySet,
    PyedbPartition,
    QueueStatistics,
    ResourcesAnswer,
    SchedulerTypeAnswer,
    SimulationAsked,
    SimulationLog,
    SimulationShown,
    SimulationsQuery,
    SimulationStored,
    SystemStatus,
)
from jobmgr.wire.requests import LimitsChange

Handler = Callable[..., Awaitable[web.StreamResponse]]


def _route(method: str, path: str, handler: Handler, summary: str, answer: Any, **more: Any) -> Route:
    return Route(method, path, handler, summary, answer, manner=MANNER, **more)


def _submit(path: str, handler: Handler, summary: str) -> Route:
    return _route(
        "POST",
        path,
        handler,
        summary,
        SimulationStored,
        body=SimulationAsked,
        gives=(("{job_id}", "/job_id"),),
        errors=(InvalidRequest, JobExists),
        verb=Verb.SUBMIT,
    )


def _cancel(path: str, handler: Handler, **more: Any) -> Route:
    return _route("POST", path, handler, "End a job, with all its processes", CancelAnswer, **more)


def _both(name: str, handler: Handler, summary: str, answer: Any, **more: Any) -> tuple[Route, ...]:
    return tuple(
        _route("GET", f"{family}/{name}", handler, summary, answer, **more) for family in ("", "/api")
    )


ROUTES: tuple[Route, ...] = (
    *_both(
        "jobs",
        jobs.list_jobs,
        "All jobs, oldest first; with `limit` a page, and in `X-Next-Cursor` the cursor of the next one",
        SimulationShown,
        query=SimulationsQuery,
        errors=(InvalidRequest,),
        is_array=True,
    ),
    _submit("/jobs/submit", jobs.submit, "Store a simulation"),
    _submit(
        "/api/submit",
        jobs.submit_from_page,
        "Store a simulation; if its program may not be named, with the newest one that is installed",
    ),
    _cancel("/jobs/{job_id}/cancel", jobs.cancel, errors=(JobNotFound,)),
    _cancel("/api/cancel/{job_id}", jobs.cancel_from_page),
    _route(
        "POST",
        "/jobs/{job_id}/priority",
        jobs.set_priority,
        "Change a job's priority; a larger one runs first, negative ones last",
        PrioritySet,
        body=PriorityAsked,
        errors=(InvalidRequest, JobNotFound, IllegalTransition),
    ),
    _route(
        "GET",
        "/api/jobs/{job_id}/log",
        jobs.log,
        "What the log of a simulation's last run says",
        SimulationLog,
        may_be_empty=True,
        errors=(
            JobNotFound,
            NotASimulation,
            ExecutorUnavailable,
            SiteUnreachable,
            SiteSilent,
            SiteRefused,
        ),
    ),
    *_both("resources", machine.resources, "The machine of the service now", ResourcesAnswer, verb=Verb.LOOK),
    *_both(
        "queue",
        machine.queue,
        "What waits, by priority, and how many jobs run here",
        QueueStatistics,
        verb=Verb.LOOK,
    ),
    _route(
        "GET",
        "/pool/limits",
        machine.limits,
        "What the service may use of its machine",
        LimitsAnswer,
        verb=Verb.LOOK,
    ),
    *(
        _route(
            method,
            "/pool/limits",
            machine.change_limits,
            "Change limits, all or none; they survive a restart",
            PoolLimitsAnswer,
            body=LimitsChange,
            errors=(InvalidRequest,),
            verb=Verb.OPERATE,
        )
        for method in ("PUT", "PATCH")
    ),
    _route(
        "GET",
        "/scheduler/partitions",
        cluster.partitions,
        "The partitions of the service's scheduler",
        PyedbPartition,
        errors=(InvalidRequest, ClusterUnavailable),
        is_array=True,
        verb=Verb.LOOK,
    ),
    _route(
        "GET",
        "/api/cluster_partitions",
        cluster.partitions_for_page,
        "The same; none without a scheduler",
        PyedbPartition,
        errors=(InvalidRequest, ClusterUnavailable),
        is_array=True,
        verb=Verb.LOOK,
    ),
    _route(
        "GET",
        "/api/scheduler_type",
        cluster.scheduler_type,
        "The service's scheduler",
        SchedulerTypeAnswer,
        verb=Verb.LOOK,
    ),
    _route(
        "GET",
        "/system/status",
        machine.status,
        "Scheduler, machine, queue and limits together",
        SystemStatus,
        verb=Verb.LOOK,
    ),
    _route(
        "POST",
        "/system/start_monitoring",
        machine.start_monitoring,
        "Nothing: the machine is watched already",
        Done,
        verb=Verb.LOOK,
    ),
    _route("GET", "/api/me", machine.me, "Whom jobs belong to: whoever asks", MeAnswer, verb=Verb.SELF),
)
