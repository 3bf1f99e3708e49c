"""Runs every attack twice: as it is, and without the guard that it rests on."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """An attack that hangs has not succeeded, though pytest-timeout tells it like a failed test."""
    report = yield
    if call.excinfo is not None and str(call.excinfo.value).startswith("Timeout (>"):
        report.outcome = "failed"
    return report


@pytest.fixture(autouse=True)
def without(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[None]:
    """Takes the guards of this run away, before anything is built on them."""
    removed: tuple[Guard, ...] = getattr(request, "param", ())
    for guard in removed:
        guard.remove(monkeypatch)
    yield
    records = [record for when in ("setup", "call") for record in caplog.get_records(when)]
    bugs = [record.exc_info[1] for record in records if record.exc_info and record.levelno >= logging.ERROR]
    if removed and bugs:
        raise _Broken(str(bugs[0])) from bugs[0]
