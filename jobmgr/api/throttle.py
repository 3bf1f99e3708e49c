"""Floods: who asks too often, and which address guesses at tokens."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from jobmgr.api.limits import Limits
from jobmgr.api.problems import Refusal
from jobmgr.api.rates import Rates
from jobmgr.domain.access import Principal


def _none(_principal: Principal) -> int:
    return 0


@dataclass(slots=True)
class Throttle:
    """Keeps everybody but the service's own user within `limits`. `waiting` tells how many reads of whom wait."""

    limits: Limits = field(default_factory=Limits)
    waiting: Callable[[Principal], int] = _none
    _requests: Rates = field(init=False)
    _packets: Rates = field(init=False)
    _wrong: Rates = field(init=False)

    def __post_init__(self) -> None:
        self._requests = Rates(self.limits.requests_per_s, 10 * self.limits.requests_per_s)
        # Twice as many, so that who subscribes too often is told so before the connection ends.
        self._packets = Rates(2 * self.limits.requests_per_s, 20 * self.limits.requests_per_s)
        self._wrong = Rates(self.limits.failures_per_s, 100 * self.limits.failures_per_s)

    def check_rate(self, principal: Principal) -> None:
        """Count a request of `principal`. Raises Refusal (429) if that is too many, or too many of its own wait."""
        _spend(self._requests, principal, "this API token is used too often")
        if not principal.shows_nothing:
            self._check_waiting(principal)

    def _check_waiting(self, principal: Principal) -> None:
        # Who goes away while it waits stays in the line: without an end of it a flood would fill the memory.
        if self.waiting(principal) >= self.limits.most_waiting:
            raise _too_many(f"{self.limits.most_waiting} requests with this API token wait already", 1)

    def check_packet(self, principal: Principal) -> None:
        """Count what `principal` sends over Socket.IO. Raises Refusal (429) if that is too many packets."""
        _spend(self._packets, principal, "too much comes over Socket.IO with this API token")

    def check_guess(self, origin: str) -> None:
        """Raise Refusal (429) if too many wrong tokens came from `origin` to look another one up for it."""
        if wait_s := self._wrong.wait_s(network(origin)):
            raise _too_many(f"too many wrong API tokens came from {origin}", wait_s)

    def note_wrong(self, origin: str) -> None:
        """Count a wrong token."""
        self._wrong.spend(network(origin))


def _spend(rates: Rates, principal: Principal, reason: str) -> None:
    if principal.shows_nothing:
        return
    who = principal.bearer
    if wait_s := rates.wait_s(who):
        raise _too_many(reason, wait_s)
    rates.spend(who)


def network(origin: str) -> str:
    """What is counted as one address."""
    # Of IPv6 addresses one subscriber has as many as he likes.
    try:
        address = ipaddress.IPv6Address(origin)
    except ValueError:
        return origin
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False))


def _too_many(reason: str, wait_s: float) -> Refusal:
    seconds = math.ceil(wait_s)
    return Refusal(
        429,
        "too_many_requests",
        f"{reason}; nothing was done, ask again in {seconds} s",
        headers={"Retry-After": str(seconds)},
    )
