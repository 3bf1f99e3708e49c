"""Who polls and has not read what it was told is waited for when it sends something."""

from __future__ import annotations

import asyncio
from typing import Any

import engineio
import pytest

from jobmgr.api import inbox
from jobmgr.api.inbox import Inbox
from jobmgr.api.keys import CALLER
from jobmgr.api.listener import MAX_BACKLOG
from jobmgr.api.packets import Babble
from jobmgr.api.refusals import Refusals
from jobmgr.api.throttle import Throttle
from jobmgr.domain.access import Caller, Principal, Role

PONG = engineio.packet.Packet(engineio.packet.PONG)


class Client:
    """What Engine.IO has of a client that polls, and is behind."""

    upgraded = False

    def __init__(self) -> None:
        self.closed = False
        self.heard: list[Any] = []
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        for number in range(MAX_BACKLOG + 1):
            self.queue.put_nowait(number)

    async def receive(self, packet: Any) -> None:
        self.heard.append(packet)

    async def handle_get_request(self, environ: Any) -> None:
        """Its polls are not asked for here."""

    async def handle_post_request(self, environ: Any) -> None:
        """Neither are these."""

    async def close(self, **_how: Any) -> None:
        self.closed = True


@pytest.fixture
def client() -> Client:
    found = Client()
    first: Any = {CALLER: Caller(Principal("ann", Role.USER), "127.0.0.1")}
    Inbox(found, first, lambda: None, Throttle(), Refusals(), Babble(lambda: None))
    return found


async def test_who_polls_meanwhile_stays(client: Client) -> None:
    sending = asyncio.create_task(client.receive(PONG))
    while not client.queue.empty():
        await asyncio.sleep(0)
        client.queue.get_nowait()
        client.queue.task_done()
    await sending

    assert (client.closed, client.heard) == (False, [PONG])


async def test_who_does_not_poll_is_gone(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "PATIENCE_S", 0.05)

    await client.receive(PONG)

    assert (client.closed, client.heard) == (True, [PONG])
