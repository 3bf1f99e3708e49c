"""The header `Idempotency-Key`: a change with it is made once, however often it is sent."""

from __future__ import annotations

import hashlib

from aiohttp import web

from jobmgr.api.keys import CALLER, MANAGER
from jobmgr.domain.once import Once
from jobmgr.errors import InvalidRequest
from jobmgr.manager.manager import Manager

HEADER = "Idempotency-Key"
MAX_LENGTH = 255
_DIGEST: web.RequestKey[hashlib._Hash] = web.RequestKey("digest")


def begin(request: web.Request) -> None:
    """Look for a key before the body is read: what is read belongs to what must be the same. Raises InvalidRequest."""
    keys = request.headers.getall(HEADER, [])
    if not keys:
        return
    if len(keys) > 1:
        raise InvalidRequest(HEADER, "is given twice")
    if not 0 < len(keys[0]) <= MAX_LENGTH or not (keys[0].isascii() and keys[0].isprintable()):
        raise InvalidRequest(HEADER, f"must be 1 to {MAX_LENGTH} printable ASCII characters")
    request[_DIGEST] = _begun(request.method, request.path_qs, request.content_type)


def fingerprint(method: str, path: str, body: bytes) -> str:
    """What must be the same of a request with JSON: for who makes its change without sending it."""
    digest = _begun(method, path, "application/json")
    digest.update(body)
    return digest.hexdigest()


def _begun(method: str, path: str, content_type: str) -> hashlib._Hash:
    return hashlib.sha256(f"{method} {path} {content_type}\n".encode(errors="surrogateescape"))


def add(request: web.Request, data: bytes) -> None:
    """Take `data`, the next part of the body, into what must be the same."""
    if _DIGEST in request:
        request[_DIGEST].update(data)


def manager_of(request: web.Request) -> Manager:
    """The manager for whoever asks, and for the change that `request` asks for, whose body was read before."""
    manager = request.app[MANAGER].acting(request[CALLER])
    if _DIGEST not in request:
        return manager
    keeper = request[CALLER].principal.keeper_of_keys
    return manager.under(Once(keeper, request.headers[HEADER], request[_DIGEST].hexdigest()))
