"""Tables of the kernel: rows that are cut off, and names in them that anybody on the machine may choose."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.api import peer
from jobmgr.client import listener
from jobmgr.executors import process, sockets
from jobmgr.store import durability
from tests.fuzz import garbage

# Recorded from Linux 6.18.
_CONNECTIONS = [
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n",
    b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 14030984 1 0000\n",
    b"   1: 0100007F:85D5 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 407084 1 00000000d9\n",
    b"   2: 0100007F:85D6 0100007F:1F90 05 00000000:00000000 03:00001770 00000000     0        0 0 3 00000000c1\n",
]
_STAT = [
    b"2815 (cat) R 2730 2730 24641 0 -1 4194304 101 0 0 0 0 0 0 0 20 0 1 0 5768158 3133440 414 18446744073709551615\n",
    b"7 (a) b (c) S 1 7 7 0 -1 4194368 0 0 0 0 0 0 0 0 20 0 1 0 12 0 0 1\n",
]
_MOUNTS = [
    b"/dev/root / ext4 rw,relatime 0 0\n",
    b"proc /proc proc rw,relatime 0 0\n",
    b"server:/home /home\\040of nfs4 rw,vers=4.2 0 0\n",
    b"a /tmp/a\x0c fuse.a rw 0 0\n",
    b"b /tmp/b\r fuse.b rw 0 0\n",
    "c /tmp/c\u2028 fuse.c rw 0 0\n".encode(),
]
_SOCKETS = [
    b"Num       RefCount Protocol Flags    Type St Inode Path\n",
    b"000000004c7f03af: 00000003 00000000 00000000 0001 03 14113991\n",
    b"000000002b246da7: 00000002 00000000 00010000 0001 01 14030984 /data/sockets/w-63144c250a40\n",
    b"000000007af401d4: 00000002 00000000 00000000 0001 03 14373984 /data/sockets/w-63144c250a40\n",
]
_PEER, _OURS = ("127.0.0.1", 0x85D5), ("127.0.0.1", 0x1F90)


def tables(rows: list[bytes]) -> st.SearchStrategy[bytes]:
    """These rows, one of them broken perhaps, or the whole of them."""
    some = st.lists(st.sampled_from(rows) | garbage.broken(rows), max_size=6).map(b"".join)
    return garbage.broken([b"".join(rows)]) | some.map(lambda others: others + b"".join(rows))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table"


@given(told=tables(_CONNECTIONS))
def test_a_connection_is_a_users_or_nobodys(table: Path, told: bytes) -> None:
    table.write_bytes(told)

    (found,) = peer.owners([(_PEER, _OURS)], {4: table, 6: table})

    assert found is None or type(found) is int


@given(told=tables(_CONNECTIONS))
def test_who_listens_is_known_or_not(table: Path, told: bytes) -> None:
    table.write_bytes(told)

    assert listener.is_listening_alone(1000, *_OURS, {4: table, 6: table}) in (True, False)


@given(told=garbage.broken(_STAT))
def test_a_process_is_understood_or_cannot_be_seen(told: bytes) -> None:
    try:
        found = process.stat_of(7, told)
    except OSError:
        return

    assert all(type(number) is int for number in (found.parent, found.session, found.start_ticks))


@given(told=tables(_MOUNTS))
def test_a_file_system_is_known_or_not(table: Path, told: bytes) -> None:
    table.write_bytes(told)

    kind = durability.file_system(Path("/home of/me/jobs.db"), table)

    assert kind is None or isinstance(kind, str)
    durability.is_network(kind)


@given(told=tables(_SOCKETS))
def test_who_listens_at_a_path_is_known_or_not(table: Path, told: bytes) -> None:
    table.write_bytes(told)

    assert all(found.connections >= 0 for found in sockets.listeners(table).values())


def test_the_examples_are_what_the_kernel_writes(table: Path) -> None:
    """Else the tests above would try nothing."""
    table.write_bytes(b"".join(_CONNECTIONS))
    assert peer.owners([(_PEER, _OURS)], {4: table, 6: table}) == [1000]
    assert listener.is_listening_alone(1000, *_OURS, {4: table, 6: table})
    assert [process.stat_of(7, told).start_ticks for told in _STAT] == [5768158, 12]
    table.write_bytes(b"".join(_MOUNTS))
    assert durability.file_system(Path("/home of/me/jobs.db"), table) == "nfs4"
    assert durability.file_system(Path("/var/jobs.db"), table) == "ext4"
    table.write_bytes(b"".join(_SOCKETS))
    assert sockets.listeners(table) == {"/data/sockets/w-63144c250a40": sockets.Listener(14030984, 1)}


def test_a_socket_of_somebody_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as theirs, socket.socket(socket.AF_UNIX) as ours:
        theirs.bind(f"x\nb c d {os.getpid()}z f g h i")
        theirs.listen()
        ours.bind(f"ours-{os.getpid()}")
        ours.listen()

        assert f"ours-{os.getpid()}" in sockets.listeners()
