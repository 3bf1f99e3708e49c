"""What the service keeps to itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import jobmgr
from jobmgr.errors import InvalidRequest
from jobmgr.settings import clean_environment, has_password, load, strangers


def test_clean_environment_drops_our_settings_and_secrets() -> None:
    dirty = {
        "HOME": "/h",
        "JOBMGR_TOKEN": "x",
        "PGPASSFILE": "x",
        "PGSERVICE": "x",
        "PGSERVICEFILE": "x",
        "PGHOST": "h",
    }

    assert clean_environment(dirty) == {"HOME": "/h", "PGHOST": "h"}


def test_secrets_that_settings_refer_to_are_fetched_and_lent_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("of a file\n")
    environment = {"JOBMGR_TOKEN": "env:SHOWN", "SHOWN": "of a variable", "OTHER": "x"}
    flags = {"database": "postgresql://me@host/db", "database_password": f"file:{tmp_path}/key"}

    settings = load(flags, environment, tmp_path)

    assert settings.fetched("token", environment) == "of a variable"
    assert settings.fetched("database_password", environment) == "of a file"
    assert settings.fetched("job_key", environment) is None
    assert settings.lent(environment) == {"OTHER": "x"}


def test_token_may_still_be_the_token_itself(tmp_path: Path) -> None:
    assert load({"token": "a:b"}, {}, tmp_path).fetched("token", {}) == "a:b"


@pytest.mark.parametrize("name", ["database_password", "job_key"])
def test_what_has_to_be_a_reference_is_no_secret_itself(name: str, tmp_path: Path) -> None:
    (tmp_path / "jobmgr.toml").write_text(f'{name} = "sesame"\n')

    with pytest.raises(InvalidRequest) as refused:
        load({}, {}, tmp_path)

    assert refused.value.field == name
    assert "write file:PATH" in refused.value.message
    assert "sesame" not in str(refused.value)


def test_token_of_another_type_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "jobmgr.toml").write_text("token = 5359\n")

    with pytest.raises(InvalidRequest, match="is not a text") as refused:
        load({}, {}, tmp_path)

    assert "5359" not in str(refused.value)


def test_two_passwords_of_one_database_are_refused(tmp_path: Path) -> None:
    flags = {"database": "postgresql://me:one@host/db", "database_password": "env:TWO"}

    with pytest.raises(InvalidRequest, match="leave one of them out"):
        load(flags, {}, tmp_path)


@pytest.mark.parametrize(
    ("url", "has"),
    [
        ("postgresql://me:secret@host/db", True),
        ("postgresql://me@host/db?password=secret", True),
        ("postgresql://me@/db?host=/tmp/a:b@c", False),
        ("postgresql://me@host:5432/db", False),
        ("sqlite:////tmp/a:b@c/jobs.db", False),
    ],
)
def test_password_in_a_url_is_seen(url: str, has: bool) -> None:
    assert has_password(url) is has


@pytest.mark.parametrize(
    "text",
    [b"port = ", b"port = \xff", b"port = " + b"9" * 5000, b"port = " + b"[" * 5000, b"port = 1979-02-30"],
)
def test_file_that_is_no_toml_is_refused_by_name(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "jobmgr.toml"
    file.write_bytes(text)

    with pytest.raises(InvalidRequest, match=f"{file} is not valid TOML: ."):
        load({}, {}, tmp_path)


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 400, "inf", "nan"])
@pytest.mark.parametrize("name", ["port", "min_disk_gb", "poll_s"])
def test_number_that_none_can_be_is_refused_by_name(tmp_path: Path, name: str, number: str) -> None:
    (tmp_path / "jobmgr.toml").write_text(f"{name} = {number}\n")

    with pytest.raises(InvalidRequest) as refused:
        load({}, {}, tmp_path)

    assert refused.value.field == name


def test_several_names_are_a_list_in_the_file_and_have_commas_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "jobmgr.toml").write_text(
        'allowed_hosts = ["Jobs.example", "[::1]:9"]\nrequire_token = true\nsocket = "run/s"\n'
    )

    of_file = load({}, {}, tmp_path)
    of_both = load({}, {"JOBMGR_ALLOWED_HOSTS": "a:1, b ,", "JOBMGR_REQUIRE_TOKEN": "false"}, tmp_path)

    assert of_file.allowed_hosts == ("jobs.example", "[::1]:9")
    assert (of_file.require_token, of_file.socket) == (True, Path.cwd() / "run/s")
    assert (of_both.allowed_hosts, of_both.require_token) == (("a:1", "b"), False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("allowed_origins", "*"),
        ("allowed_origins", "null"),
        ("allowed_origins", "site.example"),
        ("allowed_origins", "https://site.example/"),
        ("allowed_origins", "https://site.example/page"),
        ("allowed_origins", "https://*.site.example"),
        ("allowed_origins", "https://site.example:443"),
        ("allowed_origins", "http://site.example:80"),
        ("allowed_origins", "https://me@site.example"),
        ("allowed_origins", "https://"),
        ("allowed_origins", "https://a, *"),
        ("allowed_hosts", "https://jobs.example"),
        ("allowed_hosts", "*"),
        ("allowed_hosts", "jobs.example/"),
        ("allowed_hosts", "a b"),
        ("require_token", "perhaps"),
        ("max_requests_per_s", "0"),
        ("max_requests_per_s", "inf"),
    ],
)
def test_what_would_let_in_more_than_was_meant_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        load({}, {f"JOBMGR_{name.upper()}": value}, tmp_path)

    assert refused.value.field == name
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize(
    "value", ["https://site.example", "http://localhost:3000", "https://[::1]:8443", "https://a:80", ""]
)
def test_origin_is_as_browsers_write_it(tmp_path: Path, value: str) -> None:
    settings = load({}, {"JOBMGR_ALLOWED_ORIGINS": value}, tmp_path)

    assert settings.allowed_origins == ((value,) if value else ())


def test_nobody_is_warned_of_a_variable_that_is_ours() -> None:
    sources = "".join(file.read_text() for file in Path(jobmgr.__file__).parent.rglob("*.py"))
    ours = re.findall(r"\bJOBMGR_[A-Z_]*[A-Z]\b", sources)

    unknown = strangers(dict.fromkeys(ours, "x"))

    assert "JOBMGR_RUN_DIR" in ours
    assert unknown == []


def test_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "jobmgr.toml").mkdir()

    with pytest.raises(InvalidRequest, match=r"jobmgr.toml cannot be read: Is a directory"):
        load({}, {}, tmp_path)
