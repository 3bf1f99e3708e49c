"""What a command writes while it runs, within bounds."""

from __future__ import annotations

import re

from jobmgr.dialects.dialect import Answer
from jobmgr.transports.transport import OUTPUT_MAX_BYTES


class Output:
    """Both streams of one command.

    If there is a `mark`, each stream has it, a process id and `;` before what the command itself writes. What comes
    before that is somebody else's noise.
    """

    def __init__(self, mark: str = "") -> None:
        self._mark = re.compile(re.escape(mark).encode() + rb"(\d{1,18});") if mark else None
        self._stdout = bytearray()
        self._stderr = bytearray()

    def add(self, data: bytes, *, is_stderr: bool) -> None:
        """More of a stream. What is too much is let go."""
        if not self.is_too_much:
            (self._stderr if is_stderr else self._stdout).extend(data)

    @property
    def is_too_much(self) -> bool:
        """Whether more came than is kept."""
        return len(self._stdout) + len(self._stderr) > OUTPUT_MAX_BYTES

    @property
    def pid(self) -> int | None:
        """The process that stood in the mark; None if that has not come."""
        found = self._mark.search(self._stdout) if self._mark is not None else None
        return None if found is None else int(found[1])

    def answer(self, exit_code: int | None, trouble: str = "") -> Answer:
        """All that came; `trouble` is a last line of stderr."""
        stderr = self._text(self._stderr)
        if trouble:
            stderr = f"{stderr.rstrip()}\n{trouble}".lstrip()
        return Answer(exit_code, self._text(self._stdout), stderr)

    def _text(self, data: bytearray) -> str:
        # Without a mark it is all noise, but that may be the only words there are.
        found = self._mark.search(data) if self._mark is not None else None
        return data[0 if found is None else found.end() :].decode("utf-8", "surrogateescape")
