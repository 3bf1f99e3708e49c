"""Whose turn it is to read."""

from __future__ import annotations

import asyncio

from jobmgr.manager.turns import AT_ONCE, Turns
from tests.patience import eventually


async def test_of_each_so_many_read_at_once_and_the_others_wait_in_order() -> None:
    turns, go, begun = Turns(), asyncio.Event(), []

    async def read(who: str, number: int) -> None:
        async with turns.turn(who):
            begun.append((who, number))
            await go.wait()

    reads = [asyncio.create_task(read("ann", number)) for number in range(5)]
    reads.append(asyncio.create_task(read("zoe", 0)))
    await eventually(lambda: len(begun) == AT_ONCE + 1)

    assert begun == [("ann", 0), ("ann", 1), ("zoe", 0)]
    assert [turns.waiting(who) for who in ("ann", "zoe", "nobody")] == [3, 0, 0]
    go.set()
    await asyncio.gather(*reads)
    assert begun[3:] == [("ann", 2), ("ann", 3), ("ann", 4)]
    assert turns.waiting("ann") == 0


async def test_who_waits_no_longer_takes_no_turn() -> None:
    turns, go = Turns(), asyncio.Event()

    async def read() -> None:
        async with turns.turn("ann"):
            await go.wait()

    reads = [asyncio.create_task(read()) for _ in range(AT_ONCE + 2)]
    await eventually(lambda: turns.waiting("ann") == 2)

    reads[-1].cancel()
    await eventually(lambda: turns.waiting("ann") == 1)
    go.set()
    await asyncio.gather(*reads[:-1])

    assert turns.waiting("ann") == 0
