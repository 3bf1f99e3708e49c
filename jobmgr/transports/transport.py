"""The contract between whoever has a command for a site and the way there."""

from __future__ import annotations

from typing import Protocol

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import InvalidRequest

OUTPUT_MAX_BYTES = 16 * 1024**2


class Transport(Protocol):
    """A way to run commands at one site. `host` is what messages call it."""

    host: str

    async def run(self, command: Command, timeout_s: float) -> Answer:
        """Run a command; what it answered once it has ended and its output is closed.

        The program is found on the site's PATH, sees the C locale and nothing of our own environment, and gets
        `stdin`, then its end. Where it runs is not said: paths are absolute. A program that a signal ended has the
        exit code 128 + its number, one that is not there 127, one that may not be started 126, as shells have it.

        `exit_code` is None if the program may have done its work but that was not seen: no answer after
        `timeout_s` (it is killed, with its process group, as far as the site lets us), the way to it broke, more
        than OUTPUT_MAX_BYTES came, or `close` was called; the last line of `stderr` says which. What a program
        leaves in the background has to have an output of its own, and is left alone.

        Raises SiteUnreachable if the program certainly did not start, and InvalidRequest for one that can be
        started nowhere.
        """
        ...

    async def close(self) -> None:
        """End what runs, and let the site go; nothing runs after that."""
        ...


def encoded(command: Command) -> list[bytes]:
    """The arguments as a system takes them. Raises InvalidRequest for what no system does."""
    try:
        arguments = [text.encode("utf-8", "surrogateescape") for text in command.argv]
    except UnicodeEncodeError as error:
        raise InvalidRequest("command", f"{error.object[:100]!r} is no text that can be sent") from error
    if not arguments or not arguments[0] or any(b"\0" in argument for argument in arguments):
        raise InvalidRequest(
            "command", "it has no program, or a NUL byte in it, which no program can be given"
        )
    return arguments


def encoded_stdin(command: Command) -> bytes:
    """What the program reads. Raises InvalidRequest for what is no text."""
    try:
        return command.stdin.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidRequest("command", "its standard input is no text that can be sent") from error
