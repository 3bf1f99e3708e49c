"""Secrets at the command line: where they are is said there, what they are is not."""

from __future__ import annotations

import pytest

from jobmgr.cli.submit import fields
from jobmgr.errors import InvalidRequest
from tests.cli.conftest import Commands

NOBODY = "127.0.0.1:1"


def test_variables_of_a_job_are_texts_and_secrets() -> None:
    given = {"env": ("A=1", "B=2"), "secrets": ("B=file:/key", "C=env:LICENCE=x")}

    assert fields(given)["env"] == {
        "A": "1",
        "B": {"secret": "file:/key"},
        "C": {"secret": "env:LICENCE=x"},
    }


def test_secret_without_a_reference_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidRequest, match="write NAME=file:PATH") as refused:
        fields({"secrets": ("KEY",)})

    assert refused.value.field == "--secret"


@pytest.mark.parametrize(
    ("url", "warns"), [(f"postgresql://me:sesame@{NOBODY}/db", True), (f"postgresql://me@{NOBODY}/db", False)]
)
def test_password_on_the_command_line_is_warned_about(commands: Commands, url: str, warns: bool) -> None:
    done = commands.run("db", "check", "--database", url)

    assert done.code == 5
    assert ('database_password = "file:PATH"' in done.err) is warns
    assert "sesame" not in done.err


def test_secret_that_is_missing_is_named_and_no_traceback(commands: Commands) -> None:
    environment = {"JOBMGR_DATABASE_PASSWORD": "file:/nowhere/key"}
    done = commands.run("db", "check", "--database", f"postgresql://me@{NOBODY}/db", environment=environment)

    assert done.code == 2
    assert done.err.startswith("jobmgr: database_password: the secret file:/nowhere/key cannot be had: ")
    assert "Traceback" not in done.err
