"""How these routes tell what is wrong: `success` false and a sentence, with 400 or 404."""

from __future__ import annotations

from aiohttp import web

from jobmgr.api import problems
from jobmgr.api.manner import Manner
from jobmgr.api.problems import Refusal
from jobmgr.api.reply import reply
from jobmgr.errors import JobmgrError
from jobmgr.wire.pyedb import PyedbProblem

_NOT_UNDERSTOOD = 400
# What pyedb had no other status for. The others mean something to who sends a request again, and to programs between.
_UNKNOWN = frozenset({409, 410, 422})


def answer(error: JobmgrError) -> web.Response:
    """The answer to an error raised on purpose."""
    document = problems.describe(error)
    headers = dict(error.headers) if isinstance(error, Refusal) else {}
    if document.status == 503:
        headers["Retry-After"] = "1"
    told = PyedbProblem(success=False, error=document.detail, code=document.code, field=document.field)
    return reply(told, _status(document.status), headers)


def _status(status: int) -> int:
    return _NOT_UNDERSTOOD if status in _UNKNOWN else status


def _status_of(error: type[JobmgrError]) -> int:
    return _status(problems.status_of(error))


MANNER = Manner("pyedb", answer, _status_of, PyedbProblem, "application/json")
