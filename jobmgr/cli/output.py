"""The only place that prints. Text of jobs and services is cleaned before it can reach a terminal."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# C0 and C1 controls (escape sequences start with one), what reorders text or breaks lines, what is no text.
_UNSAFE = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff"
_CONTROLS = re.compile(f"[{_UNSAFE}]")
# Colours and the like, and nothing else that begins so: `ESC [ > 4 m` would change what keys send.
_COLOUR = "\x1b\\[[0-9;:]{0,64}m"
_CONTROLS_IN_LOGS = re.compile(f"(?P<colour>{_COLOUR})|(?![\n\t])[{_UNSAFE}]")
# Of what may follow next depends what these are.
_UNFINISHED = re.compile("(?:\r|\x1b(?:\\[[0-9;:]{0,64})?)\\Z")
_PLAIN = "\x1b[0m"
_WIDE = 4096
_ROOMY = 120
_TIGHT = 100


def clean(text: str) -> str:
    r"""`text` on one line, with everything a terminal could obey written as \x1b, \n, \u202e."""
    return _CONTROLS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def prepare() -> None:
    """Make printing never fail for want of a stream, or of a character in the locale's encoding."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller (`>&-`)
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 -- open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Hand over what is still buffered, so that a full disk or a closed pipe is noticed now."""
    sys.stdout.flush()


def discard() -> None:
    """Drop what cannot be written any more, also at interpreter exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def line(text: str) -> None:
    """One line of result."""
    click.echo(clean(text))


def note(text: str) -> None:
    """One line beside the result, on stderr."""
    click.echo(clean(text), err=True)


def error(text: str) -> None:
    """One sentence about what went wrong, on stderr."""
    click.echo(f"{click.style('jobmgr:', fg='red', bold=True)} {clean(text)}", err=True)


def usage_error(problem: click.ClickException) -> None:
    """What is wrong with the command line, and how to see the right form."""
    if isinstance(problem, click.exceptions.NoArgsIsHelpError):
        problem.show()
        return
    context = problem.ctx if isinstance(problem, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
    error(" ".join(problem.format_message().split()))  # choices come on lines of their own
    if context is not None and context.help_option_names:
        note(f"see `{context.command_path} {context.help_option_names[-1]}`")


def as_json(value: Any) -> None:
    """`value` as indented JSON; characters a terminal could obey are JSON escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    lines = (_CONTROLS.sub(_json_escaped, part) for part in text.split("\n"))
    click.echo("\n".join(lines))


def as_json_line(value: Any) -> None:
    """`value` as JSON on one line, handed over at once."""
    click.echo(_CONTROLS.sub(_json_escaped, json.dumps(value, ensure_ascii=False)))


def _json_escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def show(*renderables: RenderableType) -> None:
    """Tables of rich; in full width and without colours when no person reads."""
    target = console()
    if is_terminal():
        target.print(*renderables)
        return
    with target.capture() as printed:
        target.print(*renderables)
    click.echo("".join(f"{row.rstrip()}\n" for row in printed.get().splitlines()), nl=False)


def is_wide() -> bool:
    """Whether long rows have room."""
    return console().width >= _ROOMY


def is_narrow() -> bool:
    """Whether only what matters most has room."""
    return console().width < _TIGHT


def console(*, stderr: bool = False) -> Console:
    """A rich console for tables (stdout) or bars (stderr, so that they do not mix with results)."""
    from rich.console import Console  # noqa: PLC0415 -- most commands print without it

    reads = sys.stderr.isatty() if stderr else is_terminal()
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, width=None if reads else _WIDE)


class LogWriter:
    """Writes the bytes of a log: as they are into files and pipes; on a terminal cleaned, with colours only."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace") if is_terminal() else None
        self._held = ""
        self._is_coloured = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Write what still waited. What comes next on the terminal is not the job's, and has no colour of it."""
        if self._decoder is not None:
            rest = self._held + self._decoder.decode(b"", final=True)
            self._held = ""
            self._write_text(rest.removesuffix("\r") + "\n" * rest.endswith("\r"))
            if self._is_coloured:
                sys.stdout.write(_PLAIN)
            flush()

    def write(self, data: bytes) -> None:
        """Write the next bytes; a character, or a colour, cut in two waits for its rest."""
        if self._decoder is None:
            sys.stdout.buffer.write(data)
        else:
            text = self._held + self._decoder.decode(data)
            unfinished = _UNFINISHED.search(text)
            self._held = "" if unfinished is None else unfinished[0]
            self._write_text(text[: len(text) - len(self._held)])
        flush()

    def _write_text(self, text: str) -> None:
        # A lone \r would overwrite the line before it; progress bars become lines of their own.
        lines = text.replace("\r\n", "\n").replace("\r", "\n")
        sys.stdout.write(_CONTROLS_IN_LOGS.sub(self._shown, lines))

    def _shown(self, match: re.Match[str]) -> str:
        if match["colour"] is None:
            return _escaped(match)
        self._is_coloured = True
        return match[0]


def lines(texts: Iterable[str]) -> None:
    """One line each, written together."""
    click.echo("".join(f"{clean(text)}\n" for text in texts), nl=False)


@contextlib.contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while something takes long, if a person reads there: call it with (done, total)."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.progress import (  # noqa: PLC0415 -- most commands print without it
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def live() -> Iterator[Callable[[RenderableType], None]]:
    """A part of the terminal that is drawn anew with each call."""
    from rich.live import Live  # noqa: PLC0415 -- most commands print without it

    with Live(console=console(), auto_refresh=False) as screen:
        yield lambda renderable: screen.update(renderable, refresh=True)
