"""Problem documents of the service, as the errors they were made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from jobmgr import errors
from jobmgr.errors import JobmgrError
from jobmgr.wire.answers import ProblemAnswer

_PLAIN: Mapping[str, type[JobmgrError]] = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            errors.AccessDenied,
            errors.Conflict,
            errors.DatabaseInUse,
            errors.DatabaseMoved,
            errors.ExecutorUnavailable,
            errors.FileMissing,
            errors.NotADatabase,
            errors.NotFound,
            errors.QueryTooSlow,
            errors.SchemaMissing,
            errors.SchemaTooNew,
            errors.StoreError,
            errors.StoreUnavailable,
            errors.TooManyRequests,
            errors.WaitTimeout,
        )
    }
)
_OF_SITES = (
    errors.SiteError,
    errors.SiteUnreachable,
    errors.OtherDirectory,
    errors.HostKeyRefused,
    errors.LoginRefused,
    errors.SiteSilent,
    errors.SiteRefused,
)
# Malformed, too large, of another media type, unprocessable: what was sent has to be changed.
_INPUT_STATUSES = frozenset({400, 413, 415, 422})


def to_error(problem: ProblemAnswer, subject: str) -> JobmgrError:
    """The error that `problem` tells about; `subject` is the job or queue that the request named."""
    if problem.code in _WITH_FACTS:
        error = _WITH_FACTS[problem.code](problem, subject)
        # The service's own sentence knows more than what can be rebuilt here.
        error.args = (problem.detail,)
        return error
    if problem.code in _PLAIN:
        return _PLAIN[problem.code](problem.detail)
    if problem.status in _INPUT_STATUSES:
        return _invalid(errors.InvalidRequest, problem)
    return errors.RemoteError(problem.status, problem.code, problem.detail)


def _invalid(kind: type[errors.InvalidRequest], problem: ProblemAnswer) -> errors.InvalidRequest:
    field = problem.field or ""
    return kind(field, problem.detail.removeprefix(f"{field}: ") if field else problem.detail)


def _at_site(kind: type[errors.SiteError], problem: ProblemAnswer, _subject: str) -> errors.SiteError:
    return kind("", problem.detail)


_WITH_FACTS: Mapping[str, Callable[[ProblemAnswer, str], JobmgrError]] = MappingProxyType(
    {
        errors.InvalidRequest.code: lambda problem, _: _invalid(errors.InvalidRequest, problem),
        errors.DependencyCycle.code: lambda problem, _: _invalid(errors.DependencyCycle, problem),
        errors.JobNotFound.code: lambda _, subject: errors.JobNotFound(subject),
        errors.NotASimulation.code: lambda _, subject: errors.NotASimulation(subject),
        errors.ClusterUnavailable.code: lambda problem, subject: errors.ClusterUnavailable(
            subject, problem.detail, problem.last
        ),
        errors.UserNotFound.code: lambda _, subject: errors.UserNotFound(subject),
        errors.ApiTokenNotFound.code: lambda _, subject: errors.ApiTokenNotFound(subject),
        errors.SiteNotFound.code: lambda _, subject: errors.SiteNotFound(subject),
        **{kind.code: partial(_at_site, kind) for kind in _OF_SITES},
        errors.KeyReused.code: lambda problem, _: errors.KeyReused("", "", problem.field or ""),
        errors.JobExists.code: lambda _, subject: errors.JobExists(subject),
        errors.IllegalTransition.code: lambda _, subject: errors.IllegalTransition(subject, "", ""),
        errors.EventsGone.code: lambda problem, _: errors.EventsGone(
            "", epoch=problem.epoch or "", seq=problem.seq or 0
        ),
    }
)
