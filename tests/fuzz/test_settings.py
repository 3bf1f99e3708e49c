"""Settings, and addresses of databases: right, or refused by name, and passwords are not shown."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobmgr.client.address import checked_url
from jobmgr.client.announcement import last_announced
from jobmgr.errors import InvalidRequest
from jobmgr.settings import CONFIG_FILE, load
from jobmgr.store import address
from tests.fuzz import garbage

_TOML = [
    b'home = "/h"\ndatabase = "sqlite:///a.db?timeout=3"\nport = 1\nmin_disk_gb = 1.5\ntoken = "t"\n',
    b"max_concurrent_jobs = 4\npoll_s = inf\ncancel_grace_s = 1979-05-27T07:32:00Z\n",
    b'work_dir = ["a"]\nhost = { a = 1 }\n',
]
_URLS = [
    "sqlite:///jobs.db", "sqlite:////w/jobs.db?timeout=5", "postgresql://user:hidden-word@host:5432/name",
    "postgresql+asyncpg://u:hidden-word@[::1]/n?sslmode=require&host=/run", "postgres://h/n?password=hidden-word",
]  # fmt: skip


@given(text=garbage.broken(_TOML))
def test_a_file_of_settings_is_understood_or_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(text)

    with contextlib.suppress(InvalidRequest):
        settings = load({}, {}, tmp_path)

        assert "\0" not in f"{settings.home}{settings.database}{settings.work_dir}"
        assert settings.poll_s > 0


@given(
    name=st.sampled_from(
        ["PORT", "MAX_CONCURRENT_JOBS", "POLL_S", "DATABASE", "HOST", "HOME", "TOKEN", "URL"]
    ),
    value=garbage.texts.filter(lambda text: "\0" not in text) | st.sampled_from(["1", "1.5", *_URLS]),
)
def test_a_variable_is_understood_or_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    try:
        load({}, {f"JOBMGR_{name}": value}, tmp_path)
    except InvalidRequest as refused:
        # What the home is called is part of the database's URL.
        assert refused.field in (name.lower(), "database")


@given(text=garbage.broken([url.encode() for url in _URLS]))
def test_an_address_of_a_database_is_one_or_refused(text: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        url = address.parse(text.decode("utf-8", "surrogateescape"))

        assert address.shown(url)


@pytest.mark.parametrize("url", _URLS)
def test_a_password_is_not_shown(url: str) -> None:
    assert "hidden" not in address.shown(address.parse(url))


@given(text=garbage.broken([b"http://127.0.0.1:8080/", b"https://[::1]:1/x?y#z", b"http://u:p@h"]))
def test_an_address_of_a_service_is_one_or_refused(text: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        assert checked_url(text.decode("utf-8", "surrogateescape")).startswith(("http", "HTTP"))


@given(
    text=garbage.json_bytes({"url": "http://127.0.0.1:1", "pid": 1, "socket": "/s", "doors": {"host": "::1"}})
)
def test_what_a_service_left_is_understood_or_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "service.json").write_bytes(text)

    left = last_announced(tmp_path)

    assert left is None or left.pid > 0
