"""How much every parser is fed: a few always same examples in the suite, thousands of new ones with --long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

_SHORT = 120
_LONG = 20_000
_LONG_S = 3600
# A function with parameters is collected once for each, and takes its settings once.
_FED: set[Any] = set()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "share(part): an example costs much, so it is fed this part of the budget"
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    function = getattr(item, "function", None)
    if not is_hypothesis_test(function):
        return
    long = item.config.getoption("--long")
    if long:
        item.add_marker(pytest.mark.timeout(_LONG_S))
    if function in _FED:
        return
    _FED.add(function)
    mark = item.get_closest_marker("share")
    settings(
        max_examples=int((_LONG if long else _SHORT) * (mark.args[0] if mark else 1)),
        derandomize=not long,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )(function)
