"""Text that must reach a shell or a batch script as data: the one place that quotes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from jobmgr.credential import Reference, Source
from jobmgr.domain.environment import Environment
from jobmgr.errors import InvalidRequest

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WINDOWS_PATH = re.compile(r"""(?:[A-Za-z]:)?/[^\\:"%!^&|<>*?]*""")


def word(text: str) -> str:
    """`text` as one word of a POSIX shell. Source: POSIX.1-2017, Shell Command Language, 2.2.2."""
    return shlex.quote(text)


def words(texts: Iterable[str]) -> str:
    """Each text as one word."""
    return " ".join(word(text) for text in texts)


def exports(env: Environment) -> str:
    """Lines that set the environment; of a secret they have the file, which `_jm_secret` of the holder reads.

    Raises InvalidRequest for a name that no shell can set, and for a secret that is kept elsewhere.
    """
    for name in env:
        if _NAME.fullmatch(name) is None:
            raise InvalidRequest(
                f"env.{name!r}",
                "a batch script can only set names of letters, digits and _, not beginning with a digit",
            )
    return "".join(_export(name, value) for name, value in env.items())


def _export(name: str, value: str | Reference) -> str:
    if isinstance(value, str):
        return f"export {name}={word(value)}\n"
    if value.source is not Source.FILE:
        raise InvalidRequest(f"env.{name}.secret", f"{str(value)!r}: a batch script can only read file:PATH")
    return f"_jm_secret {name} {word(value.name)}\n"


def directive(text: str, field: str) -> str:
    """`text` for a line of directives, where nothing can be quoted. Raises InvalidRequest if it would say more.

    For a shell these lines are comments. Schedulers read them, each in its own way: what is not plain is refused.
    """
    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise InvalidRequest(field, f"{text[:100]!r} has blanks or control characters, or is empty")
    if set(text) & set("\"'`\\$;<>#"):
        raise InvalidRequest(
            field, f"{text[:100]!r} has characters that a batch script would not take as text"
        )
    return text


def bsub_argument(text: str, field: str) -> str:
    """`text` as one argument on a line of #BSUB. LSF splits such lines like a shell, but knows no escapes in them."""
    if not text or not text.isprintable():
        raise InvalidRequest(field, f"{text[:100]!r} has control characters, or is empty")
    if set(text) & set("\"'`\\$#"):
        raise InvalidRequest(field, f"{text[:100]!r} has characters that LSF would not take as text")
    return f'"{text}"'


def bare_environment(kept: Iterable[str]) -> str:
    """The beginning of a shell command that is run with the variables `kept` only, as far as they are set."""
    return "exec env -i " + " ".join(f'${{{name}+"{name}=${name}"}}' for name in kept)


def windows_argument(path: str, field: str) -> str:
    """An absolute path, as a POSIX shell on Windows has it (also `C:/a`), as one argument on a command line of Windows.

    What starts the program, or the runtime of that shell, would take these characters for something else; the names
    of files on Windows have few of them.
    """
    if _WINDOWS_PATH.fullmatch(path) is None or not path.isprintable():
        raise InvalidRequest(
            field, f'{path[:200]!r} is no absolute path, or has one of \\ : " % ! ^ & | < > * ? in it'
        )
    return f'"{path}"'


def double_quoted(text: str, field: str) -> str:
    """`text`, a path, in double quotes for a line of directives, where blanks may stand between them.

    What SLURM's reader of directives takes for an end of the quotes or for an escape is refused, because a path
    with a backslash would also lose its other replacements. Source: sbatch(1) of Slurm 22.05, "FILENAME PATTERN".
    """
    if not text.startswith("/") or not text.isprintable() or set(text) & set('"\\$`'):
        raise InvalidRequest(
            field, f"{text[:100]!r} is no absolute path, or has characters that a batch script would not take"
        )
    return f'"{text}"'
