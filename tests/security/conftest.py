"""Runs every attack twice: as it is, and without the guard that it rests on."""

from __future__ import annotations

import logging

import pytest

from tests.api.conftest import api, manager  # noqa: F401 -- fixtures
from tests.security.guards import MARK, Guard

_FIXTURE = "without"
# How a test says that an attack succeeded; anything else, such as a guard that is not there, is a broken test.
_SUCCEEDED = (AssertionError, pytest.fail.Exception)


class _Broken(Exception):
    """Without its guard the service did not let the attack pass, it stumbled."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARK}(*guards): an attack that succeeds without these guards")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marks = list(metafunc.definition.iter_markers(MARK))
    if not marks:
        return
    removals = [
        pytest.param(
            mark.args,
            id="without " + " and ".join(guard.name for guard in mark.args),
            marks=pytest.mark.xfail(strict=True, raises=_SUCCEEDED, reason="nothing stops this attack"),
        )
        for mark in marks
    ]
    metafunc.parametrize(_FIXTURE, [pytest.param((), id="guarded"), *removals], indirect=True)


@pytest.fixture(autouse=True)
def without(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Takes the guards of this run away, before anything is built on them."""
    removed: tuple[Guard, ...] = getattr(request, "param", ())
    for guard in removed:
        guard.remove(monkeypatch)
    yield
    bugs = [
        record
        for when in ("setup", "call")
        for record in caplog.get_records(when)
        if record.exc_info and record.levelno >= logging.ERROR
    ]
    if removed and bugs:
        raise _Broken(bugs[0].getMessage()) from bugs[0].exc_info[1]
