"""The directories of attempts at a site, reached over its transport: many attempts in one command.

Nothing that is read here decides by being absent: a gate that cannot be seen may be on its way.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources

from jobmgr.dialects.answers import number, printed
from jobmgr.dialects.dialect import Answer, Command, NotUnderstood
from jobmgr.dialects.holder import GATE
from jobmgr.dialects.quoting import word, words
from jobmgr.errors import OtherDirectory, SiteUnreachable
from jobmgr.executors import transcript
from jobmgr.executors.gate import Content, is_exit, is_site_gate
from jobmgr.executors.transcript import Heard, NoPlace, NotPlaced
from jobmgr.transports.transport import Transport

_TEXT = GATE + resources.files("jobmgr.executors").joinpath("place.sh").read_text()
_LOOK_TIMEOUT_S = 60.0
# Of so many a slow file system tells in time, and a transport takes the answer.
_AT_ONCE = 2000
# What the site's own shell says if it could store nothing, and did not go on.
_TROUBLE = "jobmgr-place: "
_STRANGER = f"{_TROUBLE}stranger"
_NOT_THERE = "/control is not there"
_TABS = 5
# No place begins like this.
_COMPLAINT = "! "
_FILES = 3
_NO_INDEX = "-"
_NOW = "now"
# Said instead of files that are missing in a run directory which is missing itself.
_AWAY = "away"
_SCRIPT = "script"
_JOB_TOKEN = "job-token"  # noqa: S105 -- a file


@dataclass(frozen=True, slots=True)
class Files:
    """What the control directory of an attempt says. `note` is a record that its holder wrote and did not link, if
    that was asked for.

    `garbled` names files that are there and are not what a holder writes: nothing starts past them, and what ran they
    do not tell. `name` is that of the submission that the attempt was handed in with, `index` its element; not told
    where nothing was handed in. `complaint` is why the gate could not be voided, if it was to be, in the site's words.
    """

    token: str = ""
    gate: Content | None = None
    record: Content | None = None
    note: Content | None = None
    garbled: str = ""
    name: str = ""
    index: int | None = None
    complaint: str = ""

    @property
    def is_decided(self) -> bool:
        """Whether a run was there, or somebody made sure that there is none."""
        return self.gate is not None or self.record is not None or bool(self.garbled)


NOTHING_SEEN: Mapping[str, Files] = {}


@dataclass(frozen=True, slots=True)
class Placed:
    """An attempt whose directories are to be there: its place, its token, and as what it is handed in.

    `former` is the name of what it was a part of, if that is given up for certain; `job_token` what its job may show
    to the service, empty if it cannot reach it.
    """

    place: str
    token: str
    name: str
    index: int | None = None
    former: str = ""
    job_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Stock:
    """What has to lie at the site before a scheduler is asked for one parcel.

    `home` is the directory of the script, and of `elements`, which it reads, each in a file with its index; `cwd`
    where the submitting command is run. Texts are not empty.
    """

    attempts: tuple[Placed, ...]
    home: str
    cwd: str
    script: str
    elements: tuple[str, ...] = ()


class Place:
    """The work directory of a site; `work_id` is the name that its file `id` has to say, empty if that is not known.

    `trouble` is why it is not known to be the right one, in a sentence. Whatever is asked of another one raises
    OtherDirectory, and does nothing. `is_missed` since it was not reached, or not there, until it answers again.
    """

    def __init__(self, transport: Transport, root: str, work_id: str = "") -> None:
        self._transport = transport
        self._work_id = work_id
        self.root = root
        self.trouble = f"its work directory {root} was not looked at yet"
        self.is_missed = asyncio.Event()

    def control(self, place: str) -> str:
        """The control directory of an attempt (`job/number`)."""
        return f"{self.root}/control/{place}"

    def run(self, place: str) -> str:
        """The run directory of an attempt."""
        return f"{self.root}/runs/{place}"

    def array(self, token: str) -> str:
        """The directory of an array, where its script and elements lie. No job's id begins with a dot."""
        return self.control(f".arrays/{token}")

    def job_token(self, place: str) -> str:
        """Where the token of an attempt's job lies."""
        return f"{self.control(place)}/{_JOB_TOKEN}"

    def script(self, home: str) -> str:
        """Where the script of an attempt or an array lies, in its directory."""
        return f"{home}/{_SCRIPT}"

    async def make_roots(self) -> str:
        """Make the directories that all attempts lie in; answers the name of this one. Raises SiteUnreachable."""
        return await self._named("roots")

    async def recognise(self, work_id: str) -> str:
        """Look whether it is the one of this name, and insist on that from now on; answers its name.

        Empty: no name is stored yet, and as long as none was insisted on a directory that has none gets one. Raises
        SiteUnreachable.
        """
        self._work_id = work_id or self._work_id
        try:
            found = await self._named("name")
        except SiteUnreachable as error:
            self.trouble = str(error)
            raise
        self.trouble = (
            "" if self._work_id else f"the name of its work directory {self.root} is not stored yet"
        )
        return found

    async def knock(self) -> None:
        """Look whether it is there, and do nothing else. Raises SiteUnreachable if it was not reached."""
        await self._run("look", [], "")

    async def _named(self, verb: str) -> str:
        answer = await self._run(verb, [os.urandom(16).hex()], "")
        if answer.exit_code == 0 and (found := answer.stdout.strip()):
            return found
        said = answer.stderr.strip() or "no answer"
        raise SiteUnreachable(self._transport.host, f"the work directory {self.root}: {said}")

    async def submit(
        self, parcels: Sequence[tuple[Stock, Command]], within_s: int, timeout_s: float
    ) -> Sequence[Heard]:
        """Store what is not there yet, and run the commands that hand it in, one after the other; what became of each.

        The first that was not taken is the last for which a scheduler was asked, and none is begun later than
        `within_s` after the first. Raises SiteUnreachable if nothing was run, InvalidRequest for what is no text.
        """
        # Ends what is read, too: half of it, after a connection broke, must not be handed in.
        mark = os.urandom(16).hex()
        heads = "".join(self._head(stock, mark) for stock, _ in parcels)
        files = "".join(self._files(stock, mark) for stock, _ in parcels)
        arguments = [mark, str(within_s), *(_call(command) for _, command in parcels)]
        answer = await self._run("submit", arguments, f"{heads}{mark}\n{files}{mark}\n", timeout_s)
        trouble = [line for line in answer.stderr.splitlines() if line.startswith(_TROUBLE)]
        if not trouble:
            return transcript.read(answer, len(parcels))
        kind, _, rest = trouble[0].removeprefix(_TROUBLE).partition(" ")
        if kind == "missing":
            return [NoPlace(f"{rest}; if it is not to be mounted, `jobmgr site test` makes it")] * len(
                parcels
            )
        return [NotPlaced(answer.stderr.replace(_TROUBLE, "").strip())] * len(parcels)

    async def look(
        self, places: Iterable[str], seen: Mapping[str, Files] = NOTHING_SEEN
    ) -> Mapping[str, Files]:
        """What the control directories say. Raises SiteUnreachable.

        Of those in `seen` only what may be new is read: a gate, or after a gate a record.
        """
        lines = [(place, _news(seen.get(place))) for place in places]
        told = await self._told("look", lines, optional=seen)
        return {place: told.get(place) or seen[place] for place, _ in lines}

    async def look_closely(self, places: Iterable[str]) -> Mapping[str, Files]:
        """What they say, with what holders did not link. Raises SiteUnreachable."""
        return await self._told("examine", [(place, _NOW) for place in places])

    async def void(self, attempts: Iterable[tuple[str, str]]) -> Mapping[str, Files]:
        """Void the gates of these attempts (place, token) that are not decided; what they say then.

        Raises SiteUnreachable.
        """
        return await self._told("void", [(*attempt, os.urandom(8).hex()) for attempt in attempts])

    async def settle(self, attempts: Iterable[tuple[str, str]]) -> Mapping[str, Files]:
        """Make what dead holders noted (place, nonce) their records. Raises SiteUnreachable."""
        return await self._told("settle", list(attempts))

    async def missing(self, wanted: Sequence[tuple[str, Sequence[str]]]) -> Sequence[tuple[str, ...] | None]:
        """Of each attempt (place, names of files) those that are not there; None if its run directory is not.

        Raises SiteUnreachable.
        """
        told: list[tuple[str, ...] | None] = []
        for start in range(0, len(wanted), _AT_ONCE):
            told += await self._missing_at_once(wanted[start : start + _AT_ONCE])
        return told

    async def _missing_at_once(
        self, wanted: Sequence[tuple[str, Sequence[str]]]
    ) -> Sequence[tuple[str, ...] | None]:
        lines = (line for place, names in wanted for line in (f"at {place}", *map(_name_line, names)))
        answer = await self._run("missing", [], "".join(f"{line}\n" for line in lines))
        try:
            return read_missing([names for _, names in wanted], printed(answer, "the shell there"))
        except NotUnderstood as error:
            raise SiteUnreachable(self._transport.host, str(error)) from error

    def _head(self, stock: Stock, mark: str) -> str:
        lines = "".join(map(_told_line, stock.attempts))
        return f"{lines}{mark} {self._below(stock.home)} {self._below(stock.cwd)}\n"

    def _files(self, stock: Stock, mark: str) -> str:
        home = self._below(stock.home)
        files = [
            *((f"control/{one.place}", _JOB_TOKEN, one.job_token) for one in stock.attempts if one.job_token),
            *((home, str(index), text) for index, text in enumerate(stock.elements)),
            (home, _SCRIPT, stock.script),
        ]
        return "".join(f"{mark} {where} {name}\n{_whole_lines(text)}" for where, name, text in files)

    def _below(self, directory: str) -> str:
        return directory.removeprefix(f"{self.root}/")

    async def _told(
        self, verb: str, lines: Sequence[tuple[str, ...]], optional: Container[str] = ()
    ) -> Mapping[str, Files]:
        told: dict[str, Files] = {}
        for start in range(0, len(lines), _AT_ONCE):
            told |= await self._told_at_once(verb, lines[start : start + _AT_ONCE], optional)
        return told

    async def _told_at_once(
        self, verb: str, lines: Sequence[tuple[str, ...]], optional: Container[str]
    ) -> Mapping[str, Files]:
        answer = await self._run(verb, [], "".join(f"{' '.join(line)}\n" for line in lines))
        # Not splitlines(): what a job wrote into a file may hold what Python takes for the end of a line.
        said = answer.stdout.split("\n")
        told = dict(read(line) for line in said if line.count("\t") >= _TABS and not _is_complaint(line))
        for place, why in (line.split(" ", 2)[1:] for line in said if _is_complaint(line)):
            if place in told:
                told[place] = replace(told[place], complaint=why or "it is not said why")
        missing = [line[0] for line in lines if line[0] not in told and line[0] not in optional]
        if answer.exit_code != 0 or missing:
            why = answer.stderr.strip() or "it did not answer for all attempts"
            raise SiteUnreachable(self._transport.host, f"the control directories below {self.root}: {why}")
        return told

    async def _run(
        self, verb: str, arguments: Sequence[str], stdin: str, timeout_s: float = _LOOK_TIMEOUT_S
    ) -> Answer:
        command = Command(("sh", "-c", _TEXT, "sh", verb, self.root, self._work_id, *arguments), stdin)
        try:
            answer = await self._transport.run(command, timeout_s)
        except SiteUnreachable:
            self.is_missed.set()
            raise
        if _STRANGER in answer.stderr or _NOT_THERE in answer.stderr:
            self.is_missed.set()
        elif answer.exit_code is not None:
            self.is_missed.clear()
        for line in answer.stderr.splitlines():
            if line.startswith(_STRANGER):
                found = line.removeprefix(_STRANGER).strip()
                error = OtherDirectory(self._transport.host, self._mistaken(found))
                self.trouble = str(error)
                raise error
        return answer

    def _mistaken(self, found: str) -> str:
        wanted = f"the work directory {self._work_id} of this site"
        if found:
            return f"{self.root} is another directory ({found}) than {wanted}; mount that one there"
        again = f"`echo {self._work_id} >{word(self.root)}/id`"
        return (
            f"{self.root} has no file `id` that says it is {wanted}; mount that one there, "
            f"or, if it is there and only lost that file, write it again: {again}"
        )


def _is_complaint(line: str) -> bool:
    """Whether it says why a gate could not be voided: mark, place, words."""
    return line.startswith(_COMPLAINT) and line.count(" ") > 1


def _news(seen: Files | None) -> str:
    """When to read the files again of which this was seen."""
    if seen is None:
        return _NOW
    return "gate" if seen.gate is None else "exit"


def _told_line(one: Placed) -> str:
    index = _NO_INDEX if one.index is None else one.index
    return f"{one.place} {one.token} {one.former or _NO_INDEX} {one.name} {index}\n"


def _call(command: Command) -> str:
    """Text that runs it in the place of the shell that reads this; what is text for a shell needs no other one."""
    match command.argv:
        case ("sh", "-c", text, _, *arguments):
            return f"set -- {words(arguments)}\n{text}"
        case argv:
            return f"exec {words(argv)}"


def _whole_lines(text: str) -> str:
    return text if text.endswith("\n") else f"{text}\n"


def _name_line(name: str) -> str:
    """A file's name on one line, as `%b` of printf(1) reads it."""
    return "is " + name.replace("\\", "\\\\").replace("\n", "\\n")


def read_missing(wanted: Sequence[Sequence[str]], text: str) -> list[tuple[str, ...] | None]:
    """Of each of the `wanted` names those that are missing, as `missing` says. Raises NotUnderstood."""
    lines = text.splitlines()
    if len(lines) != len(wanted):
        raise NotUnderstood("it did not answer for all attempts")
    return [_read_missing(names, line) for names, line in zip(wanted, lines, strict=True)]


def _read_missing(names: Sequence[str], line: str) -> tuple[str, ...] | None:
    words = line.split()[1:]
    if _AWAY in words:
        return None
    indices = [index for word in words if (index := number(word)) is not None and index < len(names)]
    if len(indices) < len(words):
        raise NotUnderstood(f"not which files are missing: {line[:200]!r}")
    return tuple(names[index] for index in indices)


def read(line: str) -> tuple[str, Files]:
    """Which attempt a line of `look` is about, and what it says; the line has five tabs.

    If it has more they are in files, of which then cannot be told which is which.
    """
    place, token, handed_in, *contents = line.split("\t")
    name, _, index = handed_in.partition(" ")
    if len(contents) != _FILES:
        return place, Files(garbled="gate and exit")
    decided, ended, noted = contents
    decision, record, note = (_content(text, token) for text in (decided, ended, noted))
    files = Files(
        token,
        decision if decision is not None and is_site_gate(decision) else None,
        record if record is not None and is_exit(record) else None,
        note if note is not None and is_exit(note) else None,
        name=name,
        index=number(index),
    )
    spoilt = [
        name
        for name, text, content in (("gate", decided, files.gate), ("exit", ended, files.record))
        if text and content is None
    ]
    return place, replace(files, garbled=" and ".join(spoilt))


def _content(text: str, token: str) -> Content | None:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and content.get("token") == token else None
