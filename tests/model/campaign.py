"""How many examples a machine runs: few and always the same ones in the suite, thousands of new ones with --long."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

logger = logging.getLogger(__name__)

# Hypothesis remembers every example of a round, so that a long campaign of one round would need gigabytes.
_EXAMPLES_PER_ROUND = 250
_ROUNDS = 4
_LONG_STEPS = 60

Machine = Callable[[], RuleBasedStateMachine]


def run_short(machine: Machine, *, examples: int) -> None:
    """The same examples in every run, so that continuous integration fails only for a change."""
    _run(machine, _settings(examples, steps=30, derandomize=True))


def run_long(machine: Machine, *, first_seed: int) -> None:
    """New examples in every run; a failure shows the seed of its round, and the blob that repeats it."""
    for number in range(first_seed, first_seed + _ROUNDS):
        # Shown when the test fails; with --hypothesis-seed it becomes the first one.
        logger.warning("a round of seed %d", number)
        _run(seed(number)(machine), _settings(_EXAMPLES_PER_ROUND, _LONG_STEPS, derandomize=False))


def _run(machine: Machine, chosen: settings) -> None:
    # Whatever makes a machine will do, though only classes are foreseen.
    run_state_machine_as_test(cast("type[RuleBasedStateMachine]", machine), settings=chosen)


def _settings(examples: int, steps: int, *, derandomize: bool) -> settings:
    # No deadlines and no health checks: databases take their time.
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=derandomize,
        print_blob=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
    )
