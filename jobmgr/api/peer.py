"""Which user is at the other end of a loopback connection, as the Linux kernel knows it."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from pathlib import Path

Address = tuple[str, int]

# What ids outside our user namespace are shown as: it may be anybody.
OVERFLOW_UID = 65534
_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}


def owner(peer: Address, ours: Address, tables: Mapping[int, Path] = _TABLES) -> int | None:
    """The uid that owns the socket at `peer`, whose other end is our socket at `ours`.

    None if either is not a loopback address, or the socket is not there or has no owner any more. Reads the
    tables of IPv4 and IPv6 connections (/proc/net/tcp, proc(5)), so it belongs in a thread.
    """
    ends = _plain(peer[0]), _plain(ours[0])
    if not (ends[0].is_loopback and ends[1].is_loopback):
        return None
    for version, row in _rows(ends[0], peer[1], ends[1], ours[1]):
        # The kernel hands the table out in pieces, and a row can slip through while others vanish.
        for _ in range(2):
            uid = _find(tables[version], row)
            if uid is not None:
                return uid
    return None


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _rows(
    peer: ipaddress.IPv4Address | ipaddress.IPv6Address,
    peer_port: int,
    ours: ipaddress.IPv4Address | ipaddress.IPv6Address,
    our_port: int,
) -> list[tuple[int, str]]:
    rows: list[tuple[int, str]] = [
        (peer.version, f" {_hex(peer.packed)}:{peer_port:04X} {_hex(ours.packed)}:{our_port:04X} ")
    ]
    if peer.version == 4:
        # An IPv6 socket that connected to an IPv4 address stands in the other table.
        prefix = bytes(10) + b"\xff\xff"
        mapped = _hex(prefix + peer.packed), _hex(prefix + ours.packed)
        rows.append((6, f" {mapped[0]}:{peer_port:04X} {mapped[1]}:{our_port:04X} "))
    return rows


def _hex(packed: bytes) -> str:
    # Each 32-bit word is printed as a number in the machine's byte order.
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))


def _find(table: Path, row: str) -> int | None:
    try:
        text = table.read_text(encoding="ascii")
    except OSError:
        return None
    start = text.find(row)
    if start < 0:
        return None
    columns = text[start + len(row) : text.find("\n", start)].split()
    # st, queues, timer, retransmits, uid, timeout, inode. A socket whose process has closed it or is gone is
    # shown with inode 0 and uid 0, which must not pass for root.
    uid, inode = int(columns[4]), int(columns[6])
    return uid if inode and uid != OVERFLOW_UID else None
