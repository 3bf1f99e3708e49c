"""What may start now: slots, what jobs asked for, and the state of the host. Pure but for its own memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from jobmgr.domain.limits import ResourceLimits
from jobmgr.monitor import Machine, Sample
from jobmgr.store.claims import Candidate, Room

# A limit that closed the door opens it again only when the value is better than the limit by this much,
# so that a load near the limit does not start and stop the queue every second.
_CPU_MARGIN_PERCENT = 5.0
_SIZE_MARGIN = 1.05
# After a start that failed for want of keepers or descriptors nothing is claimed for so long, then twice as long.
_SHORTAGE_FIRST_S = 0.5
_SHORTAGE_MAX_S = 30.0
# A job that did not fit for this long is kept room for: smaller jobs no longer pass it.
PATIENCE_S = 30.0


class Admission:
    """Decides how much a dispatcher may claim."""

    def __init__(
        self, machine: Machine, limits: ResourceLimits, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.machine = machine
        self.limits = limits
        self._monotonic = monotonic
        self._closed: Mapping[str, str] = {}
        self._waiting: tuple[Candidate, float] | None = None
        self._shortage = ""
        self._short_until = 0.0
        self._short_s = _SHORTAGE_FIRST_S

    @property
    def slots(self) -> int:
        """How many attempts may be live at once."""
        return self.limits.max_concurrent_jobs or self.machine.cpus

    def effective(self, limits: ResourceLimits) -> ResourceLimits:
        """`limits` with what stands for a number of jobs that is not limited."""
        return replace(limits, max_concurrent_jobs=limits.max_concurrent_jobs or self.machine.cpus)

    @property
    def total(self) -> Room:
        """The whole machine."""
        return Room(self.slots, self.machine.cpus, self.machine.memory_bytes, self.machine.gpus)

    @property
    def closed(self) -> Sequence[str]:
        """Why the host takes nothing now, in sentences; empty when it does."""
        return [*self._closed.values(), *([self._shortage] if self._shortage else [])]

    def short_of(self, what: str) -> float | None:
        """Close the door after a start that failed for want of `what`; for how long, None if it is closed already.

        It is closed longer each time, until `enough` is said.
        """
        now = self._monotonic()
        if now < self._short_until:
            return None
        pause_s, self._short_s = self._short_s, min(self._short_s * 2, _SHORTAGE_MAX_S)
        self._shortage = what
        self._short_until = now + pause_s
        return pause_s

    def enough(self) -> None:
        """Something started again."""
        self._shortage = ""
        self._short_until = 0.0
        self._short_s = _SHORTAGE_FIRST_S

    @property
    def watches_host(self) -> bool:
        """Whether any limit needs samples of the host."""
        limits = self.limits
        return any(
            value is not None for value in (limits.max_cpu_percent, limits.min_memory_gb, limits.min_disk_gb)
        )

    def observe(self, sample: Sample) -> None:
        """Close or open the door by what the host looks like."""
        self._closed = judge(self.limits, sample, self._closed)

    def room(self, occupied: Room) -> Room:
        """What may be claimed beside `occupied`; no slots while the host's limits say no."""
        total = self.total
        return Room(
            slots=0
            if self._closed or self._monotonic() < self._short_until
            else max(0, total.slots - occupied.slots),
            cpus=max(0, total.cpus - occupied.cpus),
            memory_bytes=max(0, total.memory_bytes - occupied.memory_bytes),
            # An adopted attempt may hold names that this machine does not have any more.
            gpus=tuple(name for name in total.gpus if name not in occupied.gpus),
        )

    def passed_over(self, best: Candidate | None) -> None:
        """Remember the best job that does not fit, and since when."""
        if best is None:
            self._waiting = None
        elif self._waiting is None or self._waiting[0].job != best.job:
            self._waiting = (best, self._monotonic())

    @property
    def reserved(self) -> Candidate | None:
        """The job that has been passed over for so long that room is kept for it."""
        if self._waiting is None or self._monotonic() - self._waiting[1] < PATIENCE_S:
            return None
        return self._waiting[0]

    def chooser(self) -> Callable[[Sequence[Candidate], Room, Mapping[str, int | None]], list[Candidate]]:
        """The choice among candidates as it stands now."""
        return partial(choose, reserved=self.reserved)


def judge(limits: ResourceLimits, sample: Sample, closed: Mapping[str, str]) -> dict[str, str]:
    """Which limits stop all starts: a sentence for each, by name. `closed` is the judgement before."""
    found = {}
    # A load above 100 % there is not, so the margin must not make that limit one.
    if limits.max_cpu_percent is not None and limits.max_cpu_percent < 100:
        margin = _CPU_MARGIN_PERCENT if "max_cpu_percent" in closed else 0.0
        if sample.cpu_percent > max(limits.max_cpu_percent - margin, 0.0):
            found["max_cpu_percent"] = (
                f"the cpu load is {sample.cpu_percent:.0f} %, the limit max_cpu_percent {limits.max_cpu_percent:g} %"
            )
    for name, free_gb, what in (
        ("min_memory_gb", sample.memory_free_gb, "memory"),
        ("min_disk_gb", sample.disk_free_gb, "disk space"),
    ):
        minimum = getattr(limits, name)
        if minimum is None:
            continue
        margin = _SIZE_MARGIN if name in closed else 1.0
        if free_gb < minimum * margin:
            found[name] = f"{free_gb:.1f} GB of {what} are free, the limit {name} asks for {minimum:g} GB"
    return found


def choose(
    candidates: Sequence[Candidate],
    room: Room,
    quotas: Mapping[str, int | None],
    reserved: Candidate | None = None,
) -> list[Candidate]:
    """Those that may start now: in order, as far as slots, resources and the quotas of their queues go.

    `reserved` goes first if it fits; if not, the others must leave room for it.
    """
    left = [room.slots, room.cpus, room.memory_bytes, room.free_gpus]
    quota = dict(quotas)
    chosen: list[Candidate] = []
    ordered = list(candidates)
    if reserved is not None:
        own = [candidate for candidate in candidates if candidate.job == reserved.job]
        if own and _fits(own[0], left):
            ordered = own + [candidate for candidate in candidates if candidate.job != reserved.job]
        elif own:
            left = [
                left[0],
                *(max(0, free - asked) for free, asked in zip(left[1:], _asks(own[0])[1:], strict=True)),
            ]
    for candidate in ordered:
        queue_left = quota.get(candidate.queue)
        if queue_left == 0 or not _fits(candidate, left):
            continue
        chosen.append(candidate)
        left = [free - asked for free, asked in zip(left, _asks(candidate), strict=True)]
        if queue_left is not None:
            quota[candidate.queue] = queue_left - 1
    return chosen


def _asks(candidate: Candidate) -> tuple[int, int, int, int]:
    return 1, candidate.cpus, candidate.memory_bytes, candidate.gpus


def _fits(candidate: Candidate, left: Sequence[int]) -> bool:
    return all(asked <= free for asked, free in zip(_asks(candidate), left, strict=True))
