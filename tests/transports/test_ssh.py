"""What can happen on the way to a host, and what is said about it. The hosts are real servers on other ports."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.errors import HostKeyRefused, InvalidRequest, LoginRefused, SiteUnreachable
from jobmgr.transports.host import SshHost
from tests.patience import eventually
from tests.transports.conftest import MakeServer, open_files
from tests.transports.proxy import Proxy
from tests.transports.sshd import SshServer, make_key

pytest.importorskip("asyncssh", reason="asyncssh is not installed (pip install 'jobmgr[ssh]')")

from jobmgr.transports.ssh.connection import Connection
from jobmgr.transports.ssh.pauses import Pauses
from jobmgr.transports.ssh.transport import SshTransport

Connect = Callable[[SshHost | Connection], SshTransport]
_TIMEOUT_S = 60.0
_HELLO = Command(("echo", "hello"))
_HELLO_BACK = Answer(0, "hello\n", "")
# Runs what it was told, but only after it has said something of its own.
_NOISY = 'ForceCommand echo "noise; out"; echo noise >&2; {}eval "$SSH_ORIGINAL_COMMAND"'


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Makes transports and closes them; fails the test after which a file or a task is left."""
    tasks, files = asyncio.all_tasks(), open_files()
    transports: list[SshTransport] = []

    def make(host: SshHost | Connection) -> SshTransport:
        transports.append(SshTransport(host if isinstance(host, Connection) else Connection(host)))
        return transports[-1]

    yield make
    for transport in transports:
        await transport.close()
    await eventually(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})
    await eventually(lambda: open_files() <= files)


def waiting_at(fifo: Path) -> Command:
    """A command that says that it runs, by a FIFO, and then does so as long as that is there."""
    script = 'echo begun >"$1"; while test -p "$1"; do sleep 0.1; done'
    return Command(("sh", "-c", script, "sh", str(fifo)))


async def begun(fifo: Path, running: asyncio.Task[Answer]) -> None:
    """Until that command has said so."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if await eventually(lambda: running.done() or _read(reader)) != b"begun\n":
            pytest.fail(f"it did not run: {running.result()}")
    finally:
        os.close(reader)


def _read(reader: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return os.read(reader, 100)
    return b""


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Path]:
    """What a command says that it runs with."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    yield fifo
    fifo.unlink()


# One connection


async def test_all_commands_go_over_one_connection(ssh_server: SshServer, connect: Connect) -> None:
    async with Proxy(ssh_server.port) as proxy:
        ssh_server.trust_at(proxy.port)
        transport = connect(ssh_server.host(port=proxy.port))

        answers = await asyncio.gather(*(transport.run(_HELLO, _TIMEOUT_S) for _ in range(5)))
        answers.append(await transport.run(_HELLO, _TIMEOUT_S))

        assert answers == [_HELLO_BACK] * 6
        assert proxy.connections == 1
        await transport.close()


async def test_sites_of_one_host_share_its_connection_and_one_lets_go_of_its_own_commands_only(
    ssh_server: SshServer, connect: Connect, fifo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    os.mkfifo(other)
    async with Proxy(ssh_server.port) as proxy:
        ssh_server.trust_at(proxy.port)
        connection = Connection(ssh_server.host(port=proxy.port))
        first, second = connect(connection), connect(connection)
        running = [
            asyncio.create_task(site.run(waiting_at(each), _TIMEOUT_S))
            for site, each in ((first, fifo), (second, other))
        ]
        for each, task in zip((fifo, other), running, strict=True):
            await begun(each, task)

        await first.close()

        given_up = await running[0]
        assert (given_up.exit_code, "let this host go" in given_up.stderr) == (None, True)
        with pytest.raises(SiteUnreachable, match="it was closed"):
            await first.run(_HELLO, _TIMEOUT_S)
        assert await second.run(_HELLO, _TIMEOUT_S) == _HELLO_BACK
        assert proxy.connections == 1
        other.unlink()
        assert (await running[1]).exit_code == 0
        await second.close()
        assert not connection.is_open
        third = connect(connection)
        assert await third.run(_HELLO, _TIMEOUT_S) == _HELLO_BACK
        assert proxy.connections == 2
        await third.close()


async def test_who_lets_go_while_the_host_is_being_reached_starts_nothing_there(
    ssh_server: SshServer, connect: Connect, tmp_path: Path
) -> None:
    connection = Connection(ssh_server.host())
    first, second = connect(connection), connect(connection)
    touching = asyncio.create_task(first.run(Command(("touch", str(tmp_path / "file"))), _TIMEOUT_S))
    hello = asyncio.create_task(second.run(_HELLO, _TIMEOUT_S))
    await asyncio.sleep(0)

    await first.close()

    with pytest.raises(SiteUnreachable, match="it was closed"):
        await touching
    assert await hello == _HELLO_BACK
    assert not (tmp_path / "file").exists()


async def test_more_commands_than_the_server_has_sessions_wait_for_each_other(
    make_server: MakeServer, connect: Connect
) -> None:
    transport = connect(make_server("MaxSessions 2").host())

    answers = await asyncio.gather(*(transport.run(_HELLO, _TIMEOUT_S) for _ in range(20)))

    assert answers == [_HELLO_BACK] * 20


async def test_server_without_sessions_is_said_so(make_server: MakeServer, connect: Connect) -> None:
    transport = connect(make_server("MaxSessions 0").host())

    with pytest.raises(SiteUnreachable, match="it gives no session"):
        await transport.run(_HELLO, _TIMEOUT_S)


async def test_command_whose_turn_does_not_come_was_not_started(
    ssh_server: SshServer, connect: Connect, fifo: Path, tmp_path: Path
) -> None:
    transport = connect(ssh_server.host(sessions=1))
    first = asyncio.create_task(transport.run(waiting_at(fifo), _TIMEOUT_S))
    await begun(fifo, first)

    with pytest.raises(SiteUnreachable, match="not its turn within"):
        await transport.run(Command(("touch", str(tmp_path / "file"))), 0.2)

    first.cancel()
    await asyncio.wait([first])
    assert await transport.run(_HELLO, _TIMEOUT_S) == _HELLO_BACK
    assert not (tmp_path / "file").exists()


async def test_connection_that_breaks_leaves_the_command_in_doubt(
    make_server: MakeServer, connect: Connect, fifo: Path
) -> None:
    server = make_server()
    transport = connect(server.host())
    running = asyncio.create_task(transport.run(waiting_at(fifo), _TIMEOUT_S))
    await begun(fifo, running)

    server.cut()

    answer = await running
    assert answer.exit_code is None
    assert "the connection broke" in answer.stderr
    assert await transport.run(_HELLO, _TIMEOUT_S) == _HELLO_BACK


async def test_exit_code_without_all_of_the_output_is_no_answer(
    make_server: MakeServer, connect: Connect, fifo: Path
) -> None:
    server = make_server()
    transport = connect(server.host())
    # What is left behind holds the output open, and speaks when the server has seen the end of the command.
    left = 'while kill -0 $$ 2>/dev/null; do sleep 0.01; done; echo begun >"$1"; sleep 5'
    command = Command(("sh", "-c", f"({left}) & exit 0", "sh", str(fifo)))
    running = asyncio.create_task(transport.run(command, _TIMEOUT_S))
    await begun(fifo, running)

    server.cut()

    assert (await running).exit_code is None


async def test_command_that_was_given_up_is_not_sent_late(
    ssh_server: SshServer, connect: Connect, tmp_path: Path
) -> None:
    async with Proxy(ssh_server.port) as proxy:
        ssh_server.trust_at(proxy.port)
        transport = connect(ssh_server.host(port=proxy.port))
        await transport.run(_HELLO, _TIMEOUT_S)
        proxy.silence()
        with pytest.raises(SiteUnreachable, match="it gave no session within"):
            await transport.run(Command(("touch", str(tmp_path / "file"))), 0.2)

        proxy.restore()

        for _ in range(3):
            assert await transport.run(_HELLO, _TIMEOUT_S) == _HELLO_BACK
        assert not (tmp_path / "file").exists()
        await transport.close()


async def test_silent_network_is_noticed(ssh_server: SshServer, connect: Connect, fifo: Path) -> None:
    async with Proxy(ssh_server.port) as proxy:
        ssh_server.trust_at(proxy.port)
        transport = connect(ssh_server.host(port=proxy.port, keepalive_s=0.2))
        running = asyncio.create_task(transport.run(waiting_at(fifo), _TIMEOUT_S))
        await begun(fifo, running)

        proxy.silence()

        assert (await running).exit_code is None
        proxy.restore()
        assert await transport.run(_HELLO, _TIMEOUT_S) == _HELLO_BACK
        await transport.close()


async def test_server_that_says_nothing_is_given_up(connect: Connect, ssh_server: SshServer) -> None:
    async with Proxy(ssh_server.port) as proxy:
        proxy.silence()
        transport = connect(ssh_server.host(port=proxy.port, connect_timeout_s=0.3))

        with pytest.raises(SiteUnreachable, match="no connection within"):
            await transport.run(_HELLO, _TIMEOUT_S)


async def test_who_is_in_a_hurry_is_told_that_there_is_no_connection(
    connect: Connect, ssh_server: SshServer
) -> None:
    async with Proxy(ssh_server.port) as proxy:
        proxy.silence()
        transport = connect(ssh_server.host(port=proxy.port))

        with pytest.raises(SiteUnreachable, match=r"no connection within 0\.2 s"):
            await transport.run(_HELLO, 0.2)


async def test_server_that_is_down_is_tried_again_after_a_pause(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    transport = connect(server.host())
    await transport.run(_HELLO, _TIMEOUT_S)
    server.stop()
    await eventually(lambda: complains(transport, "Connect call failed"))
    assert await complains(transport, "again in")

    server.start()

    await eventually(lambda: complains(transport, ""))


async def complains(transport: SshTransport, words: str) -> bool:
    """Whether the host cannot be reached for this reason; without words, whether it can."""
    try:
        return await transport.run(_HELLO, _TIMEOUT_S) == _HELLO_BACK and not words
    except SiteUnreachable as error:
        return bool(words) and words in str(error)


def test_pauses_grow_up_to_a_minute_and_begin_anew() -> None:
    pauses = Pauses()

    left = []
    for _ in range(10):
        pauses.begin()
        left.append(pauses.left_s)
    pauses.end()

    assert 0.7 < left[0] < 1.3
    assert 3 < left[2] < 5.1
    assert 44 < left[9] < 76
    assert pauses.left_s == 0


# Who it is


async def test_unknown_host_is_refused_with_what_to_do(ssh_server: SshServer, connect: Connect) -> None:
    transport = connect(ssh_server.host(known_hosts_file=os.devnull))

    with pytest.raises(HostKeyRefused, match=r"not known .*ssh -p \d+ .*ssh-keyscan"):
        await transport.run(_HELLO, _TIMEOUT_S)


async def test_host_with_another_key_is_refused_with_what_to_do(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server()
    server.stop()
    server.make_host_key()
    server.start()

    with pytest.raises(
        HostKeyRefused, match=r"another key than the known one.*ssh-keygen -R '\[127.0.0.1\]:"
    ):
        await connect(server.host()).run(_HELLO, _TIMEOUT_S)


async def test_check_of_the_host_key_cannot_be_switched_off(
    ssh_server: SshServer, connect: Connect, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile none\n")

    for file, words in ((None, "switches the check of its key off"), (os.devnull, "its key is not known")):
        transport = connect(ssh_server.host(config_file=str(config), known_hosts_file=file))
        with pytest.raises(HostKeyRefused, match=words):
            await transport.run(_HELLO, _TIMEOUT_S)


# Who we are


async def test_key_that_the_host_does_not_know_is_refused_with_what_to_do(
    ssh_server: SshServer, connect: Connect, tmp_path: Path
) -> None:
    transport = connect(ssh_server.host(key_file=str(make_key(tmp_path / "other"))))

    with pytest.raises(LoginRefused, match="has to work without a question"):
        await transport.run(_HELLO, _TIMEOUT_S)


async def test_key_that_cannot_be_used_is_named(
    ssh_server: SshServer, connect: Connect, tmp_path: Path
) -> None:
    secret = make_key(tmp_path / "secret", passphrase="open sesame")

    with pytest.raises(LoginRefused, match=r"Passphrase .* belongs into an ssh-agent"):
        await connect(ssh_server.host(key_file=str(secret))).run(_HELLO, _TIMEOUT_S)
    with pytest.raises(LoginRefused, match="none"):
        await connect(ssh_server.host(key_file=str(tmp_path / "none"))).run(_HELLO, _TIMEOUT_S)


@pytest.fixture
def agent(ssh_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent with the user's key."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as process:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        try:
            while not socket.exists():
                assert process.poll() is None
            subprocess.run(["ssh-add", "-q", str(ssh_key)], check=True)
            yield
        finally:
            process.terminate()


@pytest.mark.usefixtures("agent")
async def test_agent_proves_who_we_are(ssh_server: SshServer, connect: Connect) -> None:
    transport = connect(ssh_server.host(key_file=None))

    assert await transport.run(_HELLO, _TIMEOUT_S) == _HELLO_BACK


# What the user's ssh configuration says


async def test_alias_with_a_jump_host_is_reached_through_it(
    make_server: MakeServer, connect: Connect, ssh_key: Path, tmp_path: Path
) -> None:
    jump, inner = make_server(), make_server()
    known = tmp_path / "known"
    known.write_text(jump.known_hosts.read_text() + inner.known_hosts.read_text())
    config = tmp_path / "config"
    config.write_text(
        f"Host inner\n  HostName 127.0.0.1\n  Port {inner.port}\n  ProxyJump gate\n"
        f"Host gate\n  HostName 127.0.0.1\n  Port {jump.port}\n"
        f"Host *\n  User {getpass.getuser()}\n  IdentityFile {ssh_key}\n  UserKnownHostsFile {known}\n"
    )
    transport = connect(SshHost("inner", config_file=str(config)))

    answer = await transport.run(Command(("sh", "-c", "echo $SSH_CONNECTION")), _TIMEOUT_S)

    assert answer.stdout.split()[3] == str(inner.port)
    assert jump.sessions()
    jump.stop()
    await eventually(lambda: complains(transport, "gate: "))


async def test_jump_host_has_to_be_known_too(
    make_server: MakeServer, connect: Connect, ssh_key: Path, tmp_path: Path
) -> None:
    jump, inner = make_server(), make_server()
    config = tmp_path / "config"
    config.write_text(
        f"Host inner\n  HostName 127.0.0.1\n  Port {inner.port}\n  ProxyJump 127.0.0.1:{jump.port}\n"
        f"Host *\n  IdentityFile {ssh_key}\n  UserKnownHostsFile {inner.known_hosts}\n"
    )
    transport = connect(SshHost("inner", config_file=str(config)))

    with pytest.raises(HostKeyRefused, match=rf"127.0.0.1: .*ssh -p {jump.port} "):
        await transport.run(_HELLO, _TIMEOUT_S)


@pytest.mark.parametrize("jump", ["gate:ssh", "gate:", "me@2001:db8::7", "[::1", "gate:65536", "gate:-1"])
async def test_jump_host_that_is_not_understood_is_named(connect: Connect, tmp_path: Path, jump: str) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host inner\n  ProxyJump {jump}\n")
    transport = connect(SshHost("inner", config_file=str(config)))

    with pytest.raises(SiteUnreachable, match=f"ProxyJump \\({re.escape(jump)}\\) is not understood"):
        await transport.run(_HELLO, _TIMEOUT_S)


@pytest.mark.parametrize("jump", ["{user}@[::1]:{port}", "ssh://{user}@127.0.0.1:{port}"])
async def test_jump_host_may_be_an_address_in_brackets_or_a_uri(
    make_server: MakeServer, connect: Connect, tmp_path: Path, jump: str
) -> None:
    port = make_server().port
    config = tmp_path / "config"
    config.write_text(
        f"Host inner\n  ProxyJump {jump.format(user='somebody', port=port)}\n"
        f"Host *\n  UserKnownHostsFile /dev/null\n"
    )
    transport = connect(SshHost("inner", config_file=str(config)))

    # It was asked there, or would have been.
    with pytest.raises(SiteUnreachable, match=rf"ssh -p {port} somebody@(::1|127\.0\.0\.1)"):
        await transport.run(_HELLO, _TIMEOUT_S)


async def test_our_environment_is_not_sent(
    make_server: MakeServer, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBMGR_TOKEN", "secret")
    config = tmp_path / "config"
    config.write_text("SendEnv JOBMGR_TOKEN\nSetEnv JOBMGR_URL=secret\nRemoteCommand false\n")
    transport = connect(make_server("AcceptEnv *").host(config_file=str(config)))

    answer = await transport.run(Command(("env",)), _TIMEOUT_S)

    assert "PATH=" in answer.stdout
    assert "secret" not in answer.stdout


# What the host says besides


async def test_banner_is_no_part_of_an_answer(
    make_server: MakeServer, connect: Connect, tmp_path: Path
) -> None:
    banner = tmp_path / "banner"
    banner.write_text("Welcome\n")

    answer = await connect(make_server(f"Banner {banner}").host()).run(_HELLO, _TIMEOUT_S)

    assert answer == _HELLO_BACK


async def test_noise_of_the_shells_start_is_no_part_of_an_answer(
    make_server: MakeServer, connect: Connect
) -> None:
    answer = await connect(make_server(_NOISY.format("")).host()).run(_HELLO, _TIMEOUT_S)

    assert answer == _HELLO_BACK


async def test_shell_that_shows_what_it_runs_does_not_spoil_an_answer(
    make_server: MakeServer, connect: Connect
) -> None:
    transport = connect(make_server(_NOISY.format("set -xv; exec 2>&1; ")).host())

    answer = await transport.run(Command(("cat",), "text"), _TIMEOUT_S)

    assert answer.stdout.endswith("text")
    assert "noise" not in answer.stdout


async def test_shell_that_never_comes_to_the_command_is_said_so(
    make_server: MakeServer, connect: Connect
) -> None:
    server = make_server('ForceCommand echo "This account is not available."; exit 1')

    with pytest.raises(SiteUnreachable, match=r"ended with 1 before .*This account is not available"):
        await connect(server.host()).run(_HELLO, _TIMEOUT_S)


async def test_command_that_no_login_shell_takes_is_refused(ssh_server: SshServer, connect: Connect) -> None:
    with pytest.raises(InvalidRequest, match="more than a login shell takes"):
        await connect(ssh_server.host()).run(Command(("echo", "x" * 200_000)), _TIMEOUT_S)
