"""What holds for every transport."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import InvalidRequest, SiteUnreachable
from jobmgr.transports.transport import OUTPUT_MAX_BYTES, Transport
from tests.patience import eventually

_TIMEOUT_S = 60.0
# Any bytes but NUL, which no argument can have; those that are not UTF-8 are surrogates.
_ARGUMENT = st.binary(max_size=100).map(
    lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)


def shell(script: str, *arguments: str, stdin: str = "") -> Command:
    return Command(("sh", "-c", script, "sh", *arguments), stdin)


async def test_answer_has_both_streams_and_the_exit_code(transport: Transport) -> None:
    answer = await transport.run(shell("echo one; echo two >&2; exit 3"), _TIMEOUT_S)

    assert answer == Answer(3, "one\n", "two\n")


async def test_signal_that_ended_a_program_is_its_exit_code_as_shells_have_it(transport: Transport) -> None:
    answer = await transport.run(shell("kill -TERM $$"), _TIMEOUT_S)

    assert answer.exit_code == 143


async def test_program_that_is_not_there_is_an_answer(transport: Transport) -> None:
    answer = await transport.run(Command(("jobmgr-no-such-program",)), _TIMEOUT_S)

    assert answer.exit_code == 127
    assert "jobmgr-no-such-program" in answer.stderr


async def test_program_that_may_not_be_started_is_an_answer(transport: Transport, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")

    answer = await transport.run(Command((str(program),)), _TIMEOUT_S)

    assert answer.exit_code == 126


async def test_program_reads_its_standard_input_to_the_end(transport: Transport) -> None:
    text = "ä\udcff\n" * 300_000

    answer = await transport.run(Command(("cat",), text), _TIMEOUT_S)

    assert answer == Answer(0, text, "")


async def test_program_without_standard_input_finds_it_empty(transport: Transport) -> None:
    answer = await transport.run(shell("cat; echo end"), _TIMEOUT_S)

    assert answer == Answer(0, "end\n", "")


async def test_program_need_not_read_what_it_is_given(transport: Transport) -> None:
    answer = await transport.run(shell("exec <&-; echo done", stdin="x" * 5_000_000), _TIMEOUT_S)

    assert answer == Answer(0, "done\n", "")


async def test_much_output_arrives_whole(transport: Transport) -> None:
    script = "head -c 10000000 /dev/zero | tr '\\0' x; head -c 1000000 /dev/zero | tr '\\0' y >&2"

    answer = await transport.run(shell(script), _TIMEOUT_S)

    assert answer == Answer(0, "x" * 10_000_000, "y" * 1_000_000)


async def test_too_much_output_is_no_answer(transport: Transport) -> None:
    answer = await transport.run(Command(("head", "-c", str(OUTPUT_MAX_BYTES + 1), "/dev/zero")), _TIMEOUT_S)

    assert answer.exit_code is None
    assert f"more than {OUTPUT_MAX_BYTES} bytes" in answer.stderr


async def test_every_byte_of_an_argument_arrives(transport: Transport) -> None:
    everything = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    arguments = [
        "",
        " ",
        "-n",
        "'",
        "''",
        '"',
        "\\",
        "$HOME",
        "`id`",
        "$(id)",
        "a\nb\n",
        "*",
        "~",
        "!x",
        "#",
        everything,
    ]

    answer = await transport.run(Command(("printf", "%s\\0", *arguments)), _TIMEOUT_S)

    assert answer == Answer(0, "".join(f"{argument}\0" for argument in arguments), "")


@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(arguments=st.lists(_ARGUMENT, min_size=1, max_size=5), stdin=_ARGUMENT)
async def test_arguments_and_input_arrive_as_they_are(
    transport: Transport, arguments: list[str], stdin: str
) -> None:
    answer = await transport.run(shell('printf "%s\\0" "$@"; cat', *arguments, stdin=stdin), _TIMEOUT_S)

    assert answer == Answer(0, "".join(f"{argument}\0" for argument in arguments) + stdin, "")


@pytest.mark.parametrize("argv", [(), ("",), ("echo", "a\0b"), ("echo", "\ud800")])
async def test_what_no_system_can_start_is_refused(transport: Transport, argv: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="command"):
        await transport.run(Command(argv), _TIMEOUT_S)


async def test_program_sees_the_c_locale_and_nothing_of_the_services_own(
    transport: Transport,
) -> None:
    answer = await transport.run(Command(("env",)), _TIMEOUT_S)

    names = {line.partition("=")[0] for line in answer.stdout.splitlines()}
    assert "LC_ALL=C" in answer.stdout.splitlines()
    assert not {name for name in names if name.startswith(("JOBMGR_", "PGPASS"))}


async def test_program_that_does_not_end_in_time_is_killed_with_its_children(
    transport: Transport, tmp_path: Path
) -> None:
    alive = tmp_path / "alive"
    os.mkfifo(alive)
    reader = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)

    # Both of them hold the FIFO open until they are dead.
    answer = await transport.run(shell('exec 9>"$1"; echo begun; sleep 600 & sleep 600', str(alive)), 2.0)

    assert answer.exit_code is None
    assert answer.stdout == "begun\n"
    assert "no answer within 2 s" in answer.stderr
    await eventually(lambda: _is_at_end(reader))
    os.close(reader)


def _is_at_end(reader: int) -> bool:
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


async def test_commands_run_at_once(transport: Transport, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    # Each waits for the other one.
    read, written = await asyncio.gather(
        transport.run(Command(("cat", str(fifo))), _TIMEOUT_S),
        transport.run(shell('echo met >"$1"', str(fifo)), _TIMEOUT_S),
    )

    assert (read.stdout, written.exit_code) == ("met\n", 0)


async def test_cancelled_command_is_killed(transport: Transport, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    task = asyncio.create_task(
        transport.run(shell('exec 9>"$1"; echo begun >&9; sleep 600', str(fifo)), _TIMEOUT_S)
    )
    await eventually(lambda: _has_begun(reader))

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: _is_at_end(reader))
    os.close(reader)


def _has_begun(reader: int) -> bool:
    try:
        return os.read(reader, 100) == b"begun\n"
    except BlockingIOError:
        return False


async def test_close_ends_what_runs(transport: Transport, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    task = asyncio.create_task(
        transport.run(shell('exec 9>"$1"; echo begun >&9; sleep 600', str(fifo)), _TIMEOUT_S)
    )
    await eventually(lambda: _has_begun(reader))

    await transport.close()

    assert (await task).exit_code is None
    await eventually(lambda: _is_at_end(reader))
    os.close(reader)
    with pytest.raises(SiteUnreachable, match="closed"):
        await transport.run(Command(("true",)), _TIMEOUT_S)
