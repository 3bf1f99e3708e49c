"""Which user is at the other end of a loopback connection, as the Linux kernel knows it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path

from jobmgr.client.listener import OVERFLOW_UID, TABLES, IpAddress, mapped, written

Address = tuple[str, int]


def owner(peer: Address, ours: Address, tables: Mapping[int, Path] = TABLES) -> int | None:
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


def _plain(text: str) -> IpAddress:
    address = ipaddress.ip_address(text.partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None)
    return address if inner is None else inner


def _rows(peer: IpAddress, peer_port: int, ours: IpAddress, our_port: int) -> list[tuple[int, str]]:
    rows: list[tuple[int, str]] = [
        (peer.version, f" {written(peer.packed, peer_port)} {written(ours.packed, our_port)} ")
    ]
    if isinstance(peer, ipaddress.IPv4Address) and isinstance(ours, ipaddress.IPv4Address):
        # An IPv6 socket that connected to an IPv4 address stands in the other table.
        rows.append((6, f" {written(mapped(peer), peer_port)} {written(mapped(ours), our_port)} "))
    return rows


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
