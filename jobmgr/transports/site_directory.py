"""Run directories at a site, read by commands: many sites do not offer SFTP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import PurePosixPath
from typing import TypeVar

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.domain.job import FileEntry
from jobmgr.errors import FileMissing, SiteRefused, SiteSilent, SiteUnreachable
from jobmgr.transports.directory import (
    MOST_LISTED,
    MOST_WRITTEN,
    Window,
    Written,
    checked,
    leads_out,
    missing,
    moment,
)
from jobmgr.transports.transport import Transport
from jobmgr.wire.text import readable

T = TypeVar("T")
READ_MAX_BYTES = 1024**2
# Of the commands that a connection takes at once most are left to whoever hands in and watches jobs.
_READERS = 2
_TURN_WITHIN_S = 5.0
_ANSWERS_WITHIN_S = 10.0
_LISTED_MAX_BYTES = 8 * 1024**2
# As large as the largest offset of a file.
_COUNT = re.compile(r"[0-9]{1,19}")
_SPECIAL = re.compile(r"[\\*?\[]")
_TEXT = resources.files("jobmgr.transports").joinpath("site_directory.sh").read_text()


class SiteDirectories:
    """The run directories of one site; readers take turns, and nobody waits for long."""

    def __init__(
        self,
        site: str,
        transport: Transport,
        *,
        turn_within_s: float = _TURN_WITHIN_S,
        answers_within_s: float = _ANSWERS_WITHIN_S,
    ) -> None:
        self._site = site
        self._transport = transport
        self._turn_within_s = turn_within_s
        self._answers_within_s = answers_within_s
        self._turns = asyncio.Semaphore(_READERS)

    def directory(self, path: str) -> SiteDirectory:
        """The run directory `path` (`<runs>/<job id>/<number>`, absolute) there."""
        return SiteDirectory(self, path)

    async def ask(self, read: Callable[[str], T], verb: str, directory: str, path: str, *words: object) -> T:
        """What the script says about `path`, as `read` (which raises ValueError) makes it out.

        Raises as RunFile.read does.
        """
        arguments = (verb, directory, *map(str, words))
        await self._turn()
        try:
            answer = await self._transport.run(
                Command(("sh", "-c", _TEXT, "sh", *arguments)), self._answers_within_s
            )
        except SiteUnreachable as error:
            remedy = f"`jobmgr site test {self._site}` tries the way there step by step"
            raise type(error)(error.host, f"{error.reason}; {remedy}") from error
        finally:
            self._turns.release()
        self._judge(path, answer)
        try:
            return read(answer.stdout)
        except ValueError as error:
            said = f"{path!r} cannot be read: not understood is {answer.stdout[:100]!r}"
            raise SiteRefused(self._transport.host, said) from error

    async def _turn(self) -> None:
        try:
            async with asyncio.timeout(self._turn_within_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise SiteUnreachable(
                self._transport.host, "too many read files of this site now; try again later"
            ) from error

    def _judge(self, path: str, answer: Answer) -> None:
        words = answer.stderr.strip()
        if answer.exit_code is None:
            raise SiteSilent(self._transport.host, f"{path!r} was not read ({words}); try again later")
        if answer.exit_code in _NO_FILE:
            raise _NO_FILE[answer.exit_code](path, words)
        if answer.exit_code != 0:
            raise SiteRefused(
                self._transport.host, f"{path!r} cannot be read: {words or f'code {answer.exit_code}'}"
            )


# By the exit code of the script.
_NO_FILE: Mapping[int, Callable[[str, str], FileMissing]] = {
    44: lambda path, _: missing(path),
    45: lambda path, words: FileMissing(f"{path!r} cannot be read: {words}"),
    47: lambda path, _: leads_out(path),
    48: lambda path, _: FileMissing(f"{path!r} is another file than before; read it anew"),
}


class SiteDirectory:
    """One of them. What there is is looked at when it is read."""

    def __init__(self, site: SiteDirectories, path: str) -> None:
        self._site = site
        self._path = path

    async def listing(self) -> Sequence[FileEntry]:
        """As the contract says; of very long paths fewer."""
        return await self._site.ask(_listing, "list", self._path, ".", MOST_LISTED, _LISTED_MAX_BYTES)

    async def open(self, path: str) -> SiteFile:
        """As the contract says; nothing is asked yet."""
        return SiteFile(self._site, self._path, checked(path))

    async def written(self, folder: str, beginning: str, ending: str) -> Sequence[Written]:
        """As the contract says."""
        # As fnmatch has it, where a backslash takes its meaning from what follows.
        pattern = "*/*".join(_SPECIAL.sub(r"\\\g<0>", part) for part in (beginning, ending))
        wanted = (folder, pattern, MOST_WRITTEN, _LISTED_MAX_BYTES)
        return await self._site.ask(_all_written, "written", self._path, folder, *wanted)

    async def open_written(self, file: Written) -> SiteFile:
        """As the contract says; nothing is asked yet."""
        return await SiteDirectory(self._site, file.folder).open(file.name)


class SiteFile:
    """A file there. It is opened for each reading, and known again by its inode."""

    def __init__(self, site: SiteDirectories, directory: str, path: str) -> None:
        self.name = PurePosixPath(path).name
        self._site = site
        self._directory = directory
        self._path = path
        self._identity = ""

    async def read(self, offset: int, limit_bytes: int) -> Window:
        """As the contract says; at most READ_MAX_BYTES. FileMissing also says that another file lies there now."""
        wanted = (self._path, offset, min(limit_bytes, READ_MAX_BYTES), self._identity)
        window, self._identity = await self._site.ask(_window, "read", self._directory, self._path, *wanted)
        return window

    async def aclose(self) -> None:
        """As the contract says."""


def _listing(told: str) -> list[FileEntry]:
    # What comes after the last newline was cut off.
    return sorted(map(_entry, told.split("\n")[:-1]), key=lambda entry: entry.path)


def _entry(line: str) -> FileEntry:
    size_bytes, modified, path = line.split(" ", 2)
    shown = readable(path.replace("\0", "\n"))
    return FileEntry(shown, _count(size_bytes), moment(float(modified)))


def _all_written(told: str) -> list[Written]:
    head, *lines = told.split("\n")[:-1] or ["  "]
    began, ended, root = head.split(" ", 2)
    return [
        _written(root, line, float(ended or "inf"))
        for line in lines
        # A file system's clock ticks a few milliseconds at a time, in which a run may begin and write.
        if float(line.partition(" ")[0]) >= float(began)
    ]


def _written(root: str, line: str, ended: float) -> Written:
    modified, path = line.split(" ", 1)
    place = PurePosixPath(root.replace("\0", "\n"), path.replace("\0", "\n"))
    return Written(str(place.parent), place.name, moment(float(modified)), float(modified) > ended)


def _window(told: str) -> tuple[Window, str]:
    """The piece, and the identity of its file."""
    head, _, data = told.partition("\n")
    size_bytes, identity, start = head.split()
    return Window(data.encode("utf-8", "surrogateescape"), _count(start), _count(size_bytes)), identity


def _count(text: str) -> int:
    if _COUNT.fullmatch(text) is None:
        raise ValueError(f"{text[:40]!r} is no count")
    return int(text)
