"""A private PostgreSQL server for one run, as durable as it comes: its files are on disk, and it syncs them."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import scratch
from benchmarks.skip import Skipped, last_lines

_SUPERUSER = "postgres"
_INITDB = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", f"--username={_SUPERUSER}")
_UNPRIVILEGED = ("postgres", "nobody")
_STARTS_WITHIN_S = 60.0
_STOPS_WITHIN_S = 60.0


@contextmanager
def server() -> Iterator[str]:
    """The URL of an empty database on a server of this run, reached by a Unix socket only. Raises Skipped."""
    binaries = _binaries()
    directory = scratch.new_directory()
    user = _hand_over(directory)
    _run([str(binaries / "initdb"), "-D", str(directory / "data"), *_INITDB], directory, user)
    with (directory / "log").open("wb") as log:
        # A session of its own: an interrupt of the run must not end the server before its clients.
        process = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(directory / "data"), *_settings(directory)],
            cwd=directory,
            user=user,
            extra_groups=_groups(user),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _await_ready(binaries, directory, process)
        yield f"postgresql://{_SUPERUSER}@/postgres?host={directory}"
    finally:
        process.send_signal(signal.SIGINT)  # ends the sessions first, then itself
        process.wait(_STOPS_WITHIN_S)


def _settings(directory: Path) -> list[str]:
    settings = ("listen_addresses=", f"unix_socket_directories={directory}")
    return [part for setting in settings for part in ("-c", setting)]


def _binaries() -> Path:
    """Where `initdb` and `postgres` lie: on the PATH or where Debian puts them, the newest version first."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise Skipped("initdb is neither on the PATH nor below /usr/lib/postgresql: install PostgreSQL")
    return found[-1].parent


def _hand_over(directory: Path) -> str | None:
    """Give `directory` to the user the server runs as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = next(known[name] for name in _UNPRIVILEGED if name in known)
    os.chown(directory, entry.pw_uid, entry.pw_gid)
    return entry.pw_name


def _groups(user: str | None) -> list[str | int] | None:
    return None if user is None else []


def _run(command: list[str], directory: Path, user: str | None) -> None:
    done = subprocess.run(
        command,
        cwd=directory,
        user=user,
        extra_groups=_groups(user),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Skipped(f"{command[0]} failed: {last_lines(done.stderr)}")


def _await_ready(binaries: Path, directory: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    ask = [str(binaries / "pg_isready"), "-q", "-h", str(directory), "-U", _SUPERUSER]
    while subprocess.run(ask, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            log = (directory / "log").read_text(errors="replace")
            raise Skipped(f"PostgreSQL did not start: {last_lines(log)}")
        time.sleep(0.05)
