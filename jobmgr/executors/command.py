"""Starting the command of a job: its output, where its program is found, and why it could not be started."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

from jobmgr.executors import process
from jobmgr.failure import Failure

NO_RESOURCES = "no_resources"  # The system had no process or descriptor left; the command never ran.
_MESSAGE_MAX = 1500  # A record with its error must fit into the reserved 4 KiB.
# A job may have planted a link or a FIFO there: neither is followed nor waited for.
_OUTPUT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class SpawnFailed(Exception):
    """The command could not be started; `code` is a Failure or NO_RESOURCES, `message` names path and remedy."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message if len(message) <= _MESSAGE_MAX else message[:_MESSAGE_MAX] + "..."


def start(argv: list[str], env: Mapping[str, str], cwd: str, stdout: int, stderr: int) -> tuple[int, int]:
    """Start `argv` in `cwd` with exactly `env`; its pid and start ticks. Raises SpawnFailed.

    A program without a slash is looked up in the job's own PATH. Changes this process's directory and comes
    back to /, because posix_spawn cannot be told one: only for processes that start one command at a time.
    """
    try:
        os.chdir(cwd)
    except OSError as error:
        reason = (
            f"the working directory {cwd!r} cannot be entered: {error.strerror}; make it, or name another"
        )
        raise SpawnFailed(Failure.CWD_NOT_FOUND, reason) from error
    program = argv[0] if argv else ""
    try:
        program = _find_program(program, env.get("PATH", os.defpath))
        return process.spawn(program, argv, env, stdout, stderr)
    except OSError as error:
        raise _explain(error, program) from error
    except ValueError as error:  # A NUL byte, an empty argv, '=' in the name of a variable.
        raise SpawnFailed(
            Failure.SPAWN_FAILED, f"the command {program!r} cannot be started: {error}"
        ) from error
    finally:
        os.chdir("/")


def open_output(path: str, mode: int = 0o666) -> int:
    """Open a regular file for appending; `mode` is for a new one. Raises OSError, also if something else is there."""
    descriptor = os.open(path, _OUTPUT_FLAGS, mode)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileExistsError(errno.EEXIST, "it is there and no regular file", path)
    os.set_blocking(descriptor, True)
    return descriptor


def _find_program(name: str, path: str) -> str:
    if "/" in name:
        return name
    denied = None
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
        if denied is None and os.path.isfile(candidate):
            denied = candidate
    if denied is not None:
        raise SpawnFailed(Failure.NOT_EXECUTABLE, f"{denied!r} is not executable; `chmod +x` it")
    raise SpawnFailed(
        Failure.PROGRAM_NOT_FOUND,
        f"the program {name!r} is not on the job's PATH; install it, or write its full path",
    )


def _explain(error: OSError, program: str) -> SpawnFailed:
    number = error.errno
    if number in (errno.ENOENT, errno.ENOTDIR):
        if os.path.exists(program):
            return SpawnFailed(
                Failure.PROGRAM_NOT_FOUND,
                f"the interpreter that {program!r} names in its first line was not found; correct it",
            )
        return SpawnFailed(
            Failure.PROGRAM_NOT_FOUND, f"the program {program!r} does not exist; correct the path"
        )
    if number == errno.EACCES:
        kind = "is a directory" if os.path.isdir(program) else "is not executable; `chmod +x` it"
        return SpawnFailed(Failure.NOT_EXECUTABLE, f"{program!r} {kind}")
    if number == errno.ENOEXEC:
        return SpawnFailed(
            Failure.NOT_EXECUTABLE,
            f"{program!r} is no program for this machine; a script needs a first line such as #!/bin/sh",
        )
    if number == errno.E2BIG:
        return SpawnFailed(
            Failure.ARGUMENTS_TOO_LONG,
            f"the arguments and environment of {program!r} are larger than the system allows; use a file",
        )
    # A program file may be such that loading it always fails for want of memory: that is no shortage.
    if number in process.SCARCE and not (number == errno.ENOMEM and process.can_start()):
        return SpawnFailed(NO_RESOURCES, f"{program!r} could not be started: {error.strerror}")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return SpawnFailed(Failure.DISK_FULL, f"no space left to start {program!r}; free some")
    return SpawnFailed(Failure.SPAWN_FAILED, f"{program!r} could not be started: {error.strerror}")
