"""A throw-away SSH server: its own keys and configuration in a folder, on a free port of the loopback interface."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from jobmgr.executors import process
from jobmgr.transports.host import SshHost
from tests import port

_STARTS_WITHIN_S = 30.0
_SEPARATION = Path("/run/sshd")  # where a server of root's confines what talks to strangers


def find_program() -> str | None:
    """Where sshd lies; it has to be started by its full path."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def make_key(file: Path, passphrase: str = "") -> Path:
    """A new key; its public half is beside it."""
    file.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "jobmgr-test", "-f", str(file)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return file


class SshServer:
    """One host: a port. It lets in who has `key`, and is known by the key that it had at first."""

    def __init__(self, program: str, folder: Path, key: Path, *lines: str) -> None:
        self.folder = folder
        (self.port,) = port.free(1)
        self.key = key
        self.known_hosts = folder / "known_hosts"
        self._program = program
        self._lines = lines
        self._server: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self.make_host_key()
        self.trust()

    def host(self, **fields: Any) -> SshHost:
        """How it is reached; `fields` say otherwise."""
        given = {
            "name": "127.0.0.1",
            "user": getpass.getuser(),
            "port": self.port,
            "key_file": str(self.key),
            "known_hosts_file": str(self.known_hosts),
            "config_file": os.devnull,
            **fields,
        }
        return SshHost(**given)

    def make_host_key(self) -> None:
        """The host is set up anew."""
        make_key(self.folder / "host_key")

    def trust(self) -> None:
        """Somebody connected by hand and found that it is the right one."""
        public = (self.folder / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")

    def trust_at(self, port: int) -> None:
        """The same host, seen at another port too."""
        public = (self.folder / "host_key.pub").read_text()
        with self.known_hosts.open("a") as file:
            file.write(f"[127.0.0.1]:{port} {public}")

    def start(self) -> None:
        """Start it, and wait until it says who it is."""
        if os.geteuid() == 0:
            _SEPARATION.mkdir(mode=0o755, exist_ok=True)
        (self.folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        configuration = self.folder / "configuration"
        configuration.write_text("\n".join([*self._lines, *self._common(), ""]))
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._program, "-D", "-e", "-f", str(configuration)], stdin=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            assert self._server.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "sshd did not answer in time"
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it with all that it serves, as a machine that is switched off."""
        if self._server is not None:
            sessions = self.sessions()
            self._server.kill()
            self._server.wait(timeout=30)
            process.send_signals(sessions, signal.SIGKILL)
            self._server = None

    def sessions(self) -> list[process.ProcessStat]:
        """The processes of sshd that serve a connection."""
        if self._server is None:
            return []
        below = process.below((self._server.pid,), process.living_processes())
        return [
            stat
            for stat in below
            if stat.pid != self._server.pid
            and process.arguments_of(stat.pid)[:1][:1] != []
            and process.arguments_of(stat.pid)[0].startswith(b"sshd")
        ]

    def cut(self) -> None:
        """Kill what serves the connections, and nothing else."""
        sessions = self.sessions()
        assert sessions
        process.send_signals(sessions, signal.SIGKILL)

    def _common(self) -> list[str]:
        return [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder}/host_key",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "MaxStartups 100",
            "LogLevel INFO",
        ]

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False
