"""The kernel's table of connections."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from jobmgr.api import peer
from jobmgr.client.listener import TABLES

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/tcp is Linux's")

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


@pytest.fixture(params=["127.0.0.1", "::1"])
def connection(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair of sockets: the service's end and the client's."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listener, socket.socket(family) as client:
        try:
            listener.bind((request.param, 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
        listener.listen()
        client.connect(listener.getsockname())
        ours, _ = listener.accept()
        with ours:
            yield ours, client


def owner(peer_end: peer.Address, our_end: peer.Address, tables: Mapping[int, Path] = TABLES) -> int | None:
    (found,) = peer.owners([(peer_end, our_end)], tables)
    return found


def test_owner_of_a_connection_is_found(connection: tuple[socket.socket, socket.socket]) -> None:
    ours, _ = connection

    assert owner(ours.getpeername()[:2], ours.getsockname()[:2]) == os.getuid()


def test_closed_socket_has_no_owner(connection: tuple[socket.socket, socket.socket]) -> None:
    ours, client = connection
    client.close()

    assert owner(ours.getpeername()[:2], ours.getsockname()[:2]) is None


def test_half_closed_socket_still_has_its_owner(connection: tuple[socket.socket, socket.socket]) -> None:
    ours, client = connection
    client.shutdown(socket.SHUT_WR)

    assert owner(ours.getpeername()[:2], ours.getsockname()[:2]) == os.getuid()


def test_address_of_another_machine_has_no_owner() -> None:
    assert owner(("10.0.0.1", 4000), ("127.0.0.1", 8080)) is None
    assert owner(("127.0.0.1", 4000), ("10.0.0.1", 8080)) is None


def find(tmp_path: Path, row: str) -> int | None:
    """The owner that this row of the table shows."""
    tables = {4: tmp_path / "tcp", 6: tmp_path / "tcp6"}
    tables[4].write_text(f"{HEADER}   0: 0100007F:85D5 0100007F:B640 {row}\n")
    tables[6].write_text(HEADER)
    return owner(("127.0.0.1", 0x85D5), ("127.0.0.1", 0xB640), tables)


def test_owner_stands_in_the_row(tmp_path: Path) -> None:
    # Recorded from Linux 6.18.
    assert (
        find(
            tmp_path,
            "01 00000000:00000000 00:00000000 00000000     7        0 407084 1 00000000d9 20 0 0 10 -1",
        )
        == 7
    )


def test_socket_whose_process_is_gone_is_not_roots(tmp_path: Path) -> None:
    # Recorded from Linux 6.18: FIN_WAIT2 after close(2).
    assert (
        find(tmp_path, "05 00000000:00000000 03:00001770 00000000     0        0 0 3 00000000c11404ba")
        is None
    )


def test_user_from_outside_our_namespace_is_nobody(tmp_path: Path) -> None:
    assert (
        find(tmp_path, "01 00000000:00000000 00:00000000 00000000 65534        0 407084 1 00000000d9") is None
    )


async def test_many_connections_are_one_look(
    connection: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = connection
    looks: list[int] = []
    look = peer.owners

    def counted(connections: Sequence[peer.Ends]) -> list[int | None]:
        looks.append(len(connections))
        return look(connections)

    monkeypatch.setattr(peer, "owners", counted)
    everybody = peer.Owners()
    ends = ours.getpeername()[:2], ours.getsockname()[:2]
    strangers = [(("127.0.0.1", port), ends[1]) for port in range(1, 100)]

    found = await asyncio.gather(*(everybody.of(*each) for each in [ends, *strangers, ends]))

    assert (found[0], found[-1]) == (os.getuid(), os.getuid())
    assert looks == [100]
