"""Files of a site, by both ways."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from jobmgr.errors import FileMissing, InvalidRequest, SiteRefused, SiteSilent
from jobmgr.transports.files import READ_MAX_BYTES, read_bytes, write
from jobmgr.transports.transport import Transport
from tests.patience import eventually
from tests.transports.conftest import MakeServer
from tests.transports.proxy import Proxy


async def test_part_of_a_file_is_read_as_bytes(transport: Transport, tmp_path: Path) -> None:
    everything = bytes(range(256)) * 3
    file = tmp_path / "a 'file' with $(odd) name\n"
    file.write_bytes(everything)

    assert await read_bytes(transport, str(file), 0, 10_000) == everything
    assert await read_bytes(transport, str(file), 250, 20) == everything[250:270]
    assert await read_bytes(transport, str(file), len(everything), 20) == b""
    assert await read_bytes(transport, str(file), len(everything) + 50, 20) == b""


async def test_long_file_is_read_in_parts(transport: Transport, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * (READ_MAX_BYTES + 5))

    first = await read_bytes(transport, str(file), 0, 2**40)
    second = await read_bytes(transport, str(file), len(first), 2**40)

    assert (len(first), len(second)) == (READ_MAX_BYTES, 5)


async def test_file_that_is_not_there_is_missing(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="none"):
        await read_bytes(transport, str(tmp_path / "none"), 0, 10)


async def test_what_is_no_regular_file_is_not_waited_for(transport: Transport, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(FileMissing):
            await read_bytes(transport, str(path), 0, 10)


async def test_file_is_written_whole_with_its_mode(transport: Transport, tmp_path: Path) -> None:
    file = tmp_path / "a 'file' with $(odd) name\n"
    text = "ä\udcff'$x\0\n" * 1000

    await write(transport, str(file), text, 0o640)

    assert file.read_bytes() == text.encode("utf-8", "surrogateescape")
    assert file.stat().st_mode & 0o7777 == 0o640
    assert os.listdir(tmp_path) == [file.name]


async def test_file_is_replaced_and_not_written_over(transport: Transport, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    with file.open() as reader:
        await write(transport, str(file), "", 0o600)

        assert (reader.read(), file.read_text()) == ("old", "")


async def test_site_says_why_it_does_not_write(transport: Transport, tmp_path: Path) -> None:
    with pytest.raises(SiteRefused, match="none"):
        await write(transport, str(tmp_path / "none" / "file"), "text", 0o600)
    with pytest.raises(SiteRefused, match="Is a directory"):
        await write(transport, str(tmp_path), "text", 0o600)

    assert os.listdir(tmp_path) == []


async def test_path_has_to_be_absolute(transport: Transport) -> None:
    with pytest.raises(InvalidRequest, match="not absolute"):
        await write(transport, "-f", "text", 0o600)


async def test_connection_that_breaks_in_a_write_leaves_the_old_file(
    make_server: MakeServer, tmp_path: Path
) -> None:
    from jobmgr.transports.ssh.transport import SshTransport

    server = make_server()
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "file"
    file.write_text("old")
    async with Proxy(server.port) as proxy:
        server.known_hosts.write_text(
            server.known_hosts.read_text().replace(str(server.port), str(proxy.port))
        )
        transport = SshTransport(server.host(port=proxy.port))
        await write(transport, str(file), "older", 0o600)

        proxy.silence_after(1_000_000)
        writing = asyncio.create_task(write(transport, str(file), "new" * 1_000_000, 0o600))
        await eventually(lambda: len(os.listdir(folder)) == 2)
        proxy.cut()

        with pytest.raises(SiteSilent, match="connection broke"):
            await writing
        await eventually(lambda: os.listdir(folder) == ["file"])
        assert file.read_text() == "older"
        await write(transport, str(file), "new", 0o600)
        assert file.read_text() == "new"
        await transport.close()
