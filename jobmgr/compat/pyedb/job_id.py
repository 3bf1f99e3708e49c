"""The id of a job as a text that may also be awaited."""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any


class JobId(str, Coroutine[Any, Any, str]):
    """An id. pyedb's documents write `asyncio.run(handler.submit_job(config))`, its code answered a text: both work.

    asyncio.run insists on a coroutine, and takes for one what is of `collections.abc.Coroutine`, in all versions.
    Awaiting it answers the text at once, as often as one likes.
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, Any, str]:
        yield from ()
        return str(self)

    def send(self, _value: Any, /) -> Any:
        """End with the text, as a coroutine ends that has nothing to wait for."""
        raise StopIteration(str(self))

    def throw(
        self,
        kind: type[BaseException] | BaseException,
        value: BaseException | object = None,
        trace: TracebackType | None = None,
        /,
    ) -> Any:
        """Raise it, as a coroutine does that was cancelled before it began."""
        return super().throw(kind, value, trace)  # type: ignore[arg-type]

    def close(self) -> None:
        """Nothing is open."""
