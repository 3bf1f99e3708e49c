"""What a request's path names."""

from __future__ import annotations

from aiohttp import web

from jobmgr.errors import JobNotFound
from jobmgr.wire.submission import is_job_id


def job_id_of(request: web.Request) -> str:
    """The job id in the path. Raises JobNotFound for what cannot be one, so that it reaches no database."""
    job_id = request.match_info["job_id"]
    if not is_job_id(job_id):
        raise JobNotFound(job_id[:128])
    return job_id
