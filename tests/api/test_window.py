"""Pieces of files."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobmgr.api.window import Portion, Range, read_from, read_range, read_tail
from jobmgr.transports.directory import Window
from jobmgr.transports.local_directory import LocalDirectory, LocalFile

MEBIBYTE = 1024 * 1024


class Sluggish:
    """A file of which no more than `at_most` bytes come at once."""

    def __init__(self, file: LocalFile, at_most: int) -> None:
        self.name = file.name
        self._file = file
        self._at_most = at_most

    async def read(self, offset: int, limit_bytes: int) -> Window:
        return await self._file.read(offset, min(limit_bytes, self._at_most))

    async def aclose(self) -> None:
        await self._file.aclose()


async def opened(folder: Path, data: bytes, at_most: int = MEBIBYTE) -> Sluggish:
    (folder / "log").write_bytes(data)
    return Sluggish(await LocalDirectory(str(folder)).open("log"), at_most)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.sampled_from([b"", b"x", b"line", b"y" * 70_000])),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from([9_999, MEBIBYTE]),
)
def test_tail_is_the_last_lines(
    tmp_path: Path, lines: list[bytes], count: int, ends: bool, at_most: int
) -> None:
    data = b"\n".join(lines) + (b"\n" if ends else b"")

    async def tail() -> Portion:
        async with aclosing(await opened(tmp_path, data, at_most)) as file:
            return await read_tail(file, count, 10 * MEBIBYTE)

    portion = asyncio.run(tail())

    tail_bytes = b"".join(data.splitlines(keepends=True)[-count:])
    assert (portion.first.offset, portion.first.size_bytes) == (len(data) - len(tail_bytes), len(data))
    assert portion.length == len(tail_bytes)
    assert bool(portion.first.data) == bool(tail_bytes)
    assert tail_bytes.startswith(portion.first.data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300), st.integers(1, 300), st.integers(1, 300))
def test_window_is_a_slice(tmp_path: Path, data: bytes, offset: int, limit: int, at_most: int) -> None:
    async def window() -> Portion:
        async with aclosing(await opened(tmp_path, data, at_most)) as file:
            return await read_from(file, offset, limit)

    portion = asyncio.run(window())

    assert portion.first.data == data[offset : offset + limit]
    assert portion.length == len(portion.first.data)


async def test_range_is_cut_to_the_limit(tmp_path: Path) -> None:
    async with aclosing(await opened(tmp_path, b"0123456789")) as file:
        window = (await read_range(file, Range(2, None), 3)).first

    assert (window.data, window.offset, window.size_bytes) == (b"234", 2, 10)


async def test_file_that_is_cut_short_ends_its_window(tmp_path: Path) -> None:
    async with aclosing(await opened(tmp_path, b"0123456789", at_most=4)) as file:
        first = await file.read(0, 4)
        (tmp_path / "log").write_bytes(b"01")
        window = (await read_from(file, 0, 10)).first

    assert (first.size_bytes, window.data, window.size_bytes) == (10, b"01", 2)
