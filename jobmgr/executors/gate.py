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
from typing import Any, Final

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
    if not _make_directory(control, 0o700):
        with contextlib.suppress(FileNotFoundError):
            return check_token(control, token)
        # Its maker died before the token was written, so nothing can have started here.
    fault.reach("control.made")
    _write(control + "/token", token.encode(), os.O_CREAT)
    fault.reach("control.named")
    return None


def make_with_run(control: str, run: str, token: str) -> None:
    """Make the control directory as `make` does, and the run directory, where the job's own files go."""
    make(control, token)
    _make_directory(run, 0o777)


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


def void(control: str, token: str, reason: str) -> bool:
    """Make sure that the attempt never starts; False if it may have started already.

    Makes the directory if need be: a slow service could otherwise still make it and start the attempt.
    Raises OtherToken, ControlFileGarbled, OSError (nothing was decided).
    """
    make(control, token)
    gate = read(control)
    if gate is None:
        nonce = os.urandom(8).hex()
        _decide(control, {"v": VERSION, "token": token, "decision": VOID, "nonce": nonce, "reason": reason})
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
        return _load(_private_exit(control, nonce), lambda note: note.get("v") == VERSION)
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
    """Whether this is the content of a gate."""
    return (
        content.get("v") == VERSION
        and isinstance(content.get("token"), str)
        and isinstance(content.get("nonce"), str)
        and (
            content.get("decision") == VOID
            or (
                content.get("decision") == RUN
                and (_is_holder(content.get("holder")) or _is_site_holder(content.get("holder")))
            )
        )
    )


def _is_holder(holder: object) -> bool:
    return (
        isinstance(holder, dict)
        and all(isinstance(holder.get(name), str) for name in ("host", "boot_id", "pid_ns", "socket"))
        and all(isinstance(holder.get(name), int) for name in ("pid", "start_ticks"))
        and isinstance(holder.get("warden"), dict)
        # Keepers of earlier versions wrote none.
        and isinstance(holder.get("mark"), int | None)
    )


def _is_site_holder(holder: object) -> bool:
    """A run in a foreign queue."""
    return (
        isinstance(holder, dict)
        and all(isinstance(holder.get(name), str) for name in ("site", "id", "host", "at"))
        and isinstance(holder.get("restarts"), int)
    )


def is_exit(content: Content) -> bool:
    """Whether this is the content of an exit record."""
    ends = [content.get("exit_code"), content.get("signal"), content.get("error")]
    return (
        content.get("v") == VERSION
        and isinstance(content.get("token"), str)
        and isinstance(content.get("ended_at"), str)
        and len([end for end in ends if end is not None]) == 1
    )


def _load(path: str, is_whole: Any) -> Content | None:
    try:
        text = _read(path)
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
    except ValueError as error:
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
