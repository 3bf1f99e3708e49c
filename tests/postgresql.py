"""A throw-away PostgreSQL server: made in a temporary folder, reached by a Unix socket in it, removed at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUPERUSER = "postgres"
_START_TIMEOUT_S = 60.0
_UNPRIVILEGED = ("postgres", "nobody")


def find_binaries() -> Path | None:
    """Where `initdb` and `postgres` lie: on the PATH or where Debian puts them, the newest version first."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class Cluster:
    """A server that can be stopped and started. It does what a real one does, fsync included."""

    def __init__(self, binaries: Path, directory: Path, user: str | None) -> None:
        self.binaries = binaries
        self.directory = directory
        self._user = user
        self._server: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The URL of a database, as users write it."""
        return f"postgresql://{SUPERUSER}@/{database}?host={self.directory}"

    def execute(self, *statements: str, database: str = "postgres") -> str:
        """Run statements one by one, each in its own transaction; answers the rows of all, unaligned."""
        commands = [part for statement in statements for part in ("-c", statement)]
        connection = ["-h", str(self.directory), "-U", SUPERUSER, "-d", database]
        program = [str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run([*program, *connection, *commands], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self) -> None:
        """Start the server and wait until it answers; after a crash it recovers first."""
        with (self.directory / "log").open("ab") as log:
            self._server = _start(self.binaries, self.directory, self._user, log.fileno())
        _wait_until_ready(self.binaries, self.directory, self._server)

    def stop(self, *, is_immediate: bool = False) -> None:
        """Stop the server: sessions are ended first, or (immediate) everything is dropped as in a crash."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT if is_immediate else signal.SIGINT)
            self._server.wait(timeout=30)
            self._server = None


# Ends the server and removes its files when the other end of its standard input is gone. A server that was stopped
# has removed the file with its number.
_GUARD = """
cat >/dev/null
read -r server 2>/dev/null <"$0/data/postmaster.pid" && kill -INT "$server"
while [ -n "$server" ] && kill -0 "$server" 2>/dev/null; do sleep 0.1; done
rm -rf "$0"
"""


@contextmanager
def running_cluster(binaries: Path) -> Iterator[Cluster]:
    """Start a server, stop it by its own process id, and remove its files; also if the tests are killed."""
    directory = Path(tempfile.mkdtemp(prefix="jobmgr-pg-", dir=fast_directory()))
    try:
        user = _hand_over(directory)
        _initialise(binaries, directory, user)
        cluster = Cluster(binaries, directory, user)
        with _guarded(cluster):
            yield cluster
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _guarded(cluster: Cluster) -> Iterator[None]:
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, str(cluster.directory)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        cluster.start()
        yield
    finally:
        # The guard first: later the number of the server may be that of another process.
        guard.kill()
        guard.communicate()
        cluster.stop()


def fast_directory() -> str | None:
    """Memory, where there is plenty: hundreds of databases are made and dropped, each with its fsyncs."""
    memory = Path("/dev/shm")
    if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 2**30:
        return str(memory)
    return None


def _hand_over(directory: Path) -> str | None:
    """Give `directory` to the user the server runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next(known[name] for name in _UNPRIVILEGED if name in known)
    os.chown(directory, entry.pw_uid, entry.pw_gid)
    return entry.pw_name


def _initialise(binaries: Path, directory: Path, user: str | None) -> None:
    options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={SUPERUSER}"]
    done = subprocess.run(
        [str(binaries / "initdb"), *options, "-D", str(directory / "data")],
        cwd=directory,
        user=user,
        extra_groups=None if user is None else [],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _start(binaries: Path, directory: Path, user: str | None, log: int) -> subprocess.Popen[bytes]:
    # No TCP port: others on this machine cannot reach the server, and nothing can collide.
    settings = ("listen_addresses=", f"unix_socket_directories={directory}", "max_connections=200")
    options = [part for setting in settings for part in ("-c", setting)]
    return subprocess.Popen(
        [str(binaries / "postgres"), "-D", str(directory / "data"), *options],
        cwd=directory,
        user=user,
        extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # an interrupt of the tests must not end it before its clients
    )


def _wait_until_ready(binaries: Path, directory: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    ask = [str(binaries / "pg_isready"), "-q", "-h", str(directory), "-U", SUPERUSER]
    while subprocess.run(ask, check=False).returncode != 0:
        log = (directory / "log").read_text(errors="replace")
        assert server.poll() is None, f"PostgreSQL ended:\n{log}"
        assert time.monotonic() < deadline, f"PostgreSQL is not ready after {_START_TIMEOUT_S:g} s:\n{log}"
        time.sleep(0.02)
