"""The limit of a page of jobs: encoding the same jobs from memory, by the product's own encoder."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import msgspec
import uvloop
from aiohttp import web

from benchmarks import handler
from jobmgr.domain.job import JobPage
from jobmgr.wire.answers import JobsAnswer
from jobmgr.wire.translation import encode, job_answer, to_page

PATH = "/api/v1/jobs"
_TIMES = 500


def encoding_ms(answer: bytes) -> float:
    """Processor time that the jobs of this page take from the store's values to JSON: the mean of many times."""
    page = _page(answer)
    before = time.process_time()
    for _ in range(_TIMES):
        _encoded(page)
    return 1000 * (time.process_time() - before) / _TIMES


@contextlib.contextmanager
def running(answer: bytes) -> Iterator[str]:
    """The URL of a handler that makes this answer anew for each request, in a process of its own."""
    with handler.running("benchmarks.encoder", answer) as url:
        yield url


def _page(answer: bytes) -> JobPage:
    known = msgspec.json.decode(answer, type=JobsAnswer)
    page = to_page(known)
    assert _encoded(page) == answer
    return page


def _encoded(page: JobPage) -> bytes:
    jobs = [job_answer(job) for job in page.jobs]
    return encode(JobsAnswer(jobs, page.next_cursor, page.position.epoch, page.position.seq))


def _main() -> None:
    page = _page(sys.stdin.buffer.read())

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=_encoded(page), content_type="application/json")

    uvloop.run(handler.serve("GET", PATH, serve))


if __name__ == "__main__":
    _main()
