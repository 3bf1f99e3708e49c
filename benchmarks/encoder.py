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
from jobmgr.domain.job import EventPosition, JobPage
from jobmgr.wire.answers import JobsAnswer
from jobmgr.wire.translation import encode, page_answer, to_job

PATH = "/api/v1/jobs"
_TIMES = 500


def encoding_ms(answer: bytes) -> float:
    """Processor time that the jobs of this page take from the store's values to JSON: the mean of many times."""
    page = _page(answer)
    before = time.process_time()
    for _ in range(_TIMES):
        encode(page_answer(page))
    return 1000 * (time.process_time() - before) / _TIMES


@contextlib.contextmanager
def running(answer: bytes) -> Iterator[str]:
    """The URL of a handler that makes this answer anew for each request, in a process of its own."""
    with handler.running("benchmarks.encoder", answer) as url:
        yield url


def _page(answer: bytes) -> JobPage:
    known = msgspec.json.decode(answer, type=JobsAnswer)
    jobs = [to_job(job) for job in known.jobs]
    page = JobPage(jobs, known.next_cursor, EventPosition(known.epoch, known.seq))
    assert encode(page_answer(page)) == answer
    return page


def _main() -> None:
    page = _page(sys.stdin.buffer.read())

    async def serve(_request: web.Request) -> web.Response:
        return web.Response(body=encode(page_answer(page)), content_type="application/json")

    uvloop.run(handler.serve("GET", PATH, serve))


if __name__ == "__main__":
    _main()
