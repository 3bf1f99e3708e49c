"""What is said of jobs that are waited for."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobmgr.client import remarks
from jobmgr.client.client import Client
from jobmgr.client.remarks import Remarks
from jobmgr.domain.status import Status
from jobmgr.domain.why import Reason
from tests.patience import eventually


class Service:
    """Answers about jobs that all wait, by priority, each for a reason of its own."""

    def __init__(self, reasons: dict[str, Reason]) -> None:
        self._reasons = reasons

    async def list_page(self, **_: Any) -> Any:
        return SimpleNamespace(
            jobs=[
                SimpleNamespace(job_id=name, status=Status.QUEUED, kind="command", priority=-number)
                for number, name in enumerate(self._reasons)
            ]
        )

    async def why(self, job_id: str) -> list[Reason]:
        return [self._reasons[job_id]]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remarks, "_LOOK_S", 0.01)


async def test_each_reason_is_said_once_that_of_the_first_job_first() -> None:
    reasons = {
        "a": Reason("site_closed", "its site is disabled"),
        "b": Reason("site_closed", "its site is disabled"),
        "c": Reason("too_large", "it can never run here"),
    }
    said: list[tuple[int, str]] = []
    service = Service(reasons)

    async with Remarks(cast(Client, service), list(reasons), lambda *one: said.append(one)) as telling:
        await eventually(lambda: len(said) >= 2)
        await eventually(lambda: telling._times_asked["a"] >= 3)

    assert said == [
        (logging.WARNING, "a waits: its site is disabled"),
        (logging.WARNING, "c waits: it can never run here"),
    ]
