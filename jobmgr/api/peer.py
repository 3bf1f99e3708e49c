"""Which user is at the other end of a connection on this machine, as the Linux kernel knows it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from jobmgr.client.listener import OVERFLOW_UID, TABLES, IpAddress, mapped, written

_CREDENTIALS = struct.Struct("iII")
Address = tuple[str, int]
Ends = tuple[Address, Address]


class Owners:
    """Looks up who owns connections, for all that wait at the same time in one go.

    The kernel hands out all that it has each time: where many connect, a look for each would take their number squared.
    """

    def __init__(self) -> None:
        self._waiting: dict[Ends, asyncio.Future[int | None]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def of(self, peer: Address, ours: Address) -> int | None:
        """As `owners` says of one connection."""
        found = self._waiting.setdefault((peer, ours), asyncio.get_running_loop().create_future())
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(found)

    async def _look(self) -> None:
        try:
            while self._waiting:
                # Only whoever is here before the look begins is in what it sees.
                waiting, self._waiting = self._waiting, {}
                found = await asyncio.to_thread(owners, list(waiting))
                for future, uid in zip(waiting.values(), found, strict=True):
                    future.set_result(uid)
        finally:
            self._looking = None


def is_unix(transport: asyncio.BaseTransport) -> bool:
    """Whether the connection came over a Unix socket."""
    end = transport.get_extra_info("socket")
    return end is not None and end.family == socket.AF_UNIX


def unix_owner(transport: asyncio.BaseTransport) -> int | None:
    """The uid that connected to our Unix socket, as the kernel noted it then (SO_PEERCRED, unix(7)); None: unknown."""
    end = transport.get_extra_info("socket")
    try:
        said = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return None
    _pid, uid, _gid = _CREDENTIALS.unpack(said)
    return None if uid == OVERFLOW_UID else int(uid)


def owners(connections: Sequence[Ends], tables: Mapping[int, Path] = TABLES) -> list[int | None]:
    """The uids that own the sockets at the peers' ends of connections to us, each as the peer's and our address.

    None if either is not a loopback address, or the socket is not there or has no owner any more. Reads the
    tables of IPv4 and IPv6 connections (/proc/net/tcp, proc(5)), so it belongs in a thread.
    """
    rows = [_rows(peer, ours) for peer, ours in connections]
    found: list[int | None] = [None] * len(connections)
    # The kernel hands a table out in pieces, and a row can slip through while others vanish.
    for _ in range(2):
        for version, table in tables.items():
            wanted = [
                (index, row)
                for index, of_one in enumerate(rows)
                if found[index] is None
                for of_version, row in of_one
                if of_version == version
            ]
            text = _read(table) if wanted else ""
            for index, row in wanted:
                found[index] = _find(text, row)
    return found


def _plain(text: str) -> IpAddress:
    address = ipaddress.ip_address(text.partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None)
    return address if inner is None else inner


def _rows(peer: Address, ours: Address) -> list[tuple[int, str]]:
    """How a connection begins in which table; nothing for one that does not stay on this machine."""
    ends = _plain(peer[0]), _plain(ours[0])
    if not (ends[0].is_loopback and ends[1].is_loopback):
        return []
    rows: list[tuple[int, str]] = [
        (ends[0].version, f" {written(ends[0].packed, peer[1])} {written(ends[1].packed, ours[1])} ")
    ]
    if isinstance(ends[0], ipaddress.IPv4Address) and isinstance(ends[1], ipaddress.IPv4Address):
        # An IPv6 socket that connected to an IPv4 address stands in the other table.
        rows.append((6, f" {written(mapped(ends[0]), peer[1])} {written(mapped(ends[1]), ours[1])} "))
    return rows


def _read(table: Path) -> str:
    try:
        return table.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _find(text: str, row: str) -> int | None:
    start = text.find(row)
    if start < 0:
        return None
    end = text.find("\n", start)
    columns = text[start + len(row) : end if end >= 0 else None].split()
    try:
        # st, queues, timer, retransmits, uid, timeout, inode.
        uid, inode = int(columns[4]), int(columns[6])
    except (IndexError, ValueError):
        return None
    # A socket whose process has closed it or is gone is shown with inode 0 and uid 0, which must not pass for root.
    return uid if inode and uid != OVERFLOW_UID else None
