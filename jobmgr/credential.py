"""Credentials by reference: what stands in a setting or a job says where a secret is, and never what it is."""

from __future__ import annotations

import importlib.util
import os
import re
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from jobmgr.errors import InvalidRequest, SecretUnavailable

MAX_BYTES = 65_536
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# What the service itself is told by, its own secrets among them.
_OWN = ("JOBMGR_", "PG")
_KEYRING_ANSWERS_WITHIN_S = 10.0


class Source(StrEnum):
    """What keeps the secret."""

    FILE = "file"
    ENV = "env"
    KEYRING = "keyring"


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is: an absolute path, the name of a variable, or `SERVICE/NAME` in a keyring."""

    source: Source
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"

    @property
    def is_own(self) -> bool:
        """Whether it is a variable of the service's own."""
        return self.source is Source.ENV and self.name.startswith(_OWN)


def is_reference(text: str) -> bool:
    """Whether `text` begins like a reference, so that it is none of the secrets themselves."""
    return text.partition(":")[0] in list(Source) and ":" in text


def parse(text: str, field: str) -> Reference:
    """The reference that `text` is. Raises InvalidRequest; it does not repeat the text, which may be the secret."""
    source, colon, name = text.partition(":")
    if not colon or source not in list(Source):
        raise InvalidRequest(field, "is no reference; write file:PATH, env:NAME or keyring:SERVICE/NAME")
    if _CONTROL.search(name):
        raise InvalidRequest(field, "names something with a control character in it")
    found = Reference(Source(source), name)
    match found.source:
        case Source.FILE:
            if not os.path.isabs(name):  # noqa: PTH117 -- a rule on text, for the host that will read it
                raise InvalidRequest(field, f"{text!r} is relative; write file: and an absolute path")
        case Source.ENV:
            if _VARIABLE.fullmatch(name) is None:
                raise InvalidRequest(field, f"{text!r} names no variable; write env:NAME")
        case Source.KEYRING:
            service, _, entry = name.rpartition("/")
            if not service or not entry:
                raise InvalidRequest(field, f"{text!r} names no entry; write keyring:SERVICE/NAME")
        case _:
            assert_never(found.source)
    return found


def fetch(reference: Reference, field: str, environment: Mapping[str, str]) -> str:
    """The secret, without newlines at its end, as a shell reads it; variables are those of `environment`.

    Blocks, for 10 s at most. Raises SecretUnavailable, which names `field` and never has anything of the secret.
    """
    match reference.source:
        case Source.FILE:
            raw = _from_file(reference, field)
        case Source.ENV:
            raw = _from_environment(reference, field, environment)
        case Source.KEYRING:
            raw = _from_keyring(reference, field)
        case _:
            assert_never(reference.source)
    try:
        secret = raw.decode().rstrip("\n")
    except UnicodeDecodeError:
        raise SecretUnavailable(field, str(reference), "it is no UTF-8 text") from None
    if not secret or "\0" in secret:
        raise SecretUnavailable(field, str(reference), "it is empty" if not secret else "it has a NUL in it")
    return secret


def _from_file(reference: Reference, field: str) -> bytes:
    try:
        # A FIFO or a device in its place would be waited for.
        descriptor = os.open(reference.name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SecretUnavailable(field, str(reference), "it is no regular file")
            with open(descriptor, "rb", closefd=False) as file:
                content = file.read(MAX_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        why = error.strerror or "it cannot be opened"
        raise SecretUnavailable(field, str(reference), f"it cannot be read: {why}") from None
    if len(content) > MAX_BYTES:
        raise SecretUnavailable(field, str(reference), f"it has more than {MAX_BYTES} bytes")
    return content


def _from_environment(reference: Reference, field: str, environment: Mapping[str, str]) -> bytes:
    value = environment.get(reference.name)
    if value is None:
        raise SecretUnavailable(
            field, str(reference), "the service has no such variable; set it before it starts"
        )
    return os.fsencode(value)


def _from_keyring(reference: Reference, field: str) -> bytes:
    import subprocess  # noqa: PLC0415 -- who only describes a job needs none

    # In a process of its own: a keyring that asks somebody for its password would wait for ever, and a thread of
    # ours with it.
    if importlib.util.find_spec("keyring") is None:
        raise SecretUnavailable(
            field, str(reference), "the library keyring is missing: pip install 'jobmgr[keyring]'"
        )
    service, _, entry = reference.name.rpartition("/")
    argv = [sys.executable, "-P", "-m", "keyring", "get", "--", service, entry]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_KEYRING_ANSWERS_WITHIN_S,
            env={**os.environ, "PYTHONUTF8": "1"},
            start_new_session=True,  # It must not ask at the service's terminal either.
        )
    except subprocess.TimeoutExpired:
        why = f"the keyring does not answer within {_KEYRING_ANSWERS_WITHIN_S:g} s; is it locked?"
        raise SecretUnavailable(field, str(reference), why) from None
    except OSError as error:
        raise SecretUnavailable(field, str(reference), f"no process can be started: {error}") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        # The last line of a traceback says what it is about.
        why = said[-1][:300] if said else f"there is none; `keyring set {service} {entry}` stores it"
        raise SecretUnavailable(field, str(reference), why)
    return done.stdout
