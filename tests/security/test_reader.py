"""Text of jobs is data for whoever reads it: a log, a terminal, a program, a spreadsheet, a browser."""

from __future__ import annotations

import json
import logging
import os
import sys
import tty
from collections.abc import Callable, Iterator

import pytest

from jobmgr.api.page import render
from jobmgr.cli import output, serve, table
from tests.api.conftest import Api
from tests.security.guards import (
    CLEAN_LOGS,
    CLEAN_TEXT,
    COLOURS_ONLY,
    ESCAPED_PAGE,
    LOG_LINES,
    PLAIN_CELLS,
    PLAIN_NAMES,
    QUOTED_FILE_NAME,
    rests_on,
)

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eabc\nforged\r\x1b[>4;2m\x1b[31"
_END = "(the end)"
Shown = Callable[[Callable[[], None]], str]


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    """Does something with a terminal as standard output; answers what was written on it."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    with (
        os.fdopen(theirs, "w", encoding="utf-8", newline="") as stream,
        os.fdopen(ours, "rb", buffering=0) as screen,
    ):

        def shown(do: Callable[[], None]) -> str:
            with monkeypatch.context() as patch:
                patch.setattr(sys, "stdout", stream)
                do()
            stream.write(_END)
            stream.flush()
            found = ""
            while not found.endswith(_END):
                found += screen.read(65536).decode()
            return found.removesuffix(_END)

        yield shown


def log(*pieces: bytes) -> Callable[[], None]:
    """What `jobmgr logs` does with what comes in these pieces."""

    def write() -> None:
        with output.LogWriter() as writer:
            for piece in pieces:
                writer.write(piece)

    return write


def assert_harmless(shown: str) -> None:
    assert [one for one in shown if not one.isprintable() and one != "\n"] == [], repr(shown)


@rests_on(CLEAN_TEXT)
def test_a_line_does_not_steer_the_terminal(on_terminal: Shown) -> None:
    shown = on_terminal(lambda: output.line(EVIL))

    assert_harmless(shown)
    assert shown.count("\n") == 1


@rests_on(CLEAN_TEXT)
def test_json_on_a_terminal_is_exact_and_does_not_steer_it(on_terminal: Shown) -> None:
    shown = on_terminal(lambda: output.as_json({"name": EVIL}))

    assert_harmless(shown)
    assert json.loads(shown) == {"name": EVIL}


@rests_on(CLEAN_LOGS)
def test_a_log_does_not_steer_the_terminal(on_terminal: Shown) -> None:
    shown = on_terminal(log(*(bytes([byte]) for byte in EVIL.encode())))

    assert_harmless(shown)


@rests_on(COLOURS_ONLY)
@pytest.mark.parametrize("escape", ["\x1b[2J", "\x1b[5A", "\x1b[?25l", "\x1b[>4;2m", "\x1b[6n"])
def test_of_a_logs_escapes_only_colours_reach_the_terminal(on_terminal: Shown, escape: str) -> None:
    shown = on_terminal(log(b"\x1b[1;3", b"1mred", escape.encode(), b"\n"))

    assert shown.startswith("\x1b[1;31mred")
    assert shown.endswith("\n\x1b[0m")
    assert_harmless(shown.removeprefix("\x1b[1;31m").removesuffix("\x1b[0m"))


@rests_on(PLAIN_CELLS)
@pytest.mark.parametrize("name", ["[red]name[/red]", "[link=http://evil.test]name[/link]", "[bold]name"])
def test_markup_in_a_name_is_inert(on_terminal: Shown, name: str) -> None:
    assert name in on_terminal(lambda: output.show(table.cell(name)))


@rests_on(LOG_LINES)
def test_a_name_forges_no_line_of_the_log() -> None:
    record = logging.makeLogRecord({"msg": "job %s is running", "args": (f"x\n2026-01-01 INFO {EVIL}",)})
    error = ValueError(f"no\n2026-01-01 00:00:00,000 INFO jobmgr: {EVIL}")
    record.exc_info = (ValueError, error, None)

    first, *rest = serve.OneLine("2026-11-22 %(levelname)s %(message)s").format(record).split("\n")

    assert_harmless(first)
    for line in rest:
        assert line.startswith("  ")
        assert_harmless(line)


@rests_on(ESCAPED_PAGE)
def test_a_sentence_is_no_element_of_the_page() -> None:
    trap = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    operation = {"summary": trap, "responses": {"200": {"description": trap}}}
    document = {
        "info": {"title": trap, "version": trap, "description": trap},
        "paths": {trap: {"get": operation}},
        "components": {"schemas": {trap: {"description": trap, "properties": {trap: {"type": trap}}}}},
    }

    page, _ = render(document)

    assert b"<script" not in page
    assert b"<img" not in page


@rests_on(PLAIN_NAMES)
@pytest.mark.parametrize("field", ["name", "description"])
async def test_a_name_has_no_control_characters(api: Api, field: str) -> None:
    asked = {"command": ["true"], "draft": True, field: "x\x1b[2J"}

    assert (await api.post("/api/v1/jobs", json=asked)).status == 422


@rests_on(QUOTED_FILE_NAME)
async def test_a_file_does_not_choose_how_it_is_saved(api: Api) -> None:
    job = await api.run("touch", 'a"; filename=evil.html')

    answer = await api.get(f"/api/v1/jobs/{job.job_id}/files/a%22%3B%20filename=evil.html")

    assert answer.status == 200
    assert answer.headers["Content-Disposition"].count(";") == 1
