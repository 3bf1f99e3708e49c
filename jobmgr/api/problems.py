"""RFC 9457 problem documents: the one place where errors become answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from jobmgr.errors import (
    ClusterUnavailable,
    EventsGone,
    InvalidRequest,
    JobmgrError,
    KeyReused,
    SimulationExists,
)
from jobmgr.wire.answers import ProblemAnswer
from jobmgr.wire.translation import encode

MEDIA_TYPE = "application/problem+json"
MAX_DETAIL = 1000

# The status of each code; a code that is not here has that of its nearest ancestor class.
_STATUS: Mapping[str, int] = {
    "error": 500,
    "invalid_request": 422,
    "not_found": 404,
    "conflict": 409,
    "events_gone": 410,
    "access_denied": 403,
    "store_error": 503,
    "store_unavailable": 503,
    "executor_unavailable": 503,
    "cluster_unavailable": 503,
    "query_too_slow": 504,
    "wait_timeout": 504,
    "site_error": 502,
    "site_unreachable": 503,
    "site_silent": 504,
}
_HTTP_CODES: Mapping[int, tuple[str, str]] = {
    404: ("no_such_route", "there is nothing at {path}; /docs lists what there is"),
    405: ("method_not_allowed", "{method} is not possible at {path}"),
    413: ("body_too_large", "the body is larger than is accepted here"),
}


class Refusal(JobmgrError):
    """A request refused for what it is as HTTP: its headers, its body's form, its sender."""

    code = "refused"

    def __init__(
        self,
        status: int,
        refusal_code: str,
        detail: str,
        field: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.refusal_code = refusal_code
        self.field = field
        self.headers = headers or {}


def status_of(error: type[JobmgrError]) -> int:
    """The HTTP status that errors of this class are answered with."""
    codes = (ancestor.code for ancestor in error.__mro__ if issubclass(ancestor, JobmgrError))
    return next(_STATUS[code] for code in codes if code in _STATUS)


def describe(error: JobmgrError) -> ProblemAnswer:
    """The problem document of an error raised on purpose."""
    status = error.status if isinstance(error, Refusal) else status_of(type(error))
    if isinstance(error, Refusal):
        return _document(status, error.refusal_code, str(error), field=error.field)
    if isinstance(error, InvalidRequest | KeyReused | SimulationExists):
        return _document(status, error.code, str(error), field=error.field)
    if isinstance(error, EventsGone):
        return _document(status, error.code, str(error), epoch=error.epoch, seq=error.seq)
    if isinstance(error, ClusterUnavailable):
        return _document(status, error.code, str(error), last=error.last)
    return _document(status, error.code, str(error))


def from_error(error: JobmgrError) -> web.Response:
    """The answer to an error raised on purpose."""
    document = describe(error)
    if isinstance(error, Refusal):
        return _answer(document, error.headers)
    return _answer(document, {"Retry-After": "1"} if document.status == 503 else {})


def of_http(error: web.HTTPException, request: web.Request) -> Refusal:
    """What aiohttp found wrong, as an error of ours."""
    code, sentence = _HTTP_CODES.get(error.status, ("http_error", error.reason))
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    detail = sentence.format(path=request.path, method=request.method)
    return Refusal(error.status, code, detail, headers=headers)


def of_loss() -> Refusal:
    """What nobody reads: the client went away in the middle of its request, which is no error of the service."""
    return Refusal(400, "cut_off", "the connection ended before the request did")


def of_bug() -> Refusal:
    """An exception that nobody expected; what it was is for the log only."""
    return Refusal(500, "internal_error", "the service failed to answer this; its log says why")


def _document(
    status: int,
    code: str,
    detail: str,
    *,
    field: str = "",
    epoch: str | None = None,
    seq: int | None = None,
    last: dict[str, Any] | None = None,
) -> ProblemAnswer:
    return ProblemAnswer(
        type=f"urn:jobmgr:error:{code}",
        title=code.replace("_", " ").capitalize(),
        status=status,
        # What was sent can be quoted in the sentence: it may be long, and may hold what is no text.
        detail=_sayable(detail),
        code=code,
        field=_sayable(field) or None,
        epoch=epoch,
        seq=seq,
        last=last,
    )


def _answer(document: ProblemAnswer, headers: Mapping[str, str]) -> web.Response:
    return web.Response(
        body=encode(document), status=document.status, headers={"Content-Type": MEDIA_TYPE, **headers}
    )


def _sayable(text: str) -> str:
    short = text if len(text) <= MAX_DETAIL else f"{text[:MAX_DETAIL]}..."
    return short.encode(errors="backslashreplace").decode()
