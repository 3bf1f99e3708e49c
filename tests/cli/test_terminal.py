"""On a real terminal: nothing a job says can move the cursor; its log may have colours, and no more."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Callable

from tests.cli.conftest import COMMAND, TIMEOUT_S, Commands

# What rich itself may write: colours, moving within what it draws, and the cursor.
_OURS = re.compile(rb"\x1b\[[0-9;?]*[mKAlh]")
_EVIL = "\\x1b]0;owned\\x07 \\x1b[2J \\x9b31m \\u202e \\r overwritten"


def on_terminal(
    commands: Commands,
    *arguments: str,
    until: Callable[[bytes], bool] = lambda _: False,
    columns: int = 200,
) -> bytes:
    """What the command writes on a terminal; SIGINT ends it when `until` is satisfied."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(commands.home)
        size = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "50"}
        os.execve(sys.executable, [*COMMAND, *arguments], commands.environment | size)
    shown = b""
    deadline = time.monotonic() + TIMEOUT_S
    stopped = False
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            piece = _read(terminal)
            if not piece:
                break
            shown += piece
            if until(shown) and not stopped:
                os.kill(pid, signal.SIGINT)
                stopped = True
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    assert time.monotonic() < deadline, shown
    return shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when the other end is closed
        return b""


def assert_harmless(shown: bytes) -> None:
    """Nothing but our own control sequences, and the line ends of the terminal."""
    text = _OURS.sub(b"", shown).decode()
    assert not [
        character for character in text if not character.isprintable() and character not in "\r\n\t"
    ], text


def test_a_log_reaches_the_terminal_without_its_escapes(service: Commands) -> None:
    script = (
        f"import sys; sys.stdout.buffer.write('{_EVIL}\\n'.encode() + b'\\xff\\x9b\\n' + 'é漢\\n'.encode())"
    )
    job_id = service.submit("--wait", "--", sys.executable, "-c", script)

    shown = on_terminal(service, "logs", job_id)

    assert_harmless(shown)
    assert b"\\x1b]0;owned\\x07" in shown
    assert b"\\u202e" in shown
    assert b"\r\n overwritten" in shown
    assert rb"\xff\x9b" in shown
    assert "é漢".encode() in shown


def test_names_of_jobs_have_room_on_a_narrow_terminal(service: Commands) -> None:
    service.submit("--draft", "--name", "a name to be read", "--", "true")

    shown = on_terminal(service, "ls", columns=80)

    assert b"a name to be read" in shown
    assert b"SUBMITTED" in shown


def test_a_log_keeps_its_colours_on_the_terminal_and_leaves_none(service: Commands) -> None:
    job_id = service.submit("--wait", "--", "printf", "\\033[1;31mred\\033[2J\\n")

    shown = on_terminal(service, "logs", job_id)

    assert shown == b"\x1b[1;31mred\\x1b[2J\r\n\x1b[0m"
    assert service.run("logs", job_id).out == "\x1b[1;31mred\x1b[2J\n"


def test_a_character_cut_in_two_is_shown_whole(service: Commands) -> None:
    write = "import sys, time; o = sys.stdout.buffer; o.write(b'a\\xc3'); o.flush()"
    script = f"{write}; time.sleep(0.7); o.write(b'\\xa9')"
    job_id = service.submit("--", sys.executable, "-c", script)

    shown = on_terminal(service, "logs", "-f", job_id)

    assert shown.decode() == "aé"


def test_names_and_errors_reach_the_terminal_without_their_escapes(service: Commands) -> None:
    lines = (
        b'{"command": ["/no/such/\\u001b[31mprogram"], "description": "\\u009b31m",'
        b' "name": "\\u009b31m \\u202e", "tags": ["evil"]}'
    )
    job_id = service.run("submit", "--from", "-", "--wait", stdin=lines).out.strip()

    for arguments in (("ls", "--tag", "evil"), ("show", job_id), ("why", job_id), ("wait", job_id)):
        shown = on_terminal(service, *arguments)

        assert_harmless(shown)
        assert rb"\x9b31m" in shown or rb"\x1b[31m" in shown, arguments
    assert service.run("show", "--json", job_id).json["name"] == "\x9b31m \u202e"
    assert "\x9b" not in service.run("show", "--json", job_id).out


def test_bars_are_drawn_on_stderr_and_leave_nothing_behind(service: Commands) -> None:
    job_id = service.submit("--", "sleep", "0.5")

    shown = on_terminal(service, "wait", job_id)

    assert b"waiting" in shown
    assert shown.rstrip().endswith(b"\x1b[2K")


def test_watch_draws_jobs_as_they_come(service: Commands) -> None:
    service.submit("--draft", "--name", "seen at once", "--", "true")

    def until(shown: bytes) -> bool:
        if b"seen at once" in shown and not submitted:
            submitted.append(service.submit("--name", "came later", "--", "true"))
        return b"came later" in shown

    submitted: list[str] = []
    shown = on_terminal(service, "watch", until=until)

    assert_harmless(shown)
    assert b"came later" in shown


def test_watch_without_a_terminal_prints_events(service: Commands) -> None:
    with service.start("watch", "--json") as watching:
        assert watching.stdout is not None
        line = b""
        for _ in range(50):
            service.submit("--", "true")
            if select.select([watching.stdout], [], [], 0.2)[0]:
                line = watching.stdout.readline()
                break
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=20)

    assert line.startswith(b'{"')
    assert b'"kind": ' in line
