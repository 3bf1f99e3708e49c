"""The control directory of an attempt: its token, its gate and its exit record.

A gate or record is written under a private name and linked, so it is never overwritten and never half
written; whoever finds his nonce in it wrote it. No fsync (half a millisecond each): after a power cut the
boot id in the gate says that its holder is gone.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

from jobmgr import fault

VERSION = 1
RUN: Final = "run"
VOID: Final = "void"

Content = dict[str, Any]

DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_ID = "/id"
_GATE = "/gate"
_EXIT = "/exit"
_EXIT_BYTES = 4096
# What every exit record says, and what those of sites say besides.
_OF_EXIT = frozenset(
    {
        "token",
        "exit_code",
        "signal",
        "error",
        "ended_by",
        "started_at",
        "ended_at",
        "cpu_s",
        "peak_memory_bytes",
    }
    | {"leftovers"}
)
_OF_SITES = ("times", "signals")
# A job may have put a link, a FIFO or a device in a file's place: none is followed, waited for or read.
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_OF_NO_FILE = frozenset(
    {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR}
)  # What opening one so may answer.


class ControlFileGarbled(ValueError):
    """A control file is torn, not ours or no regular file.

    It decides nothing; `path` names it for the person who looks.
    """

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"{path} is not a readable control file ({why}); it decides nothing, look at it by hand"
        )
        self.path = path


class OtherToken(ValueError):
    """The directory belongs to another attempt: the database is older than the work directory."""

    def __init__(self, control: str, found: str) -> None:
        super().__init__(f"{control} was made for another attempt (token {found})")
        self.control = control


def make_roots(work_dir: str) -> str:
    """Make the directories that all attempts lie in, and the name of this work directory; answers the name.

    Raises ControlFileGarbled, OSError.
    """
    for name, mode in (("control", 0o700), ("runs", 0o777)):
        os.makedirs(f"{work_dir}/{name}", mode, exist_ok=True)
    private = f"{work_dir}{_ID}.{os.urandom(8).hex()}"
    _write(private, os.urandom(16).hex().encode(), os.O_CREAT | os.O_EXCL)
    with contextlib.suppress(FileExistsError):
        os.link(private, work_dir + _ID)
    os.unlink(private)
    return _read(work_dir + _ID).decode("ascii", "replace")


def work_id(work_dir: str) -> str | None:
    """The name of a work directory; None if it is not there, or nothing that can be read."""
    try:
        return _read(work_dir + _ID).decode("ascii", "replace")
    except (OSError, ControlFileGarbled):
        return None


def make(control: str, token: str) -> None:
    """Make the control directory with the token in it; made already for the same attempt is fine.

    The directory of all control directories must be there: where it is missing (not mounted, moved) a new one
    would decide nothing. Raises OtherToken, ControlFileGarbled, and OSError if it cannot be made.
    """
    if not _is_made(control, token):
        _name(control, token)


def make_with_run(control: str, run: str, token: str) -> None:
    """Make the control directory as `make` does, and the run directory, where the job's own files go.

    What lies there already, left by a job of this id that was deleted, is put aside: it may be another user's.
    """
    if _is_made(control, token):
        _make_directory(run, 0o777)
        return
    if not _make_directory(run, 0o777):
        _put_aside(run)
        _make_directory(run, 0o777)
    # Named last: whoever finds the name also finds a run directory that is this attempt's.
    _name(control, token)


def _put_aside(run: str) -> None:
    os.rename(run, f"{run}.{os.urandom(8).hex()}")


def _is_made(control: str, token: str) -> bool:
    """Whether the directory was made for this attempt; makes one without a token if there is none."""
    if not _make_directory(control, 0o700):
        with contextlib.suppress(FileNotFoundError):
            check_token(control, token)
            return True
        # Its maker died before the token was written, so nothing can have started here.
    fault.reach("control.made")
    return False


def _name(control: str, token: str) -> None:
    _write(control + "/token", token.encode(), os.O_CREAT)
    fault.reach("control.named")


def check_token(control: str, token: str) -> None:
    """Raise OtherToken unless the directory was made for this attempt; FileNotFoundError if for none.

    Raises ControlFileGarbled, OSError.
    """
    try:
        found = _read(control + "/token").decode("ascii", "replace")
    except FileNotFoundError:
        found = ""
    if found == token:
        return
    if found:
        raise OtherToken(control, found)
    raise FileNotFoundError(errno.ENOENT, "no token in the control directory", control)


def check_content(control: str, content: Content, token: str) -> None:
    """Raise OtherToken unless this gate or record is about this attempt."""
    if content["token"] != token:
        raise OtherToken(control, content["token"])


def pass_gate(control: str, token: str, nonce: str, holder: Content) -> bool:
    """Open the gate for this holder; False if somebody else decided before. Only then may the command start.

    Raises OtherToken, ControlFileGarbled, OSError (nothing was decided).
    """
    check_token(control, token)
    return _decide(control, {"v": VERSION, "token": token, "decision": RUN, "nonce": nonce, "holder": holder})


def void(control: str, token: str, reason: str, *, doubt: str = "") -> bool:
    """Make sure that the attempt never starts; False if it may have started already.

    `doubt` says why it may have run before all the same: this gate is no proof of the contrary then. Makes the
    directory if need be: a slow service could otherwise still make it and start the attempt.
    Raises OtherToken, ControlFileGarbled, OSError (nothing was decided).
    """
    make(control, token)
    gate = read(control)
    if gate is None:
        nonce = os.urandom(8).hex()
        content = {"v": VERSION, "token": token, "decision": VOID, "nonce": nonce, "reason": reason}
        _decide(control, {**content, "doubt": doubt} if doubt else content)
        gate = read(control)
    return gate is not None and gate["decision"] == VOID


def read(control: str) -> Content | None:
    """What was decided; None if nothing (yet). Raises ControlFileGarbled, OSError."""
    return _load(control + _GATE, is_gate)


def read_exit(control: str) -> Content | None:
    """The exit record; None if there is none (yet). Raises ControlFileGarbled, OSError."""
    return _load(control + _EXIT, is_exit)


def read_note(control: str, nonce: str) -> Content | None:
    """What the holder noted in the space of its exit record: the leader, perhaps its status."""
    with contextlib.suppress(ControlFileGarbled):
        return _load(_private_exit(control, nonce), is_note)
    return None


def settle_exit(control: str, nonce: str) -> bool:
    """Make a dead holder's noted status the exit record; False if it noted none.

    Only for when the last process of the attempt is gone.
    """
    note = read_note(control, nonce)
    if note is None or not is_exit(note):
        return False
    with contextlib.suppress(FileExistsError):
        os.link(_private_exit(control, nonce), control + _EXIT)
    return True


class ExitSpace:
    """Room for the exit record, taken on disk before the start: a full disk cannot swallow an outcome."""

    def __init__(self, control: str, nonce: str, *, again: bool = False) -> None:
        """Take the space; `again` opens what a dead holder took.

        Raises OSError, and leaves nothing then; with `again` ControlFileGarbled too.
        """
        self._control = control
        self._path = _private_exit(control, nonce)
        self._descriptor = _open(self._path, os.O_WRONLY | os.O_CREAT | (0 if again else os.O_EXCL))
        if again:
            return
        try:
            # Blanks, not holes; JSON ignores them after the record.
            _write_all(self._descriptor, b" " * _EXIT_BYTES, self._path)
        except OSError:
            self.drop()
            raise

    def note(self, content: Content) -> None:
        """Write down what is known so far; whoever finds it after this process's death continues from it."""
        # A short write is impossible: the space is there.
        os.pwrite(self._descriptor, json.dumps(content).encode().ljust(_EXIT_BYTES), 0)

    def publish(self, record: Content) -> Content:
        """Link the record as the exit of the attempt; returns the one that stands: the first."""
        self.note(record)
        fault.reach("exit.written")
        try:
            os.link(self._path, self._control + _EXIT)
            fault.reach("exit.linked")
        except FileExistsError:
            record = read_exit(self._control) or record
        except OSError:
            self._close()  # What is written stays: it is what recovery settles the attempt by.
            raise
        self.drop()
        return record

    def drop(self) -> None:
        """Give the space back. What cannot be removed is left: the attempt is decided without it."""
        self._close()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


def utc(at_ns: int) -> str:
    """A wall clock reading (nanoseconds since 1970) as RFC 3339 UTC with microseconds."""
    seconds, rest = divmod(at_ns, 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest // 1000:06d}Z"


def _make_directory(path: str, mode: int) -> bool:
    """Make the directory of an attempt, and that of its job; False if it is there already."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(os.path.dirname(path), mode)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return False
    return True


def _decide(control: str, content: Content) -> bool:
    """Whether this content is the gate now. Raises OSError if nothing was decided, or that cannot be told."""
    private = f"{control}{_GATE}.{content['nonce']}"
    _write(private, json.dumps(content).encode(), os.O_CREAT | os.O_EXCL)
    fault.reach("gate.written")
    failure: OSError | None = None
    try:
        os.link(private, control + _GATE)
        fault.reach("gate.linked")
    except OSError as error:
        # It may be there after a lost answer of a network file system, so only the content tells.
        failure = error
    with contextlib.suppress(OSError):
        os.unlink(private)
    if failure is None:
        return True
    gate = read(control)
    if gate is None:
        raise failure
    return bool(gate["nonce"] == content["nonce"])


def _private_exit(control: str, nonce: str) -> str:
    return f"{control}{_EXIT}.{nonce}"


def is_gate(content: Content) -> bool:
    """Whether this is the content of a gate, here or at a site."""
    return is_local_gate(content) or is_site_gate(content)


def is_local_gate(content: Content) -> bool:
    """Whether this is a gate that nobody passes, or that a keeper of some machine passed."""
    return _is_decision(content) and (content["decision"] == VOID or _is_holder(content.get("holder")))


def is_site_gate(content: Content) -> bool:
    """Whether this is a gate that nobody passes, or that a run in a foreign queue passed."""
    return _is_decision(content) and (content["decision"] == VOID or _is_site_holder(content.get("holder")))


def _is_decision(content: Content) -> bool:
    return (
        content.get("v") == VERSION
        and _is_text(content.get("token"))
        and _is_nonce(content.get("nonce"))
        and content.get("decision") in (RUN, VOID)
        and _is_text(content.get("doubt", ""))
    )


def _is_holder(holder: object) -> bool:
    return (
        _is_process(holder)
        and _are(holder, ("host", "boot_id", "pid_ns"), _is_text)
        and _is_process(holder.get("warden"))
        # Keepers of earlier versions wrote none.
        and (holder.get("mark") is None or _is_count(holder["mark"]))
    )


def _is_process(found: object) -> TypeGuard[Content]:
    """One that listens, and may be told from a later one of the same number."""
    return (
        isinstance(found, dict)
        and _is_text(found.get("socket"))
        and _is_count(found.get("start_ticks"))
        and _is_number(found.get("pid"))
        and found["pid"] > 0
    )


def _is_site_holder(holder: object) -> bool:
    """A run in a foreign queue."""
    return (
        isinstance(holder, dict)
        and _are(holder, ("site", "id", "host"), _is_text)
        and _is_moment(holder.get("at"))
        and _is_number(holder.get("restarts"))
    )


def is_exit(content: Content) -> bool:
    """Whether this is the content of an exit record, whole and such that it can be stored.

    A job may have written it: whoever reads records of many attempts must not stumble over one.
    """
    if content.get("v") != VERSION or not content.keys() >= _OF_EXIT:
        return False
    ends = [end for end in (content["exit_code"], content["signal"], content["error"]) if end is not None]
    return (
        len(ends) == 1
        and (_is_number(ends[0]) if content["error"] is None else _is_error(ends[0]))
        and _are(content, ("token", "ended_by"), _is_text)
        and _is_moment(content["ended_at"])
        and (content["started_at"] is None or _is_moment(content["started_at"]))
        and (content["cpu_s"] is None or _is_amount(content["cpu_s"]))
        and (content["peak_memory_bytes"] is None or _is_count(content["peak_memory_bytes"]))
        and _is_number(content["leftovers"])
        and all(_is_text(content.get(name, "")) for name in _OF_SITES)
    )


def is_note(content: Content) -> bool:
    """Whether this is what a holder notes before the record: nothing yet, or its leader; or the record itself."""
    started_at = content.get("started_at")
    return content.get("v") == VERSION and (
        content.get("pid") is None
        or (
            _is_number(content["pid"])
            and content["pid"] > 0
            and _is_count(content.get("start_ticks"))
            and (started_at is None or (_is_moment(started_at) and _is_text(content.get("boot_id"))))
        )
    )


def _is_error(found: object) -> bool:
    return isinstance(found, dict) and _are(found, ("code", "message"), _is_text)


def _are(content: Content, names: Iterable[str], is_one: Callable[[object], bool]) -> bool:
    return all(is_one(content.get(name)) for name in names)


def _is_text(found: object) -> TypeGuard[str]:
    """One that can be a path, with bytes that are no UTF-8 as Python has them."""
    if not isinstance(found, str):
        return False
    try:
        return b"\0" not in os.fsencode(found)
    except UnicodeEncodeError:
        return False


def _is_nonce(found: object) -> bool:
    """What may stand in the name of a file."""
    return isinstance(found, str) and found.isascii() and found.replace("-", "").isalnum()


def _is_moment(found: object) -> bool:
    """A time with its zone, that is one in UTC too; without a zone it could not be compared."""
    if not _is_text(found):
        return False
    try:
        moment = datetime.fromisoformat(found)
        return moment.tzinfo is not None and moment.astimezone(UTC) is not None
    except (ValueError, OverflowError):
        return False


def _is_number(found: object) -> TypeGuard[int]:
    """Of 32 bits, as they are stored. JSON's `true` is none."""
    return type(found) is int and -(2**31) <= found < 2**31


def _is_count(found: object) -> bool:
    return type(found) is int and 0 <= found < 2**63


def _is_amount(found: object) -> bool:
    """JSON as Python reads it also has infinities, and what is no number."""
    return _is_count(found) or (type(found) is float and 0 <= found < 2**63)


def _load(path: str, is_whole: Any) -> Content | None:
    try:
        text = _read(path)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ControlFileGarbled(path, "not JSON" if text.strip() else "empty") from error
    if not isinstance(content, dict) or not is_whole(content):
        raise ControlFileGarbled(path, "not version 1, or fields are missing")
    return content


def _read(path: str) -> bytes:
    descriptor = _open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)


def _write(path: str, content: bytes, flags: int) -> None:
    descriptor = _open(path, os.O_WRONLY | flags)
    try:
        _write_all(descriptor, content, path)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _open(path: str, flags: int) -> int:
    """Open a regular file at once. Raises ControlFileGarbled if something else is there, OSError."""
    try:
        descriptor = os.open(path, flags | _SAFE, 0o600)
    except OSError as error:
        if error.errno in _OF_NO_FILE:
            raise ControlFileGarbled(path, "no regular file") from error
        raise
    # What was made this moment is a regular file.
    if not flags & os.O_EXCL and not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ControlFileGarbled(path, "no regular file")
    return descriptor


def _write_all(descriptor: int, content: bytes, path: str) -> None:
    # A full file system, or a limit, may let the first part pass without an error; the rest tells which it is.
    while content:
        try:
            content = content[os.write(descriptor, content) :]
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), path) from error
