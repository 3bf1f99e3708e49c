"""References to secrets: what they look like, what they lead to, and that an error never has the secret in it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobmgr.credential import MAX_BYTES, Source, fetch, parse
from jobmgr.errors import InvalidRequest, SecretUnavailable

SECRET = "sesame-7f3a"


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        ("file:/run/secrets/with blank", Source.FILE, "/run/secrets/with blank"),
        ("env:LICENCE_KEY", Source.ENV, "LICENCE_KEY"),
        ("keyring:https://host/name", Source.KEYRING, "https://host/name"),
    ],
)
def test_reference_is_read_and_written_alike(text: str, source: Source, name: str) -> None:
    found = parse(text, "env.A")

    assert (found.source, found.name, str(found)) == (source, name, text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (SECRET, "write file:PATH, env:NAME or keyring:SERVICE/NAME"),
        ("", "write file:PATH, env:NAME or keyring:SERVICE/NAME"),
        ("vault:x", "write file:PATH, env:NAME or keyring:SERVICE/NAME"),
        ("file:", "write file: and an absolute path"),
        ("file:key", "write file: and an absolute path"),
        ("file:~/key", "write file: and an absolute path"),
        ("file:/a\nb", "control character"),
        ("env:", "write env:NAME"),
        ("env:A B", "write env:NAME"),
        ("keyring:service", "write keyring:SERVICE/NAME"),
        ("keyring:/name", "write keyring:SERVICE/NAME"),
        ("keyring:service/", "write keyring:SERVICE/NAME"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(text, "database_password")

    assert refused.value.field == "database_password"
    assert remedy in refused.value.message
    # Whoever writes the secret instead of where it is does not see it in a log.
    assert SECRET not in str(refused.value)


def test_file_is_read_without_the_newlines_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f" {SECRET}\nsecond line\n\n")

    assert fetch(parse(f"file:{file}", "env.A"), "env.A", {}) == f" {SECRET}\nsecond line"


def test_variable_is_looked_up_in_what_it_is_asked_of() -> None:
    assert fetch(parse("env:A", "token"), "token", {"A": SECRET}) == SECRET


def _missing(folder: Path) -> str:
    return f"{folder}/missing"


def _directory(folder: Path) -> str:
    return str(folder)


def _fifo(folder: Path) -> str:
    os.mkfifo(folder / "fifo")
    return f"{folder}/fifo"


def _file(content: bytes) -> Callable[[Path], str]:
    def make(folder: Path) -> str:
        (folder / "file").write_bytes(content)
        return f"{folder}/file"

    return make


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_missing, "No such file or directory"),
        (_directory, "no regular file"),
        (_fifo, "no regular file"),
        (_file(b"\n"), "it is empty"),
        (_file(SECRET.encode() + b"\0"), "NUL"),
        (_file(SECRET.encode() + b"\xff"), "no UTF-8"),
        (_file(SECRET.encode() * MAX_BYTES), f"more than {MAX_BYTES} bytes"),
    ],
)
def test_file_that_is_none_of_a_secret_is_named_with_its_field(
    make: Callable[[Path], str], why: str, tmp_path: Path
) -> None:
    path = make(tmp_path)

    with pytest.raises(SecretUnavailable) as refused:
        fetch(parse(f"file:{path}", "env.KEY"), "env.KEY", {})

    assert refused.value.field == "env.KEY"
    assert f"the secret file:{path} cannot be had: " in str(refused.value)
    assert why in str(refused.value)
    assert SECRET not in str(refused.value)


def test_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(
        SecretUnavailable, match=r"env.KEY: the secret env:A cannot be had: .*no such variable"
    ):
        fetch(parse("env:A", "env.KEY"), "env.KEY", {"B": SECRET})


_BACKEND = f"""
import getpass
from keyring.backend import KeyringBackend

class Chain(KeyringBackend):
    priority = 1

    def get_password(self, service, username):
        if username == "locked":
            raise RuntimeError("the collection is locked")
        return {SECRET!r} if (service, username) == ("jobmgr/db", "me") else None

    def set_password(self, service, username, password):
        raise NotImplementedError
"""


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library with a keyring of our own, which is the outside world."""
    pytest.importorskip("keyring", reason="keyring is not installed (pip install 'jobmgr[keyring]')")
    (tmp_path / "chain_of_tests.py").write_text(_BACKEND)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "chain_of_tests.Chain")


@pytest.mark.usefixtures("keyring")
def test_keyring_is_asked() -> None:
    assert fetch(parse("keyring:jobmgr/db/me", "token"), "token", {}) == SECRET


@pytest.mark.usefixtures("keyring")
@pytest.mark.parametrize(
    ("name", "why"),
    [("other", "`keyring set jobmgr/db other` stores it"), ("locked", "collection is locked")],
)
def test_keyring_that_does_not_tell_is_named(name: str, why: str) -> None:
    with pytest.raises(SecretUnavailable) as refused:
        fetch(parse(f"keyring:jobmgr/db/{name}", "token"), "token", {})

    assert refused.value.field == "token"
    assert why in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_library_that_is_missing_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "keyring", raising=False)

    with pytest.raises(SecretUnavailable, match=r"pip install 'jobmgr\[keyring\]'"):
        fetch(parse("keyring:a/b", "token"), "token", {})
