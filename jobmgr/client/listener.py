"""Whose program listens at an address of this machine, as the Linux kernel knows it."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# What ids outside our user namespace are shown as: it may be anybody.
OVERFLOW_UID = 65534
TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}
_MAPPED = bytes(10) + b"\xff\xff"
_LISTENING = "0A"


def is_listening_alone(uid: int, host: str, port: int, tables: Mapping[int, Path] = TABLES) -> bool:
    """Whether somebody listens at `host`:`port` of this machine, and all who do are the user `uid`.

    An address of another machine has no listeners here. Reads the tables of IPv4 and IPv6 sockets (/proc/net/tcp,
    proc(5)).
    """
    if uid == OVERFLOW_UID:
        return False
    wanted = {written(packed, port) for address in _addresses(host) for packed in _bound(address)}
    try:
        owners = {owner for table in tables.values() for local, owner in _listeners(table) if local in wanted}
    except (IndexError, ValueError):
        # Who else listens may stand in what cannot be read.
        return False
    return owners == {uid}


def written(packed: bytes, port: int) -> str:
    """An address as it stands in the tables."""
    # Each 32-bit word is printed as a number in the machine's byte order.
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"


def mapped(address: ipaddress.IPv4Address) -> bytes:
    """An IPv4 address as an IPv6 socket has it."""
    return _MAPPED + address.packed


def _addresses(host: str) -> set[IpAddress]:
    if host == "localhost":
        return {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found}


def _bound(address: IpAddress) -> Iterator[bytes]:
    """What a socket that gets connections to `address` can be bound to."""
    yield address.packed
    if isinstance(address, ipaddress.IPv4Address):
        yield mapped(address)
    # Who listens at all addresses listens at those of this machine; of others it is unknown whose they are.
    if address.is_loopback:
        yield bytes(4)
        yield bytes(16)


def _listeners(table: Path) -> Iterator[tuple[str, int]]:
    try:
        rows = table.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return
    for row in rows:
        # sl, local address, remote address, st, queues, timer, retransmits, uid.
        columns = row.split(maxsplit=8)
        if columns[3] == _LISTENING:
            yield columns[1], int(columns[7])
