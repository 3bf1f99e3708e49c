"""Jobs as lines of JSON, with ids chosen here where needed, so that after a lost answer they can be looked up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from jobmgr.errors import InvalidRequest
from jobmgr.wire.mismatch import NOT_JSON
from jobmgr.wire.submission import JobSubmission, new_job_id

_PIECE_BYTES = 256 * 1024


class _Named(msgspec.Struct):
    """The fields that are looked at here; the others are the service's to judge."""

    job_id: str | msgspec.UnsetType | None = msgspec.UNSET
    key: str | msgspec.UnsetType | None = msgspec.UNSET


def encoded(jobs: Iterable[Mapping[str, Any] | JobSubmission]) -> list[bytes]:
    """The jobs as lines of JSON. Raises InvalidRequest for what JSON cannot hold."""
    return [encode(job, f"jobs[{index}]") for index, job in enumerate(jobs)]


def encode(values: Mapping[str, Any] | JobSubmission, where: str) -> bytes:
    """The job, or another body, as JSON. Raises InvalidRequest naming `where`."""
    try:
        return msgspec.json.encode(values)
    except UnicodeEncodeError as error:
        raise InvalidRequest(where, "holds bytes that are not UTF-8") from error
    except (TypeError, ValueError, msgspec.MsgspecError) as error:
        raise InvalidRequest(where, f"cannot be written as JSON: {error}") from error


def with_ids(lines: Iterable[bytes]) -> tuple[list[bytes], list[str]]:
    """The lines, with a random `job_id` where there was neither one nor a `key`, and all ids. What is no job stays.

    A job with a key has to be the same when it is submitted again. The text is kept, not decoded and written anew:
    so the service can refuse what is doubtful in it.
    """
    named, job_ids = [], []
    decoder = msgspec.json.Decoder(_Named)
    for line in lines:
        try:
            found = decoder.decode(line)
        except NOT_JSON:
            named.append(line)
            continue
        job_id = found.job_id
        if job_id is msgspec.UNSET and not found.key:
            job_id = new_job_id()
            rest = line.lstrip().removeprefix(b"{")
            comma = b"" if rest.lstrip().startswith(b"}") else b","
            line = b'{"job_id":"%b"%b%b' % (job_id.encode(), comma, rest)  # noqa: PLW2901
        named.append(line)
        if isinstance(job_id, str) and job_id:
            job_ids.append(job_id)
    return named, job_ids


async def pieces(
    lines: Sequence[bytes], on_progress: Callable[[int, int], None] | None
) -> AsyncIterator[bytes]:
    """The lines as the pieces of one request's body; `on_progress(sent, total)` counts lines."""
    piece = bytearray()
    for sent, line in enumerate(lines, 1):
        piece += line
        piece += b"\n"
        if len(piece) >= _PIECE_BYTES or sent == len(lines):
            yield bytes(piece)
            piece.clear()
            if on_progress is not None:
                on_progress(sent, len(lines))


def how_to_look(job_ids: Sequence[str]) -> str:
    """What to do when it is unknown whether these were stored."""
    if not job_ids:
        return "see `jobmgr ls`; a job with a `key` may just be submitted again"
    look = f"`jobmgr show {job_ids[0]}` finds the job if it was"
    return look if len(job_ids) == 1 else f"all or none of the {len(job_ids)} were stored: {look}"
