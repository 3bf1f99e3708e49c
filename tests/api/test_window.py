"""Pieces of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobmgr.api.window import Range, open_regular, read_from, read_range, read_tail
from jobmgr.errors import FileMissing

MEBIBYTE = 1024 * 1024


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([b"", b"x", b"line", b"y" * 70_000])), st.integers(1, 12), st.booleans())
def test_tail_is_the_last_lines(tmp_path: Path, lines: list[bytes], count: int, ends: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ends else b"")
    path = tmp_path / "log"
    path.write_bytes(data)

    window = read_tail(path, count, 10 * MEBIBYTE)

    assert window.data == b"".join(data.splitlines(keepends=True)[-count:])
    assert (window.offset, window.size_bytes) == (len(data) - len(window.data), len(data))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 300), st.integers(1, 300))
def test_window_is_a_slice(tmp_path: Path, data: bytes, offset: int, limit: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(data)

    assert read_from(path, offset, limit).data == data[offset : offset + limit]


def test_range_is_cut_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789")

    window = read_range(path, Range(2, None), 3)

    assert (window.data, window.offset, window.size_bytes) == (b"234", 2, 10)


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "link"])
def test_what_is_no_regular_file_is_missing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    match kind:
        case "directory":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to("/etc/passwd")

    with pytest.raises(FileMissing):
        open_regular(path)
