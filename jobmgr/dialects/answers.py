"""What answers have in common, whoever gave them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jobmgr.dialects.dialect import Answer, Listing, NotUnderstood

# No counter of a scheduler has more digits, and Python takes other characters for digits too.
_NUMBER = re.compile(r"[0-9]{1,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def said(answer: Answer) -> str:
    """All that was printed."""
    return f"{answer.stdout.strip()}\n{answer.stderr.strip()}".strip()


def plain(text: str) -> str:
    """What somebody's program printed, for people: on one line, without control characters."""
    lines = (" ".join(_CONTROL.sub(" ", line).split()) for line in text.splitlines())
    return "; ".join(filter(None, lines))


def words(answer: Answer, program: str) -> str:
    """What was printed, for people: the end of it, if it is long."""
    return plain(said(answer)[-2000:]) or why(answer, program)


def why(answer: Answer, program: str) -> str:
    """What is wrong with an answer, in the words of `program` if it complained."""
    match answer.exit_code:
        case None:
            ending = "did not answer"
        case 0:
            ending = "was not understood"
        case code:
            ending = f"ended with {code}"
    return plain(answer.stderr.strip()[-500:]) or f"{program} {ending}"


def printed(answer: Answer, program: str) -> str:
    """What a program printed that ended well. Raises NotUnderstood."""
    if answer.exit_code != 0:
        raise NotUnderstood(why(answer, program))
    return answer.stdout


def number(text: str | None) -> int | None:
    """A whole number, or None for everything else."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def together(listings: Sequence[Listing]) -> Listing:
    """What several listings say, as one."""
    return Listing(
        tuple(job for listing in listings for job in listing.jobs),
        complete=all(listing.complete for listing in listings),
        why=next((listing.why for listing in listings if listing.why), ""),
        has_queue=all(listing.has_whole_queue for listing in listings),
    )


def array_cap(limits: Sequence[str]) -> int | None:
    """How many elements an array may have by all of these limits; None if there may be none. Raises NotUnderstood."""
    sizes = [size for text in limits if (size := number(text)) is not None]
    if len(sizes) < len(limits):
        raise NotUnderstood(f"not how long an array may be: {limits!r}"[:200])
    return min(sizes) if min(sizes) > 1 else None
