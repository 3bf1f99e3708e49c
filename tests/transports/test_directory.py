"""What holds for every run directory, whoever reads it: jobs may put anything there, and change it meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import FileMissing, InvalidRequest, SiteRefused, SiteSilent, SiteUnreachable
from jobmgr.transports.directory import MOST_LISTED, MOST_WRITTEN, RunDirectory, RunFile, Window
from jobmgr.transports.local import LocalTransport
from jobmgr.transports.local_directory import LocalDirectory
from jobmgr.transports.site_directory import READ_MAX_BYTES, SiteDirectories
from jobmgr.transports.transport import Transport
from tests.patience import eventually
from tests.transports.conftest import MakeServer
from tests.transports.proxy import Proxy
from tests.transports.sshd import SshServer

BYTES = bytes(range(256)) * 4
MEBIBYTE = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A run directory, whose runs are seen through a link, as where a disk was full."""
    (tmp_path / "disk" / "job" / "1").mkdir(parents=True)
    (tmp_path / "runs").symlink_to("disk")
    return tmp_path / "runs" / "job" / "1"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """What lies outside."""
    (tmp_path / "outside").mkdir()
    file = tmp_path / "outside" / "secret"
    file.write_text("secret")
    return file


@pytest_asyncio.fixture(params=["local", "commands", "ssh"])
async def directory(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[RunDirectory]:
    """It, seen straight, by commands of this machine, and by commands over SSH."""
    if request.param == "local":
        yield LocalDirectory(str(path))
        return
    transport: Transport = LocalTransport(os.environ)
    if request.param == "ssh":
        server = request.getfixturevalue("ssh_server")
        from jobmgr.transports.ssh.connection import Connection
        from jobmgr.transports.ssh.transport import SshTransport

        transport = SshTransport(Connection(server.host()))
    yield SiteDirectories("far", transport).directory(str(path))
    await transport.close()


async def window(directory: RunDirectory, path: str, offset: int = 0, limit: int = MEBIBYTE) -> Window:
    async with aclosing(await directory.open(path)) as file:
        return await file.read(offset, limit)


async def test_window_of_a_file(directory: RunDirectory, path: Path) -> None:
    (path / "log").write_bytes(BYTES)

    async with aclosing(await directory.open("log")) as file:
        windows = [
            await file.read(offset, limit)
            for offset, limit in (
                (0, MEBIBYTE),
                (10, 5),
                (1020, 100),
                (1024, 5),
                (2**63 - 1, 5),
                (-24, 100),
                (-24, 4),
                (-5000, 3),
                (0, 0),
            )
        ]

    assert windows == [
        Window(BYTES, 0, 1024),
        Window(BYTES[10:15], 10, 1024),
        Window(BYTES[1020:], 1020, 1024),
        Window(b"", 1024, 1024),
        Window(b"", 2**63 - 1, 1024),
        Window(BYTES[1000:], 1000, 1024),
        Window(BYTES[1000:1004], 1000, 1024),
        Window(BYTES[:3], 0, 1024),
        Window(b"", 0, 1024),
    ]


async def test_random_bytes_come_as_they_are(directory: RunDirectory, path: Path) -> None:
    data = os.urandom(READ_MAX_BYTES)
    (path / "log").write_bytes(data)

    assert (await window(directory, "log")).data == data


@pytest.mark.parametrize("name", ["-n", "a 'b' \"c\" $(d) \\n", "new\nline\n", "deep/er/file", "./x//y"])
async def test_any_name_is_read_and_listed(directory: RunDirectory, path: Path, name: str) -> None:
    file = path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"here")
    os.utime(file, (86_400, 86_400))

    (entry,) = await directory.listing()

    assert (await window(directory, name)).data == b"here"
    assert (entry.path, entry.size_bytes) == (str(Path(name)), 4)
    assert entry.modified_at == datetime(1970, 1, 2, tzinfo=UTC)


async def test_name_that_is_no_text_is_listed_as_far_as_it_is(directory: RunDirectory, path: Path) -> None:
    (path / "a\udcff").touch()

    assert [entry.path for entry in await directory.listing()] == ["a\N{REPLACEMENT CHARACTER}"]


async def test_listing_has_regular_files_only_sorted_by_path(
    directory: RunDirectory, path: Path, secret: Path
) -> None:
    (path / "b").touch()
    (path / "a").mkdir()
    (path / "a" / "z").touch()
    (path / "link").symlink_to(secret)
    (path / "tree").symlink_to(secret.parent)
    (path / "inner").symlink_to("b")
    os.mkfifo(path / "pipe")

    assert [entry.path for entry in await directory.listing()] == ["a/z", "b"]


async def test_listing_ends_somewhere(directory: RunDirectory, path: Path) -> None:
    for number in range(MOST_LISTED + 1):
        os.mknod(path / str(number))

    assert len(await directory.listing()) == MOST_LISTED


async def test_directory_that_is_not_there_is_empty(directory: RunDirectory, path: Path) -> None:
    shutil.rmtree(path)

    assert await directory.listing() == []
    with pytest.raises(FileMissing, match=r"no file 'stdout' in the run directory \(yet\)"):
        await window(directory, "stdout")


# What lies beside a project


@pytest.fixture
def folder(tmp_path: Path, path: Path) -> Path:
    """The folder of a project, seen through a link, and the control files of an attempt that began at 100 s."""
    control = tmp_path / "control" / "job" / "1"
    control.mkdir(parents=True)
    at(control / "gate", 100)
    (tmp_path / "projects").mkdir()
    (tmp_path / "linked").symlink_to("projects")
    return tmp_path / "linked"


def at(file: Path, modified_s: float) -> Path:
    """A file that was written then."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"written at {modified_s}")
    os.utime(file, (modified_s, modified_s))
    return file


async def names(directory: RunDirectory, folder: Path, beginning: str) -> list[str]:
    found = await directory.written(str(folder), beginning, ".log")
    return [f"{Path(file.folder).name}/{file.name}" + (" later" if file.is_later else "") for file in found]


async def test_what_was_written_since_an_attempt_began_is_told_newest_first(
    directory: RunDirectory, folder: Path, tmp_path: Path
) -> None:
    at(folder / "a.info.1" / "old.log", 99.5)
    at(folder / "a.info.1" / "at once.log", 100)
    at(folder / "a.info.2" / "first.log", 100.5)
    at(folder / "a.info.3" / "second.log", 101)
    at(folder / "a.info.3" / "deeper" / "third.log", 101)
    at(folder / "a.info.3" / "third.txt", 101)
    at(folder / "b.info.1" / "other.log", 101)
    at(folder / "a.info.log", 101)
    (folder / "a.info.4").symlink_to("b.info.1")
    (folder / "a.info.2" / "link.log").symlink_to("first.log")

    before = await names(directory, folder, "a.info")
    at(tmp_path / "control" / "job" / "1" / "exit", 100.5)
    after = await directory.written(str(folder), "a.info", ".log")

    assert before == ["a.info.3/second.log", "a.info.2/first.log", "a.info.1/at once.log"]
    assert [(file.name, file.is_later) for file in after] == [
        ("second.log", True),
        ("first.log", False),
        ("at once.log", False),
    ]
    assert [file.folder for file in after] == [
        str(tmp_path / "projects" / name) for name in ("a.info.3", "a.info.2", "a.info.1")
    ]
    async with aclosing(await directory.open_written(after[0])) as file:
        assert (await file.read(0, 100)).data == b"written at 101"


@pytest.mark.parametrize("name", ["[a]*?", "a b'c\"$(d)", "back\\slash", "new\nline", "-name"])
async def test_any_project_has_its_own_only(directory: RunDirectory, folder: Path, name: str) -> None:
    at(folder / f"{name}.info.1" / "a\nb.log", 101)
    at(folder / "a.info.1" / "other.log", 101)
    at(folder / "axx.info.1" / "other.log", 101)

    assert await names(directory, folder, f"{name}.info") == [f"{name}.info.1/a\nb.log"]


async def test_an_attempt_that_did_not_begin_has_written_nothing(
    directory: RunDirectory, folder: Path, tmp_path: Path
) -> None:
    at(folder / "a.info.1" / "some.log", 101)

    assert await names(directory, tmp_path / "nowhere", "a.info") == []
    (tmp_path / "control" / "job" / "1" / "gate").unlink()
    assert await names(directory, folder, "a.info") == []


async def test_what_is_written_is_told_up_to_a_number(directory: RunDirectory, folder: Path) -> None:
    for number in range(MOST_WRITTEN + 1):
        at(folder / "a.info" / f"{number}.log", 101 + number)

    found = await directory.written(str(folder), "a.info", ".log")

    assert [file.name for file in found] == [f"{number}.log" for number in range(MOST_WRITTEN, 0, -1)]


async def test_links_are_followed_inside(directory: RunDirectory, path: Path) -> None:
    (path / "deep").mkdir()
    (path / "deep" / "out.1").write_bytes(b"here")
    (path / "latest").symlink_to("deep/out.1")
    (path / "folder").symlink_to(path / "deep")

    assert (await window(directory, "latest")).data == b"here"
    assert (await window(directory, "folder/out.1")).data == b"here"


@pytest.mark.parametrize(
    "name", ["link", "far", "up", "tree/secret", "chain", "sibling", "2", "root/etc/passwd", "root/dev/zero"]
)
async def test_nothing_outside_is_read(directory: RunDirectory, path: Path, secret: Path, name: str) -> None:
    (path.parent / "12").mkdir()
    (path.parent / "12" / "file").write_text("of another attempt, whose name begins alike")
    (path / "link").symlink_to(secret)
    (path / "far").symlink_to("../../../outside/secret")
    (path / "up").symlink_to("../12/file")
    (path / "tree").symlink_to(secret.parent)
    (path / "chain").symlink_to("link")
    (path / "sibling").symlink_to(path.parent / "12" / "file")
    os.link(secret, path.parent / "2")
    (path / "2").symlink_to(path.parent / "2")
    (path / "root").symlink_to("/")

    with pytest.raises(FileMissing):
        await window(directory, name)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "..", "../1/log", "deep/../log", "deep/..", "a\0b"])
async def test_path_that_is_none_of_a_run_directory_is_refused(
    directory: RunDirectory, path: Path, name: str
) -> None:
    (path / "deep").mkdir()
    (path / "log").touch()

    with pytest.raises(InvalidRequest) as caught:
        await directory.open(name)

    assert caught.value.field == "path"


async def test_link_in_the_place_of_the_directory_leads_out(
    directory: RunDirectory, path: Path, secret: Path
) -> None:
    shutil.rmtree(path)
    os.symlink(secret.parent, path)

    with pytest.raises(FileMissing, match="leads out"):
        await window(directory, "secret")
    with pytest.raises(FileMissing, match="leads out"):
        await directory.listing()


async def test_link_in_the_place_of_a_jobs_directories_leads_out(directory: RunDirectory, path: Path) -> None:
    other = path.parent.parent / "other" / path.name
    other.mkdir(parents=True)
    (other / "secret").write_text("secret")
    path.parent.rename(path.parent.parent / "gone")
    path.parent.symlink_to("other")

    with pytest.raises(FileMissing, match="leads out"):
        await directory.listing()
    with pytest.raises(FileMissing, match="leads out"):
        await window(directory, "secret")


@pytest.mark.parametrize(
    "name", ["pipe", "folder", "loop", "nothing", "file/x", "x" * 300, "x/" * 3000 + "x"]
)
async def test_what_is_no_regular_file_is_missing_at_once(
    directory: RunDirectory, path: Path, name: str
) -> None:
    os.mkfifo(path / "pipe")
    (path / "folder").mkdir()
    (path / "loop").symlink_to("loop")
    (path / "file").touch()

    with pytest.raises(FileMissing):
        await window(directory, name)


async def test_file_that_was_replaced_is_not_mixed_with_the_new_one(
    directory: RunDirectory, path: Path
) -> None:
    (path / "log").write_bytes(b"old" * 10)
    (path / "new").write_bytes(b"new" * 10)
    async with aclosing(await directory.open("log")) as file:
        assert (await file.read(0, 3)).data == b"old"
        (path / "new").rename(path / "log")

        assert await rest(file) in (b"old", b"")


async def rest(file: RunFile) -> bytes:
    """What comes next; nothing if it is told that it is another file."""
    try:
        return (await file.read(3, 3)).data
    except FileMissing as error:
        assert "another file" in str(error)
        return b""


async def test_work_directory_that_is_not_mounted_says_nothing_of_a_file(tmp_path: Path) -> None:
    transport = LocalTransport(os.environ)
    directory = SiteDirectories("far", transport).directory(str(tmp_path / "gone" / "runs" / "job" / "1"))

    for reading in (directory.listing(), window(directory, "stdout")):
        with pytest.raises(SiteRefused, match="gone/runs"):
            await reading

    await transport.close()


class Gate:
    """A way that is open when the test says so, and counts who stands before it."""

    def __init__(self, transport: Transport) -> None:
        self.host = transport.host
        self.waiting = self.most = 0
        self.opened = asyncio.Event()
        self._transport = transport

    async def run(self, command: Command, timeout_s: float) -> Answer:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.opened.wait()
        self.waiting -= 1
        return await self._transport.run(command, timeout_s)

    async def close(self) -> None:
        await self._transport.close()


async def test_few_read_at_once_and_nobody_waits_for_ever(path: Path) -> None:
    (path / "log").write_bytes(b"here")
    gate = Gate(LocalTransport(os.environ))
    patient = SiteDirectories("far", gate, turn_within_s=60).directory(str(path))
    hasty = SiteDirectories("far", gate, turn_within_s=0.01).directory(str(path))

    readings = [asyncio.create_task(window(patient, "log")) for _ in range(6)]
    await eventually(lambda: gate.waiting == 2)
    others = [asyncio.create_task(window(hasty, "log")) for _ in range(3)]
    with pytest.raises(SiteUnreachable, match="too many read files of this site now; try again later"):
        await others[2]
    gate.opened.set()

    assert [(await reading).data for reading in [*readings, *others[:2]]] == [b"here"] * 8
    assert gate.most == 4
    await gate.close()


async def test_reader_who_goes_away_leaves_its_turn(path: Path) -> None:
    (path / "log").write_bytes(b"here")
    gate = Gate(LocalTransport(os.environ))
    directory = SiteDirectories("far", gate, turn_within_s=60).directory(str(path))
    gone = [asyncio.create_task(window(directory, "log")) for _ in range(4)]
    await eventually(lambda: gate.waiting == 2)

    for reading in gone:
        reading.cancel()
    await asyncio.wait(gone)
    gate.opened.set()

    assert (await window(directory, "log")).data == b"here"
    await gate.close()


@pytest.mark.parametrize("patience_s", [1.0, 0.0001], ids=["when asked", "before it can be asked"])
async def test_site_that_falls_silent_is_told_so(
    ssh_server: SshServer, path: Path, patience_s: float
) -> None:
    from jobmgr.transports.ssh.connection import Connection
    from jobmgr.transports.ssh.transport import SshTransport

    (path / "log").write_bytes(b"here")
    async with Proxy(ssh_server.port) as proxy:
        ssh_server.trust_at(proxy.port)
        transport = SshTransport(Connection(ssh_server.host(port=proxy.port)))
        # Only who waits in vain waits for so short a time: with the machine busy an answer may take longer.
        hasty = SiteDirectories("far", transport, answers_within_s=patience_s).directory(str(path))
        patient = SiteDirectories("far", transport, answers_within_s=60.0).directory(str(path))
        assert (await window(patient, "log")).data == b"here"
        proxy.silence_after(300)

        with pytest.raises((SiteSilent, SiteUnreachable), match=f"within {patience_s:g} s"):
            await window(hasty, "log")

        proxy.restore()
        assert (await window(patient, "log")).data == b"here"
        await transport.close()


async def test_site_that_cannot_be_reached_is_told_with_what_to_do(
    make_server: MakeServer, path: Path
) -> None:
    from jobmgr.transports.ssh.connection import Connection
    from jobmgr.transports.ssh.transport import SshTransport

    server = make_server()
    server.stop()
    transport = SshTransport(Connection(server.host()))

    with pytest.raises(SiteUnreachable, match=r"Connect call failed.*; `jobmgr site test far` tries"):
        await SiteDirectories("far", transport).directory(str(path)).listing()

    await transport.close()
