"""What users ask for in the middle of a campaign: cancels, pauses, further runs. Seeded."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import partial

from tests.crash.ledger import Plan
from tests.crash.site import Site
from tests.patience import eventually

_RECENT = 60


class Wishes:
    """One restless user."""

    def __init__(self, site: Site, seed: str) -> None:
        self.counts: Counter[str] = Counter()
        self._site = site
        self._random = random.Random(f"{seed} wishes")
        self._paused: dict[str, Plan] = {}

    async def ask_forever(self) -> None:
        """Ask for something about one of the latest jobs, again and again."""
        while True:
            await asyncio.sleep(self._random.uniform(0.1, 0.8))
            recent = [plan for plan in list(self._site.plans.values())[-_RECENT:] if plan.is_answered]
            if not recent or not self._site.service.url:
                continue
            plan = self._random.choice(recent)
            wish = self._random.choices((self._cancel, self._pause, self._resume, self._retry), (3, 4, 4, 2))[
                0
            ]
            await wish(plan)

    async def settle(self) -> None:
        """Take back every pause; nothing else keeps a job from ending."""
        for plan in self._paused.values():
            await eventually(partial(self._site.resume, plan))

    async def _cancel(self, plan: Plan) -> None:
        self.counts["cancel"] += await self._site.cancel(plan)

    async def _pause(self, _: Plan) -> None:
        plan = await self._site.any_running()
        if plan is not None:
            # Before the call: it may be stored although the answer is lost.
            self._paused[plan.job_id] = plan
            self.counts["pause"] += await self._site.pause(plan)

    async def _resume(self, _: Plan) -> None:
        if self._paused:
            plan = self._random.choice(list(self._paused.values()))
            if await self._site.resume(plan):
                del self._paused[plan.job_id]
                self.counts["resume"] += 1

    async def _retry(self, plan: Plan) -> None:
        # A dependant that is run again waits until each parent that failed it is run again too, and has succeeded.
        if not plan.parents:
            self.counts["retry"] += await self._site.retry(plan)
