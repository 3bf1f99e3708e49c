"""JSON to structs, strictly; every way in which it can be wrong becomes an error that says where."""

from __future__ import annotations

import codecs
import json
import re
from itertools import islice
from typing import TypeVar

import msgspec

from jobmgr.api.problems import Refusal
from jobmgr.errors import InvalidRequest
from jobmgr.wire.mismatch import NOT_JSON, invalid
from jobmgr.wire.submission import SecretAsked

T = TypeVar("T")

MAX_DEPTH = 100
# More than a job within its limits can have: its properties' bytes allow half as many, its dependencies the rest.
MAX_CONTAINERS = 50_000
# Decoding more than this takes so long that it belongs in a thread.
LARGE_BYTES = 256 * 1024
# All strings of a JSON text in order, each with the colon that makes it a key.
_STRINGS = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"\s*(:?)', re.DOTALL)
# Every opening bracket outside of strings, also of what is no JSON: a string that never ends is taken whole, or each
# quote in it would be tried as a beginning.
_OPENINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|(?P<bracket>[\[{])', re.DOTALL)
_TOKENS = re.compile(rb'"(?P<text>[^"\\]*(?:\\.[^"\\]*)*)"\s*(?P<colon>:?)|(?P<bracket>[\[\]{}])', re.DOTALL)


def decode(decoder: msgspec.json.Decoder[T], raw: bytes, at: str = "") -> T:
    """The struct in `raw`. `at` is where it stands in the request (`jobs[3].`).

    Raises Refusal (400) for what is not JSON, InvalidRequest for what does not fit, naming the field.
    """
    _check_count(raw, at)
    value = decode_types(decoder, raw, at)
    check_keys(raw, at)
    return value


def decode_types(decoder: msgspec.json.Decoder[T], raw: bytes, at: str = "") -> T:
    """As `decode`, but of a key that stands twice the last value counts."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        wrong = invalid(error, decoder.type, at)
        raise _with_name(wrong, raw, f"{at}env") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(raw, error, at) from None
    except RecursionError:
        raise _too_deep(at) from None


def check_keys(raw: bytes, at: str) -> None:
    """Refuse a key that stands twice in one object: which of the two was meant is a guess.

    The exact walk is slow, so it is left to texts in which a key is repeated at all, is escaped, or that
    could be nested too deep.
    """
    keys = _keys(raw)
    suspicious = len(set(keys)) < len(keys) or raw.count(b"[") + raw.count(b"{") > MAX_DEPTH
    if suspicious or any(b"\\" in key for key in keys):
        _walk(raw, at)


def _with_name(wrong: InvalidRequest, raw: bytes, at: str) -> InvalidRequest:
    # Of a mapping msgspec does not say at which key it failed.
    if not f"{wrong.field}.".startswith(f"{at}."):
        return wrong
    try:
        env = msgspec.json.decode(raw).get("env")
    except NOT_JSON:
        # What comes after the first mistake nobody has looked at.
        return wrong
    for name, value in env.items() if isinstance(env, dict) else ():
        if not _is_variable(value):
            shown = name if name.isidentifier() else repr(name)
            return InvalidRequest(f"{at}.{shown[:100]}{wrong.field[len(at) :]}", wrong.message)
    return wrong


def _is_variable(value: object) -> bool:
    try:
        msgspec.convert(value, str | SecretAsked)
    except msgspec.ValidationError:
        return False
    return True


def _keys(raw: bytes) -> list[bytes]:
    if len(raw) <= LARGE_BYTES:
        return [text for text, colon in _STRINGS.findall(raw) if colon]
    # One search through all of a large text would keep the other threads from running.
    return [found[1] for found in _STRINGS.finditer(raw) if found[2]]


def _check_count(raw: bytes, at: str) -> None:
    # Decoding millions of empty lists stops all threads for a second; strings may hold what brackets they like.
    if raw.count(b"[") + raw.count(b"{") <= MAX_CONTAINERS:
        return
    opening = (found for found in _OPENINGS.finditer(raw) if found["bracket"])
    if next(islice(opening, MAX_CONTAINERS, None), None) is not None:
        raise InvalidRequest(at.rstrip("."), f"holds more than {MAX_CONTAINERS} lists and objects")


def _malformed(raw: bytes, error: msgspec.DecodeError | UnicodeDecodeError, at: str) -> Refusal:
    where = at.rstrip(".")
    subject = where or "the body"
    if not raw.strip():
        return Refusal(400, "malformed_body", f"{subject} is empty; JSON is expected", where)
    if isinstance(error, UnicodeDecodeError):
        return Refusal(400, "malformed_body", f"{subject} is not UTF-8: {error.reason}", where)
    if raw.startswith(codecs.BOM_UTF8):
        detail = f"{subject} begins with a byte order mark; save it as UTF-8 without one"
        return Refusal(400, "malformed_body", detail, where)
    hint = "; each line holds one whole object" if where else ""
    return Refusal(400, "malformed_body", f"{subject} is not valid JSON: {error}{hint}", where)


def _too_deep(at: str) -> Refusal:
    where = at.rstrip(".")
    detail = f"{where or 'the body'} is nested deeper than {MAX_DEPTH} levels"
    return Refusal(400, "malformed_body", detail, where)


def _walk(raw: bytes, at: str) -> None:
    open_objects: list[set[str]] = []
    for token in _TOKENS.finditer(raw):
        bracket = token["bracket"]
        if bracket is None:
            if token["colon"]:
                _add_key(open_objects[-1], token["text"], at)
        elif bracket in b"[{":
            open_objects.append(set())
            if len(open_objects) > MAX_DEPTH:
                raise _too_deep(at)
        else:
            open_objects.pop()


def _add_key(keys: set[str], text: bytes, at: str) -> None:
    key = json.loads(b'"' + text + b'"')
    if key in keys:
        raise InvalidRequest((at + key[:100]) if at else key[:100], "stands twice in one object")
    keys.add(key)
