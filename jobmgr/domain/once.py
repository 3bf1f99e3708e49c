"""A change that is made once, however often it is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Once:
    """Asks for a change under a key of `user`; `fingerprint` tells whether it is the same change."""

    user: str
    key: str
    fingerprint: str
