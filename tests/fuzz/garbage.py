"""What nobody should send: values of the wrong kind, texts that are nearly right, and bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

NASTY = (
    "", "\0", "\n", "\r\n", "\t", "\x1b[2J", "\x9b31m", "\u202e", "\u2028", "\udcff", "\udfff", "²", "٣", "9" * 5000,
    "-1", "1e999", "NaN", "true", "null", "..", "../..", "/", "\\", "'", '"', "`", "$(x)", "%00", "%", "a:b", "[", "]",
    "{", "}", "*", "jm-1", "0" * 400, "x" * 3000, "2026-13-45T99:99:99Z", "2026-01-01T00:00:00", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
)  # fmt: skip
NUMBERS = (
    0,
    -1,
    1,
    255,
    2**31,
    2**63,
    -(2**63),
    10**400,
    1e308,
    -0.0,
    float("inf"),
    float("nan"),
    True,
    False,
)
DEEP = (b"[" * 50_000, b'{"a":' * 50_000, b"[" * 50_000 + b"]" * 50_000)

texts = st.sampled_from(NASTY) | st.text(max_size=20)
scalars = st.none() | st.sampled_from(NUMBERS) | st.integers() | st.floats() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoilt(draw: st.DrawFn, *whole: Any) -> Any:
    """One of these values of JSON, of which up to three parts are missing, of another name, or something else."""
    value = copy.deepcopy(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 3))):
        value = _spoil(draw, value)
    return value


def _spoil(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        name = draw(st.sampled_from(sorted(value)))
        match draw(st.integers(0, 4)):
            case 0:
                del value[name]
            case 1:
                value[draw(texts)] = value.pop(name)
            case _:
                value[name] = _spoil(draw, value[name])
        return value
    if isinstance(value, list) and value and draw(st.integers(0, 5)):
        index = draw(st.integers(0, len(value) - 1))
        value[index] = _spoil(draw, value[index])
        return value
    return draw(values)


@st.composite
def broken(draw: st.DrawFn, whole: Sequence[bytes]) -> bytes:
    """One of these texts with a piece cut out, doubled or replaced; or anything."""
    text = draw(st.sampled_from([*whole, b""]))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 60)))
    piece = draw(
        st.binary(max_size=12)
        | texts.map(lambda one: one.encode(errors="surrogatepass"))
        | st.just(text[start:end] * 3)
        | st.sampled_from(DEEP)
    )
    return text[:start] + piece + (text[end:] if draw(st.booleans()) else b"")


def json_bytes(*whole: Any) -> st.SearchStrategy[bytes]:
    """JSON, nearly like these values, or nearly JSON."""
    encoded = spoilt(*whole).map(lambda value: json.dumps(value).encode())
    return encoded | broken([json.dumps(value).encode() for value in whole])
