"""What attacks run into, and how to do without each: every attack is tried with its guard and without it.

An attack is a test that asserts that it failed:

    @rests_on(HOST)
    async def test_a_page_with_a_rebound_name_is_turned_away(api: Api) -> None: ...

`conftest.py` runs it twice, and in the second run the guard is taken away: there the attack has to succeed, which is
an assertion of the test that does not hold. So an attack that was refused for another reason, or by chance, is found.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from aiohttp import web
from rich.text import Text

from jobmgr.api.doorway import Doorway
from jobmgr.api.protocol import Protocol
from jobmgr.api.server import Server
from jobmgr.domain.access import Sight
from jobmgr.executors.messages import Message, pack
from jobmgr.store import attempts, listing, prepared
from jobmgr.store.tables import Attempt, Job

MARK = "rests_on"


@dataclass(frozen=True, slots=True)
class Guard:
    """One guard: `place` is where it is looked up (`package.module.name` or `….Class.name`), `instead` stands there
    while it is away."""

    name: str
    place: str
    instead: object

    def remove(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take it away until the test is over. Raises AttributeError or ImportError if it is not there any more."""
        monkeypatch.setattr(self.place, self.instead)


def rests_on(*guards: Guard) -> pytest.MarkDecorator:
    """The mark of an attack that succeeds without all of `guards`; several marks are tried one by one."""
    assert guards
    return getattr(pytest.mark, MARK)(*guards)  # type: ignore[no-any-return]


def _same(text: str, *_rest: Any, **_named: Any) -> str:
    """What cleans, quotes or checks a text, without doing so."""
    return text


def _nothing(*_arguments: Any, **_named: Any) -> None:
    """What raises if something is wrong, without looking."""


def _never(*_arguments: Any, **_named: Any) -> bool:
    return False


_send = prepared._send


def _pasted(connection: sa.Connection, text: str, values: tuple[Any, ...]) -> Any:
    """A statement that reads, with the texts among its values between quotes."""
    if not text.lstrip().startswith(("SELECT", "WITH")):
        return _send(connection, text, values)
    left, kept = iter(values), []

    def paste(match: re.Match[str]) -> str:
        value = values[int(match[1]) - 1] if match[1] else next(left)
        if isinstance(value, str):
            return f"'{value}'"
        kept.append(value)
        return f"${len(kept)}" if match[1] else "?"

    return _send(connection, re.sub(r"\?|\$(\d+)", paste, text), tuple(kept))


def _unescaped(pattern: str, dialect: str) -> str:
    return pattern if dialect == "sqlite" else pattern.replace("*", "%")


def _by_a_shell(message: Message) -> bytes:
    if message["op"] == "start":
        message = {**message, "command": ["sh", "-c", " ".join(message["command"])]}
    return pack(message)


_NEVER = re.compile(r"(?P<colour>(?!))(?!)")


# --- The text that reaches shells and batch scripts.
QUOTED_WORD = Guard("a quoted word", "jobmgr.dialects.quoting.word", _same)
SHELL_NAMES = Guard("checked names of variables", "jobmgr.dialects.quoting._NAME", re.compile(r"(?s).*"))
PLAIN_REQUEST = Guard("plain words of a request", "jobmgr.dialects.request.directive", _same)
PLAIN_DIRECTIVE = Guard("plain directives", "jobmgr.dialects.quoting.directive", _same)


def _between_quotes(text: str, _field: str) -> str:
    return f'"{text}"'


BSUB_ARGUMENT = Guard("one argument of bsub", "jobmgr.dialects.lsf_order.bsub_argument", _between_quotes)
WINDOWS_ARGUMENT = Guard(
    "one argument on Windows", "jobmgr.dialects.windows_hpc.windows_argument", _between_quotes
)
XML_TEXT = Guard("text in XML", "jobmgr.dialects.windows_hpc_order.ET._escape_attrib", _same)


async def _always(*_arguments: Any) -> bool:
    return True


async def _never_known(*_arguments: Any) -> bool:
    return False


def _everything(*_arguments: Any, **_named: Any) -> bool:
    return True


# --- Who may do what.
OWN_USER = Guard("whose a loopback connection is", "jobmgr.api.guard.Guard._is_own_user", _always)
SAME_TOKEN = Guard("tokens that are compared", "jobmgr.api.guard.hmac.compare_digest", _everything)
ONE_DECISION = Guard("the one decision", "jobmgr.domain.access.may", _everything)
CONFINED_LISTS = Guard("confined lists", "jobmgr.domain.access.sight", lambda _principal: Sight())
CONFINED_EVENTS = Guard("confined events", "jobmgr.domain.access.Hearing.hears", _everything)

THIS_MATE = Guard("events of this mate", "jobmgr.domain.access.Hearing._is_of_an_earlier", _never)


def _alike(_shown: str) -> str:
    return "the same of all"


# --- Users and API tokens.
HASHED_SECRET = Guard("the hash of a secret", "jobmgr.domain.user.digest", _alike)
EXPIRY = Guard("expiry", "jobmgr.manager.identity._is_valid", _everything)
NOTICED_CHANGES = Guard("changes that are noticed", "jobmgr.manager.identity.Identity.notice", _nothing)
SAME_CALLER = Guard("whose a session is", "jobmgr.api.sockets.Sockets._may_go_on", _everything)
CURRENT_LISTENERS = Guard(
    "listeners that are looked at again", "jobmgr.manager.core.Core.is_current", _always
)


def _live_or_not(connection: sa.Connection, job_id: str, number: int) -> attempts.Live | None:
    rows = sa.select(Attempt.token, Job.user).join(Job, Job.id == Attempt.job)
    row = connection.execute(rows.where(Job.job_id == job_id, Attempt.number == number)).one_or_none()
    return None if row is None else attempts.Live(row.token, row.user)


JOB_TOKEN_CODE = Guard("the code of a job's token", "jobmgr.manager.job_tokens.compare_digest", _everything)
LIVE = Guard("a look whether the attempt is live", "jobmgr.store.attempts.live", _live_or_not)
ID_OF_ATTEMPT = Guard(
    "which attempt's a token is",
    "jobmgr.manager.job_tokens._id",
    lambda job_id, number, _attempt_token: f"jmj_{job_id}.{number}",
)
OWN_TOKENS = Guard("whose an API token is", "jobmgr.manager.users.Users._governs", instead=True)
OWNER_FILE = Guard("the owner's file that is looked at", "jobmgr.api.owner_token._check", _nothing)
PLAIN_CELL = Guard("cells without formulas", "jobmgr.wire.spreadsheet._FORMULA", re.compile(r"(?!)"))
# --- What browsers do for pages.
HOST = Guard("the name that was looked up", "jobmgr.api.browser.Browsers._check_host", _nothing)
ORIGIN = Guard("where a page is from", "jobmgr.api.browser._is_own", _everything)
REFERER = Guard("where a link is from", "jobmgr.api.browser.Browsers._check_referer", _nothing)
RELATION = Guard("how two sites are related", "jobmgr.api.browser._check_relation", _nothing)


def _allow_all(_browsers: Any, request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "*")


NO_WILDCARD = Guard("no answers for all sites", "jobmgr.api.browser.Browsers.allow", _allow_all)
JSON_ONLY = Guard("changes as JSON", "jobmgr.api.guard._check_content_type", _nothing)
NO_PLAIN_POSTS = Guard("no plain posts of browsers", "jobmgr.api.guard._is_of_a_browser", _never)
HARDENED = Guard("headers of answers", "jobmgr.api.app.harden", _nothing)
HARDENED_ERRORS = Guard("headers of what is no answer", "jobmgr.api.protocol.harden", _nothing)


# --- Who is taken for the service's own user.
async def _ours(*_arguments: Any) -> int:
    return os.getuid()


def _us(*_arguments: Any) -> int:
    return os.getuid()


_make_guard = Server._guard


def _trusting(server: Any, port: int) -> Any:
    server._uid = os.getuid()
    return _make_guard(server, port)


FORWARDED = Guard("no trust through proxies", "jobmgr.api.guard._is_forwarded", _never)
PEER = Guard("the owner of a connection", "jobmgr.api.peer.Owners.of", _ours)
UNIX_PEER = Guard("the owner of a Unix connection", "jobmgr.api.peer.unix_owner", _us)
REQUIRED_TOKEN = Guard("tokens that are required", "jobmgr.api.server.Server._guard", _trusting)
SOCKET_MODE = Guard("the mode of a socket", "jobmgr.api.socket_file.os.fchmod", _nothing)


# --- Floods, and those who are slow on purpose.
def _patient(doorway: Any) -> web.RequestHandler:
    return web.RequestHandler(doorway._server, loop=asyncio.get_running_loop(), **doorway._options)


async def _all_of_it(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_any():
        yield piece


async def _look_in_line(self: Any, simulation: Any, *_: Any) -> None:
    await self._read(listing.spec, simulation.job.job_id, self.sight)


_MANY = 1000

PATIENCE = Guard("limits of connections", "jobmgr.api.doorway.Doorway._protocol", _patient)
BODY_IN_TIME = Guard("a body in time", "jobmgr.api.body._pieces", _all_of_it)
PIECES = Guard("pieces of logs", "jobmgr.api.window.CHUNK_BYTES", 1 << 30)
RATE = Guard("requests per token", "jobmgr.api.throttle.Throttle.check_rate", _nothing)
TURNS = Guard("turns of who reads", "jobmgr.manager.turns.AT_ONCE", _MANY)
OWN_LINE = Guard(
    "shared looks that wait in nobody's line", "jobmgr.manager.progress.Progresses._look", _look_in_line
)
WAITING = Guard("an end of the line", "jobmgr.api.throttle.Throttle._check_waiting", _nothing)
SHARE = Guard("a share of the connections", "jobmgr.api.doorway._oldest_of_most", _nothing)
OWN_SHARE = Guard(
    "connections of the service's own user", "jobmgr.domain.access.Principal.shows_nothing", property(_never)
)
GUESSES = Guard("wrong tokens per address", "jobmgr.api.throttle.Throttle.check_guess", _nothing)

TOLD = Guard("refusals that the log tells", "jobmgr.api.refusals.Refusals.note", _nothing)
FEW_LINES = Guard("few lines for many refusals", "jobmgr.api.digest.Digest.may_tell", _everything)
PATH_ONLY = Guard(
    "paths without queries in the log",
    "jobmgr.api.refusals._what",
    lambda request: f"{request.method} {request.path_qs}",
)
FEW_LOOKS = Guard("one look for many guesses", "jobmgr.manager.register.PAUSE_S", 0.0)
KNOWN_TOKENS = Guard("tokens that are no guess", "jobmgr.manager.core.Core.is_known", _never_known)


# --- What is left of others, and what is said of what was sent.
PUT_ASIDE = Guard("run directories put aside", "jobmgr.executors.gate._put_aside", _nothing)
OWN_LOG = Guard(
    "logs by when their job was made", "jobmgr.manager.progress._key", lambda job: (job.job_id, None)
)
UNQUOTED_LOG = Guard(
    "no quotes of requests in the log", "jobmgr.api.nonsense.unquoted", lambda error: error.message
)
UNQUOTED_ANSWER = Guard(
    "no quotes of requests in answers", "jobmgr.api.protocol.unquoted", lambda error: error.message
)

# --- What is too large, or too many.
_NO_END = 2**40


def _opened_with(**options: Any) -> Callable[[Doorway], Protocol]:
    """Makes the protocols of connections with other options."""

    def protocol(doorway: Doorway) -> Protocol:
        return Protocol(doorway._server, stall_s=doorway._limits.stall_s, **{**doorway._options, **options})

    return protocol


BODY_SIZE = Guard("the size of a body", "jobmgr.api.body.MAX_BODY_BYTES", _NO_END)
LINES_SIZE = Guard("the size of a body of lines", "jobmgr.api.body.MAX_LINES_BYTES", _NO_END)
COMPRESSED = Guard("bodies as they are", "jobmgr.api.guard._check_content_encoding", _nothing)
UNPACKED = Guard("no unpacking", "jobmgr.api.doorway.Doorway._protocol", _opened_with(auto_decompress=True))
ADDRESS_SIZE = Guard("the size of an address", "jobmgr.api.server._MAX_ADDRESS_BYTES", 10**6)
HEAD_SIZE = Guard(
    "the size of a head",
    "jobmgr.api.doorway.Doorway._protocol",
    _opened_with(max_field_size=10**6, max_headers=10**6),
)
CONNECTIONS = Guard("so many connections", "jobmgr.api.doorway.Doorway.__call__", Doorway._protocol)
READ_OR_GONE = Guard("messages that are read", "jobmgr.api.listener.Listener.is_behind", instead=False)


FEW_PACKETS = Guard("packets per token", "jobmgr.api.throttle.Throttle.check_packet", _nothing)
READ_ANSWERS = Guard("answers that are read", "jobmgr.api.inbox.Inbox._let_read", _always)
UNDERSTOOD = Guard("packets that are understood", "jobmgr.api.inbox.understand", _nothing)


# --- Files of run directories.
CHECKED_PATH = Guard("checked paths", "jobmgr.transports.local_directory.checked", _same)
CONFINED = Guard("files of the run directory only", "jobmgr.transports.local_directory._lies_in", _everything)
OPENED = Guard(
    "what was opened counts", "jobmgr.transports.local_directory._opened", lambda _file, path: path
)

LOOKED_AT = Guard("a look before it is opened", "jobmgr.transports.local_directory.Path.is_file", _everything)
REGULAR = Guard("regular files only", "jobmgr.transports.local_directory.stat.S_ISREG", _everything)

# --- What a job may write where others rely on it.
WHOLE_DECISION = Guard("whole decisions of gates", "jobmgr.executors.gate._is_decision", _everything)
WHOLE_HOLDER = Guard("whole holders in gates", "jobmgr.executors.gate._is_holder", _everything)
WHOLE_RECORD = Guard("whole exit records", "jobmgr.executors.gate.is_exit", _everything)
WHOLE_NOTE = Guard("whole notes", "jobmgr.executors.gate.is_note", _everything)
NO_LINKS = Guard(
    "control files that are no links", "jobmgr.executors.gate._SAFE", os.O_CLOEXEC | os.O_NONBLOCK
)


def _warden_with(change: str) -> str:
    """What a warden runs, which forks the keepers, with this change."""
    return (
        "import os, sys; sys.path.append(sys.argv.pop(1));"
        f"from jobmgr.executors import messages, process, warden; {change}; warden.main()"
    )


# --- What keepers and services tell each other. They are processes of their own.
PEER_OF_HOLDERS = Guard(
    "whose a connection to a holder is",
    "jobmgr.executors.crew._WARDEN_CODE",
    _warden_with("process.peer_uid = lambda _connection: os.getuid()"),
)
WHOLE_MESSAGES = Guard(
    "whole messages",
    "jobmgr.executors.crew._WARDEN_CODE",
    _warden_with("messages._is_whole = lambda _message: True"),
)

# --- The way of a job to its process.
ARGUMENT_LIST = Guard("a list of arguments", "jobmgr.executors.links.pack", _by_a_shell)
ENVIRONMENT_NAMES = Guard("checked variables", "jobmgr.wire.submission._check_env_name", _nothing)
NO_NULS = Guard("no NUL in arguments", "jobmgr.wire.submission.check_argument", _nothing)

# --- What reads text that somebody else wrote: databases, logs, terminals, spreadsheets, browsers.
BOUND_VALUES = Guard("bound values", "jobmgr.store.prepared._send", _pasted)
PLAIN_PATTERN = Guard("patterns with one wildcard", "jobmgr.store.selection._name", _unescaped)
PLAIN_NAMES = Guard("names of one line", "jobmgr.wire.submission.check_text", _same)
LOG_LINES = Guard("log records of one line", "jobmgr.cli.serve.OneLine", logging.Formatter)
CLEAN_TEXT = Guard("cleaned text", "jobmgr.cli.output._CONTROLS", _NEVER)
CLEAN_LOGS = Guard("cleaned logs of jobs", "jobmgr.cli.output._CONTROLS_IN_LOGS", _NEVER)
COLOURS_ONLY = Guard(
    "colours and nothing like them",
    "jobmgr.cli.output._CONTROLS_IN_LOGS",
    re.compile("(?P<colour>\x1b\\[[^a-zA-Z]*[a-zA-Z])"),
)
PLAIN_CELLS = Guard(
    "cells without markup", "jobmgr.cli.table.cell", lambda text, _style="": Text.from_markup(text)
)
ESCAPED_PAGE = Guard("an escaped page", "jobmgr.api.page.escape", _same)
QUOTED_FILE_NAME = Guard(
    "a quoted file name", "jobmgr.api.logs.quote", lambda name, **_named: os.fsdecode(name)
)
