"""What a request's path names."""

from __future__ import annotations

import re

from aiohttp import web

from jobmgr.errors import JobNotFound
from jobmgr.wire.submission import JOB_ID

_JOB_ID = re.compile(JOB_ID.removesuffix("$"))


def job_id_of(request: web.Request) -> str:
    """The job id in the path. Raises JobNotFound for what cannot be one, so that it reaches no database."""
    job_id = request.match_info["job_id"]
    if _JOB_ID.fullmatch(job_id) is None:
        raise JobNotFound(job_id[:128])
    return job_id
