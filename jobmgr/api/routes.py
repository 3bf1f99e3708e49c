"""The table of all routes: the router and the OpenAPI document are made of it."""

from __future__ import annotations

from jobmgr.api import cluster, documents, events, health, jobs, logs, queues, sites, users
from jobmgr.api.pyedb import routes as pyedb
from jobmgr.api.route import Route
from jobmgr.domain.access import Verb
from jobmgr.errors import (
    AccessDenied,
    ApiTokenNotFound,
    ClusterUnavailable,
    Conflict,
    EventsGone,
    ExecutorUnavailable,
    FileMissing,
    IllegalTransition,
    InvalidRequest,
    JobExists,
    JobNotFound,
    NotASimulation,
    SiteNotFound,
    SiteRefused,
    SiteSilent,
    SiteUnreachable,
    StoreUnavailable,
    UserNotFound,
)
from jobmgr.manager.manager import Manager
from jobmgr.wire.answers import (
    AttemptsAnswer,
    AuditAnswer,
    BulkAnswer,
    CallerAnswer,
    ClusterAnswer,
    ClusterJobsAnswer,
    ClustersAnswer,
    EventsAnswer,
    FilesAnswer,
    HealthAnswer,
    JobAnswer,
    JobsAnswer,
    LimitsAnswer,
    MadeTokenAnswer,
    NodesAnswer,
    PartitionsAnswer,
    ProgressAnswer,
    QueueAnswer,
    QueuesAnswer,
    SiteAnswer,
    SitesAnswer,
    SpecAnswer,
    SubmittedAnswer,
    TokenAnswer,
    TokensAnswer,
    TrialAnswer,
    UserAnswer,
    UsersAnswer,
    WhyAnswer,
)
from jobmgr.wire.requests import (
    AttemptQuery,
    AuditQuery,
    BulkSubmission,
    ClusterJobsQuery,
    EventsQuery,
    JobEventsQuery,
    JobsQuery,
    LimitsChange,
    LogQuery,
    PriorityChange,
    QueueChange,
    RetryQuery,
    SiteAsked,
    SiteChange,
    TokenAsked,
    TokensQuery,
    UserAsked,
    UserChange,
)
from jobmgr.wire.submission import JobChange, JobSubmission

_JOB = "/api/v1/jobs/{job_id}"


def _verb(name: str, summary: str) -> Route:
    does = {
        "cancel": Manager.cancel,
        "pause": Manager.pause,
        "resume": Manager.resume,
        "hold": Manager.hold,
        "release": Manager.release,
        "execute": Manager.execute,
    }[name]
    return Route(
        "POST", f"{_JOB}/{name}", jobs.verb(does), summary, JobAnswer, errors=(JobNotFound, IllegalTransition)
    )


_LIMITS = (
    Route(
        "GET",
        "/api/v1/limits",
        queues.limits,
        "What the service may use of its machine",
        LimitsAnswer,
        verb=Verb.LOOK,
    ),
    Route(
        "PATCH",
        "/api/v1/limits",
        queues.change_limits,
        "Change limits; they survive a restart",
        LimitsAnswer,
        body=LimitsChange,
        errors=(InvalidRequest,),
        verb=Verb.OPERATE,
    ),
)

_JOBS = (
    Route(
        "POST",
        "/api/v1/jobs",
        jobs.submit,
        "Store one job, or many, all or none, as {jobs: [...]} or as lines of JSON (application/x-ndjson)",
        (SubmittedAnswer, BulkAnswer),
        status=201,
        own_bodies=(JobSubmission, BulkSubmission),
        gives=(("{job_id}", "/job_id"),),
        errors=(InvalidRequest, JobExists),
        verb=Verb.SUBMIT,
    ),
    Route(
        "GET",
        "/api/v1/jobs",
        jobs.list_jobs,
        "A page of jobs",
        JobsAnswer,
        query=JobsQuery,
        errors=(InvalidRequest,),
    ),
    Route("GET", _JOB, jobs.get, "One job", JobAnswer, errors=(JobNotFound,)),
    Route(
        "PATCH",
        _JOB,
        jobs.change,
        "Change what may change on a job",
        JobAnswer,
        body=JobChange,
        errors=(InvalidRequest, JobNotFound, Conflict),
        verb=Verb.REPORT,
    ),
    Route(
        "DELETE",
        _JOB,
        jobs.delete,
        "Forget an ended job",
        None,
        status=204,
        errors=(JobNotFound, IllegalTransition),
    ),
    _verb("cancel", "End a job, a running one with all its processes; an ended one stays as it is"),
    Route(
        "POST",
        f"{_JOB}/retry",
        jobs.retry,
        "Run an ended job once more; with `assume_dead` also one whose attempt is unreachable",
        JobAnswer,
        query=RetryQuery,
        errors=(InvalidRequest, JobNotFound, IllegalTransition),
    ),
    _verb("pause", "Stop the processes of a running job where they are"),
    _verb("resume", "Let a paused job go on"),
    _verb("hold", "Keep a waiting job from starting; a foreign queue where it waits is told to hold it"),
    _verb("release", "Let a held job go"),
    _verb("execute", "Queue a job that was saved as a draft"),
    Route(
        "POST",
        f"{_JOB}/priority",
        jobs.set_priority,
        "Change a job's priority; a larger one runs first, and a foreign queue where it waits is told",
        JobAnswer,
        body=PriorityChange,
        errors=(InvalidRequest, JobNotFound, IllegalTransition),
    ),
)

# Of the logs and files of jobs, which may lie at a site.
_OF_FILES = (
    InvalidRequest,
    JobNotFound,
    FileMissing,
    ExecutorUnavailable,
    SiteUnreachable,
    SiteSilent,
    SiteRefused,
)

_READS = (
    Route("GET", f"{_JOB}/spec", jobs.spec, "What a job runs", SpecAnswer, errors=(JobNotFound,)),
    Route(
        "GET",
        f"{_JOB}/attempts",
        jobs.attempts,
        "All attempts of a job",
        AttemptsAnswer,
        errors=(JobNotFound,),
    ),
    Route(
        "GET",
        f"{_JOB}/events",
        events.job_events,
        "A page of a job's events",
        EventsAnswer,
        query=JobEventsQuery,
        errors=(InvalidRequest, JobNotFound, EventsGone),
    ),
    Route("GET", f"{_JOB}/why", jobs.why, "Why a job is where it is", WhyAnswer, errors=(JobNotFound,)),
    Route(
        "GET",
        f"{_JOB}/progress",
        jobs.progress,
        "How far a simulation is, as the log of its own run says",
        ProgressAnswer,
        errors=(JobNotFound, NotASimulation, ExecutorUnavailable, SiteUnreachable, SiteSilent, SiteRefused),
    ),
    *(
        Route(
            "GET",
            f"{_JOB}/logs/{name}",
            handler,
            f"What a job wrote to its {name}: bytes from `X-Log-Offset` on, of `X-Log-Size` so far",
            logs.LOG_TYPE,
            query=LogQuery,
            is_ranged=True,
            errors=_OF_FILES,
        )
        for name, handler in (("stdout", logs.stdout), ("stderr", logs.stderr))
    ),
    Route(
        "GET",
        f"{_JOB}/files",
        logs.files,
        "The files of a job's run directory",
        FilesAnswer,
        query=AttemptQuery,
        errors=_OF_FILES,
    ),
    Route(
        "GET",
        f"{_JOB}/files/{{path:[\\s\\S]+}}",
        logs.download,
        "One file of a job's run directory",
        logs.FILE_TYPE,
        query=AttemptQuery,
        is_ranged=True,
        errors=_OF_FILES,
    ),
    Route(
        "GET",
        "/api/v1/events",
        events.events,
        "A page of events; with `Accept: text/event-stream` all that come, resumable by `Last-Event-ID`",
        EventsAnswer,
        query=EventsQuery,
        errors=(InvalidRequest, JobNotFound, EventsGone),
        streams=True,
    ),
)

_QUEUES = (
    Route("GET", "/api/v1/queues", queues.queues, "All queues", QueuesAnswer, verb=Verb.LOOK),
    Route(
        "PATCH",
        "/api/v1/queues/{name}",
        queues.change_queue,
        "Pause, resume or limit a queue; a new name makes a queue",
        QueueAnswer,
        body=QueueChange,
        gives=(("queues/{name}", "/name"),),
        errors=(InvalidRequest,),
        verb=Verb.OPERATE,
    ),
)

_SITE = "/api/v1/sites/{name}"

_SITES = (
    Route("GET", "/api/v1/sites", sites.sites, "All sites: where jobs may run", SitesAnswer, verb=Verb.LOOK),
    Route(
        "PUT",
        _SITE,
        sites.put,
        "Make a site, or change it to this",
        SiteAnswer,
        body=SiteAsked,
        gives=(("sites/{name}", "/name"), ("cluster/{name}", "/name")),
        errors=(InvalidRequest, Conflict, SiteUnreachable),
        verb=Verb.OPERATE,
    ),
    Route(
        "PATCH",
        _SITE,
        sites.change,
        "Disable a site, which then gets no more jobs, or enable it again",
        SiteAnswer,
        body=SiteChange,
        errors=(SiteNotFound, InvalidRequest, Conflict),
        verb=Verb.OPERATE,
    ),
    Route(
        "DELETE",
        _SITE,
        sites.remove,
        "Forget a site that no stored job names",
        None,
        status=204,
        errors=(SiteNotFound, Conflict),
        verb=Verb.OPERATE,
    ),
    Route(
        "POST",
        f"{_SITE}/test",
        sites.trial,
        "Try the way to a site, its scheduler and its work directory, until something is wrong",
        TrialAnswer,
        errors=(InvalidRequest, SiteNotFound),
        verb=Verb.OPERATE,
    ),
)

_CLUSTER = "/api/v1/cluster/{name}"
_UNTOLD = (InvalidRequest, SiteNotFound, ClusterUnavailable)

_CLUSTERS = (
    Route(
        "GET",
        "/api/v1/cluster",
        cluster.clusters,
        "How large and busy the clusters of all sites are, and which schedulers are installed here",
        ClustersAnswer,
        verb=Verb.LOOK,
    ),
    Route(
        "GET",
        _CLUSTER,
        cluster.cluster,
        "How large and busy the cluster of a site is",
        ClusterAnswer,
        errors=_UNTOLD,
        verb=Verb.LOOK,
    ),
    Route(
        "GET",
        f"{_CLUSTER}/partitions",
        cluster.partitions,
        "The partitions, or queues, of a site's scheduler",
        PartitionsAnswer,
        errors=_UNTOLD,
        verb=Verb.LOOK,
    ),
    Route(
        "GET",
        f"{_CLUSTER}/nodes",
        cluster.nodes,
        "The machines of a site",
        NodesAnswer,
        errors=_UNTOLD,
        verb=Verb.LOOK,
    ),
    Route(
        "GET",
        f"{_CLUSTER}/jobs",
        cluster.jobs,
        "A page of everybody's jobs at a site, in the order of their ids",
        ClusterJobsAnswer,
        query=ClusterJobsQuery,
        errors=_UNTOLD,
        verb=Verb.OVERSEE,
    ),
)

_USER = "/api/v1/users/{name}"

_USERS = (
    Route("GET", "/api/v1/me", users.me, "Who asks, and what they may do", CallerAnswer, verb=Verb.SELF),
    Route("GET", "/api/v1/users", users.users, "All users", UsersAnswer, verb=Verb.GOVERN),
    Route("GET", _USER, users.get, "One user", UserAnswer, errors=(UserNotFound,), verb=Verb.GOVERN),
    Route(
        "PUT",
        _USER,
        users.put,
        "Make a user, or change one to this",
        UserAnswer,
        body=UserAsked,
        errors=(InvalidRequest, Conflict),
        gives=(("users/{name}", "/name"),),
        verb=Verb.GOVERN,
    ),
    Route(
        "PATCH",
        _USER,
        users.change,
        "Change a user; who is disabled is let in no more, and loses all API tokens",
        UserAnswer,
        body=UserChange,
        errors=(InvalidRequest, UserNotFound, Conflict),
        verb=Verb.GOVERN,
    ),
    Route(
        "DELETE",
        _USER,
        users.remove,
        "Forget a user without jobs, and all their API tokens",
        None,
        status=204,
        errors=(UserNotFound, Conflict),
        verb=Verb.GOVERN,
    ),
    Route(
        "GET",
        "/api/v1/tokens",
        users.tokens,
        "API tokens, newest first: all, or one's own for who is no admin",
        TokensAnswer,
        query=TokensQuery,
        errors=(InvalidRequest, AccessDenied),
        verb=Verb.SELF,
    ),
    Route(
        "POST",
        "/api/v1/tokens",
        users.make_token,
        "Make an API token; what its user is to show is told this once",
        MadeTokenAnswer,
        status=201,
        body=TokenAsked,
        errors=(InvalidRequest, UserNotFound, Conflict),
        gives=(("{token_id}", "/id"),),
        verb=Verb.GOVERN,
    ),
    Route(
        "DELETE",
        "/api/v1/tokens/{token_id}",
        users.revoke_token,
        "Revoke an API token, from the next request on; one's own for who is no admin",
        TokenAnswer,
        errors=(AccessDenied, ApiTokenNotFound),
        verb=Verb.SELF,
    ),
    Route(
        "GET",
        "/api/v1/reports/audit",
        users.audit,
        "Who did what, when, from where; with `Accept: text/csv` as CSV, `X-Next-Cursor` being its `next_cursor`",
        AuditAnswer,
        query=AuditQuery,
        errors=(InvalidRequest,),
        verb=Verb.GOVERN,
        has_csv=True,
    ),
)

_SERVICE = (
    Route(
        "GET",
        "/healthz",
        health.healthz,
        "Whether the service lives; open to everybody",
        HealthAnswer,
        is_open=True,
    ),
    Route(
        "GET",
        "/readyz",
        health.readyz,
        "Whether the service can serve",
        HealthAnswer,
        errors=(StoreUnavailable,),
        verb=Verb.SELF,
    ),
    Route("GET", "/openapi.json", documents.openapi, "This document", "application/json", verb=Verb.SELF),
    Route("GET", "/docs", documents.docs, "This document to read", "text/html", verb=Verb.SELF),
)

ROUTES: tuple[Route, ...] = (
    *_JOBS,
    *_READS,
    *_QUEUES,
    *_SITES,
    *_CLUSTERS,
    *_LIMITS,
    *_USERS,
    *pyedb.ROUTES,
    *_SERVICE,
)
