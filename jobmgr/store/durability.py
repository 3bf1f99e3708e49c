"""Whether the database keeps what it was told: checked at start, because nobody notices it later in time."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa

from jobmgr.errors import StoreError

# File systems on which SQLite's shared memory and locks are not shared between hosts.
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "afs", "fuse.sshfs"}
)
_MOUNTS = Path("/proc/self/mounts")


def check_server(connection: sa.Connection) -> None:
    """Raise StoreError if this PostgreSQL may forget what it has confirmed."""
    for setting in ("fsync", "synchronous_commit"):
        value = connection.exec_driver_sql(f"SHOW {setting}").scalar()
        if value == "off":
            raise StoreError(f"the server has {setting} off and may forget confirmed jobs; switch it on")


def check_file(database: Path, mounts: Path = _MOUNTS) -> None:
    """Raise StoreError if the file lies on a network file system, where SQLite's WAL is corrupted sooner or later."""
    kind = file_system(database.absolute(), mounts)
    if is_network(kind):
        raise StoreError(
            f"{database} lies on a network file system ({kind}), where SQLite is not safe; "
            "put it on a local disk with --database, or use PostgreSQL"
        )


def is_network(kind: str | None) -> bool:
    """Whether file systems of this type are shared between machines."""
    return kind in _NETWORK


def file_system(path: Path, mounts: Path = _MOUNTS) -> str | None:
    """The type of the file system that holds this absolute `path`; None where the system does not tell."""
    try:
        lines = os.fsdecode(mounts.read_bytes()).split("\n")
    except OSError:
        return None
    holder: tuple[int, str] | None = None
    for line in lines:
        # Source: proc_pid_mounts(5). The kernel writes blanks and \n as octal numbers, and all else that ends lines for
        # Python as it is: whoever may mount something chooses the name.
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        directory, kind = Path(fields[1].replace("\\040", " ")), fields[2]
        # Of two on the same point the later one is on top.
        if path.is_relative_to(directory) and (holder is None or len(directory.parts) >= holder[0]):
            holder = len(directory.parts), kind
    return holder[1] if holder else None
