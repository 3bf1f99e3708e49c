"""Files of a site, by programs that every POSIX system has: many sites do not offer SFTP."""

from __future__ import annotations

import secrets

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import FileMissing, InvalidRequest, SiteRefused, SiteSilent
from jobmgr.transports.transport import Transport

READ_MAX_BYTES = 4 * 1024**2
_MISSING = 44
_TIMEOUT_S = 60.0

# What is no regular file is not opened: a FIFO would be waited for.
_READ = f'test -f "$1" || exit {_MISSING}; exec <"$1" || exit 1; tail -c "+$2" | head -c "$3"'
# Its length tells a whole text from the beginning of one whose connection broke: both end in the same way.
_WRITE = """umask 077
if test -d "$1"; then echo "$1: Is a directory" >&2; exit 1; fi
private=$1.$2
cat >"$private" && test "$(($(wc -c <"$private")))" -eq "$4" && chmod "$3" "$private" && mv -f "$private" "$1" && exit
code=$?
rm -f "$private"
exit "$code"
"""


async def read_bytes(
    transport: Transport, path: str, offset: int, limit: int, timeout_s: float = _TIMEOUT_S
) -> bytes:
    """At most `limit` bytes (and READ_MAX_BYTES) of a regular file from `offset` on; empty behind its end.

    Raises FileMissing, SiteUnreachable, SiteSilent (both may pass), SiteRefused.
    """
    _check(path)
    if offset < 0 or limit <= 0:
        raise InvalidRequest(
            "offset" if offset < 0 else "limit", "it cannot be less than 0, a limit not 0 either"
        )
    wanted = str(min(limit, READ_MAX_BYTES))
    answer = await transport.run(Command(("sh", "-c", _READ, "sh", path, str(offset + 1), wanted)), timeout_s)
    if answer.exit_code == _MISSING:
        raise FileMissing(f"there is no file {path!r} on {transport.host} (yet)")
    _judge(transport, path, "read", answer)
    return answer.stdout.encode("utf-8", "surrogateescape")


async def write(transport: Transport, path: str, text: str, mode: int, timeout_s: float = _TIMEOUT_S) -> None:
    """Make a file, or replace it; whoever looks sees the old one or all of the new one. Its directory is there.

    Raises SiteUnreachable, SiteSilent (it may be written all the same, and may be written again), SiteRefused.
    """
    _check(path)
    size = len(text.encode("utf-8", "surrogateescape"))
    words = (path, secrets.token_hex(8), f"{mode:04o}", str(size))
    answer = await transport.run(Command(("sh", "-c", _WRITE, "sh", *words), stdin=text), timeout_s)
    _judge(transport, path, "written", answer)


def _check(path: str) -> None:
    if not path.startswith("/"):
        raise InvalidRequest("path", f"{path[:100]!r} is not absolute; write it from / on")


def _judge(transport: Transport, path: str, verb: str, answer: Answer) -> None:
    words = answer.stderr.strip()
    if answer.exit_code is None:
        raise SiteSilent(transport.host, f"whether {path!r} was {verb} is not known ({words})")
    if answer.exit_code != 0:
        raise SiteRefused(transport.host, f"{path!r} cannot be {verb}: {words or f'code {answer.exit_code}'}")
