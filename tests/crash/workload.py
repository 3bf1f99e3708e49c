"""The jobs of a campaign: mostly short ones, some with everything that makes an end difficult. Seeded."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from tests.crash.ledger import Ledger, Plan

_LONGEST_S = 0.5
_RECENT = 40


class Workload:
    """Draws one job after the other."""

    def __init__(self, ledger: Ledger, seed: str) -> None:
        self._ledger = ledger
        self._random = random.Random(f"{seed} jobs")
        self._drawn: list[Plan] = []
        self._weights: Mapping[Callable[[str], Plan], int] = {
            self._ordinary: 62,
            self._dependent: 8,
            self._repeated: 7,
            self._untidy: 9,
            self._overlong: 4,
            self._dying: 4,
            self._impossible: 2,
            self._due: 3,
            self._stubborn: 1,
        }

    def draw(self) -> Plan:
        """The next job."""
        (kind,) = self._random.choices(list(self._weights), list(self._weights.values()))
        plan = kind(f"job-{len(self._drawn) + 1:05d}")
        self._drawn.append(plan)
        return plan

    def _duration_s(self) -> float:
        return 0.0 if self._random.random() < 0.2 else self._random.uniform(0.0, _LONGEST_S)

    def _exit_code(self) -> int:
        return self._random.choice((0, 0, 0, 1, 7, 255))

    def _ordinary(self, job_id: str) -> Plan:
        return self._ledger.ending(job_id, self._exit_code(), self._duration_s())

    def _dependent(self, job_id: str) -> Plan:
        recent = self._drawn[-_RECENT:]
        parents = self._random.sample(recent, min(len(recent), self._random.randint(1, 3)))
        when = {parent.job_id: self._random.choice(("success", "failure", "any")) for parent in parents}
        return self._ledger.ending(job_id, self._exit_code(), self._duration_s(), parents=when)

    def _repeated(self, job_id: str) -> Plan:
        plan = self._ledger.ending(job_id, self._exit_code(), self._duration_s())
        plan.max_attempts = self._random.randint(2, 3)
        if self._random.random() < 0.5:
            plan.fields = {"on_lost": "retry"}
        return plan

    def _untidy(self, job_id: str) -> Plan:
        kind = self._random.choice(("child", "daemon", "stopped child"))
        return self._ledger.ending(job_id, self._exit_code(), self._duration_s(), kind)

    def _overlong(self, job_id: str) -> Plan:
        return self._ledger.overlong(job_id, self._random.uniform(0.2, 1.0))

    def _dying(self, job_id: str) -> Plan:
        return self._ledger.dying(job_id, self._duration_s())

    def _impossible(self, job_id: str) -> Plan:
        return self._ledger.impossible(job_id)

    def _due(self, job_id: str) -> Plan:
        return self._ledger.due(job_id, self._exit_code(), self._random.uniform(0.1, 2.0))

    def _stubborn(self, job_id: str) -> Plan:
        if self._random.random() < 0.5:
            return self._ledger.overlong(job_id, 0.5, "stubborn")
        return self._ledger.ending(job_id, self._exit_code(), self._duration_s(), "stubborn child")
