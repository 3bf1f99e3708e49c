"""A number on the command line, or `none`."""

from __future__ import annotations

import re

import click

# No more digits than can be turned into a number, and one that is finite.
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?", re.ASCII)


def number_or_none(text: str, hint: str) -> int | float | None:
    """What `text` says; `hint` names the argument. Raises BadParameter."""
    if text == "none":
        return None
    if _NUMBER.fullmatch(text) is None:
        raise click.BadParameter(
            f"{text!r} is neither a number of at most 18 digits nor `none`", param_hint=hint
        )
    return float(text) if "." in text else int(text)
