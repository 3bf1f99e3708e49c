"""Errands at a foreign queue: what it is still to be told of one attempt.

Of wishes of one kind the last counts, so they may come as quickly as they like.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobmgr.dialects.answers import plain
from jobmgr.domain.wish import Hold, Rank, Wished


@dataclass(slots=True)
class Errand:
    """The last wish of each kind, those still open, and what was said to them."""

    last: dict[type[Wished], Wished] = field(default_factory=dict)
    open: list[Wished] = field(default_factory=list)
    said: dict[type[Wished], str] = field(default_factory=dict)
    is_run: bool = False

    def add(self, wished: Wished) -> None:
        """Take a wish on, unless it is known."""
        kind = type(wished)
        if self.last.get(kind) != wished:
            self.last[kind] = wished
            self.said.pop(kind, None)
            self.open = [one for one in self.open if type(one) is not kind] + [wished]

    def close(self, wished: Wished, said: str = "") -> None:
        """It was taken, or, if something was `said`, will not be. Another one that came meanwhile stays open."""
        if wished in self.open:
            self.open.remove(wished)
            self.said[type(wished)] = plain(said)

    def doubt(self, wished: Wished, said: str) -> None:
        """Whether it was taken is not known; it stays open, and is not called refused."""
        if wished in self.open:
            self.said[type(wished)] = f"{plain(said)}; it is told again"

    def undone(self, wished: Wished) -> None:
        """What was taken is not so any more: wished again, it is told again."""
        if self.last.get(type(wished)) == wished and wished not in self.open:
            del self.last[type(wished)]
            self.said.pop(type(wished), None)

    def again(self) -> None:
        """Another job of the attempt was seen to wait, which was told nothing yet."""
        last = self.last.get(Hold)
        # SLURM releases a held job whose rank is changed; one that nobody holds needs no release.
        kind = Hold if isinstance(last, Hold) and last.is_held else Rank
        wished = self.last.get(kind)
        if wished is not None and wished not in self.open:
            self.open.append(wished)

    def remark(self, kind: type[Wished]) -> str | None:
        """What was said to the last wish of this kind, if it was not taken; empty if it is still to be told.

        None: it was taken, or there is none.
        """
        is_open = any(type(one) is kind for one in self.open)
        return self.said.get(kind) or ("" if is_open else None)
