"""Text that travels: which characters may stand in it, as a check, and as the description of the API has it."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from jobmgr.errors import InvalidRequest

# What is checked below, in sentences that say which character it is.
LINE: dict[str, Any] = {"pattern": r"^[^\x00-\x1f\x7f]*$"}
TEXT: dict[str, Any] = {"pattern": r"^[^\x00-\x08\x0b-\x1f\x7f]*$"}
ARGUMENT: dict[str, Any] = {"pattern": r"^[^\x00]*$"}

Name = Annotated[str, Meta(max_length=1024, extra_json_schema=LINE)]


def check_text(text: str, where: str, *, allow_newline: bool = False) -> str:
    """`text` without control characters that would forge log lines or break storage. Raises InvalidRequest."""
    for character in text:
        if (character < " " and not (allow_newline and character in "\n\t")) or character == "\x7f":
            raise InvalidRequest(where, f"control character {character!r} is not allowed")
    check_unicode(text, where)
    return text


def check_argument(text: str, where: str) -> None:
    """Raise InvalidRequest for what no program can be given."""
    if "\0" in text:
        raise InvalidRequest(where, "contains a NUL character")
    check_unicode(text, where)


def readable(text: str) -> str:
    """`text` as it can travel: bytes that are no UTF-8, which names may have that others chose, are shown as U+FFFD."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def check_unicode(text: str, where: str) -> None:
    """Raise InvalidRequest for what UTF-8 cannot say."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(where, "contains an unpaired surrogate") from None
