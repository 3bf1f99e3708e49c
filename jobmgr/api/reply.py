"""Answers as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from jobmgr.wire.translation import encode

_JSON = {"Content-Type": "application/json"}


def reply(answer: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer whose body is `answer` as JSON."""
    return web.Response(
        body=encode(answer), status=status, headers=_JSON if headers is None else {**_JSON, **headers}
    )
