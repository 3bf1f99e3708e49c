"""Services as processes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest_asyncio

from tests.node import Node


@pytest_asyncio.fixture
async def node(postgresql_url: str, tmp_path: Path) -> AsyncIterator[Callable[..., Node]]:
    """Makes services on one database, each with its own directories unless told otherwise."""
    async with AsyncExitStack() as stack:

        def make(name: str, **options: Any) -> Node:
            made = Node(tmp_path / name, postgresql_url, **options)
            stack.push_async_callback(made.close)
            return made

        yield make
