from __future__ import annotations

import asyncpg
import pytest

from benchmarks import postgresql
from benchmarks.skip import Skipped


async def _settings(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        names = ("fsync", "synchronous_commit", "full_page_writes")
        return [await connection.fetchval(f"SHOW {name}") for name in names]
    finally:
        await connection.close()


async def test_private_server_is_durable_and_gone_afterwards() -> None:
    try:
        with postgresql.server() as url:
            settings = await _settings(url)
    except Skipped as reason:
        pytest.skip(str(reason))

    assert settings == ["on", "on", "on"]
    with pytest.raises(OSError, match=r"No such file|refused"):
        await asyncpg.connect(url)
