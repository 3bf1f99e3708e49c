"""How much more the next attempt asks for."""

from __future__ import annotations

from typing import Any

import pytest

from jobmgr.domain.resources import MAX_MEMORY_BYTES, MAX_WALLTIME_S, Resources
from jobmgr.domain.retry import Growth, Retry

GB = 2**30
TWICE = Growth(memory_factor=2, walltime_factor=1.5)
BOUNDED = Growth(memory_factor=2, memory_max_bytes=3 * GB, walltime_factor=1.5, walltime_max_s=80.0)
ASKED = Resources(cpus=4, memory_bytes=2 * GB, walltime_s=60.0)


@pytest.mark.parametrize(
    ("growth", "code", "asked", "grown"),
    [
        (TWICE, "out_of_memory", ASKED, {"memory_bytes": 4 * GB}),
        (TWICE, "out_of_memory", Resources(memory_per_cpu_bytes=3), {"memory_per_cpu_bytes": 6}),
        (Growth(memory_factor=1.1), "out_of_memory", Resources(memory_bytes=1), {"memory_bytes": 2}),
        (TWICE, "timeout", ASKED, {"walltime_s": 90.0}),
        (BOUNDED, "out_of_memory", ASKED, {"memory_bytes": 3 * GB}),
        (BOUNDED, "timeout", ASKED, {"walltime_s": 80.0}),
        # What is asked for never shrinks, also not to a bound that a site's default has passed.
        (BOUNDED, "out_of_memory", Resources(memory_bytes=4 * GB), {"memory_bytes": 4 * GB}),
        (
            TWICE,
            "out_of_memory",
            Resources(memory_bytes=MAX_MEMORY_BYTES),
            {"memory_bytes": MAX_MEMORY_BYTES},
        ),
        (TWICE, "timeout", Resources(walltime_s=MAX_WALLTIME_S), {"walltime_s": MAX_WALLTIME_S}),
        (TWICE, "exit_code", ASKED, {}),
        (TWICE, "node_fail", ASKED, {}),
        (TWICE, "out_of_memory", Resources(cpus=1), {}),
        (TWICE, "timeout", Resources(cpus=1), {}),
        (Growth(memory_factor=2), "timeout", ASKED, {}),
        (Growth(walltime_factor=2), "out_of_memory", ASKED, {}),
    ],
)
def test_what_there_was_too_little_of_grows(
    growth: Growth, code: str, asked: Resources, grown: dict[str, Any]
) -> None:
    assert growth.after(code, asked) == grown


def test_what_is_stated_is_read_again() -> None:
    assert Growth.of(BOUNDED.stated()) == BOUNDED
    assert (Growth().stated(), Growth.of(None)) == ({}, Growth())


@pytest.mark.parametrize(
    ("retry", "heeds"),
    [
        (Retry(3), False),
        (Retry(3, on=frozenset({"timeout"})), False),
        (Retry(3, on=frozenset({"out_of_memory"})), True),
        (Retry(3, growth=Growth(memory_factor=2)), True),
    ],
)
def test_rules_that_name_memory_heed_it(retry: Retry, *, heeds: bool) -> None:
    assert retry.heeds_memory is heeds
