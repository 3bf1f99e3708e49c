"""`jobmgr user`, `jobmgr token` and `jobmgr report audit`: what is printed where, and the exit codes."""

from __future__ import annotations

import csv
import io
import re

import pytest

from tests.cli.conftest import Commands, Finished
from tests.cli.test_terminal import on_terminal


@pytest.fixture(scope="module")
def ann(service: Commands) -> str:
    """The API token of a user ann, as a shell would take it."""
    added = service.run("user", "add", "ann", "--group", "lab", "--group", "office")
    assert (added.code, added.out) == (0, "ann added: user in lab, office\n")
    made = service.run("token", "make", "ann", "--label", "her laptop")
    assert made.code == 0, made
    return made.out.removesuffix("\n")


def by(service: Commands, token: str, *arguments: str) -> Finished:
    return service.run(*arguments, environment={"JOBMGR_TOKEN": token})


def test_only_the_token_is_on_stdout(service: Commands, ann: str) -> None:
    made = service.run("token", "make", "ann", "--scope", "read", "--expires", "never")

    assert re.fullmatch(r"jm_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\n", made.out)
    assert "may read and never expires; it is shown this once" in made.err
    assert made.out.strip().split("_", 2)[2] not in made.err


def test_token_works_until_it_is_revoked(service: Commands, ann: str) -> None:
    token = service.run("token", "make", "ann").out.strip()
    job_id = by(service, token, "submit", "--draft", "--", "true").out.strip()
    forbidden = by(service, token, "user", "ls")
    mine = by(service, token, "token", "ls", "--json").json
    revoked = by(service, token, "token", "revoke", token.split("_")[1])
    refused = by(service, token, "ls")

    assert service.run("show", "--json", job_id).json["user"] == "ann"
    assert (forbidden.code, "takes the role admin" in forbidden.err) == (4, True)
    assert {each["user"] for each in mine} == {"ann"}
    assert (revoked.code, revoked.out) == (0, f"{token.split('_')[1]} of ann revoked\n")
    assert refused.code != 0
    assert "revoked" in refused.err


def test_users_are_listed_and_changed(service: Commands, ann: str) -> None:
    service.run("user", "add", "zoe", "--role", "viewer")
    changed = service.run("user", "set", "zoe", "--role", "user", "--no-groups", "--disable")
    listed = service.run("user", "ls").out
    found = {user["name"]: user for user in service.run("user", "ls", "--json").json}
    removed = service.run("user", "rm", "zoe")
    gone = service.run("user", "set", "zoe", "--enable")

    assert changed.out == "zoe user disabled\n"
    assert "disabled" in next(line for line in listed.splitlines() if line.startswith("zoe"))
    assert (found["zoe"]["disabled"], found["ann"]["groups"]) == (True, ["lab", "office"])
    assert removed.code == 0
    assert (gone.code, "there is no user 'zoe'" in gone.err) == (3, True)


def test_adding_does_not_change_who_is_there(service: Commands, ann: str) -> None:
    other = service.run("user", "add", "ann", "--role", "admin")
    same = service.run("user", "add", "ann", "--group", "office", "--group", "lab")
    found = {user["name"]: user for user in service.run("user", "ls", "--json").json}

    assert (other.code, other.out) == (4, "")
    assert "ann is there already: user in lab, office; `jobmgr user set ann` changes that" in other.err
    assert (same.code, same.out) == (0, "ann is there already: user in lab, office\n")
    assert (found["ann"]["role"], found["ann"]["groups"]) == ("user", ["lab", "office"])


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("user", "rm", "alise"), 3, "there is no user 'alise'; see `jobmgr user ls`"),
        (("user", "set", "alise", "--disable"), 3, "there is no user 'alise'; see `jobmgr user ls`"),
        (("user", "set", "ann"), 2, "--role, --group, --no-groups, --disable or --enable"),
        (("report", "audit", "--csv", "--json"), 2, "exclude each other"),
        (("report", "audit", "--actor", "alise"), 0, "there is no user 'alise'"),
        (("report", "audit", "--job", "0123abcd"), 0, "there is no job '0123abcd'"),
        (("ls", "--user", "alise"), 0, "there is no user 'alise'"),
    ],
)
def test_name_or_option_that_does_not_fit_is_answered_with_what_would(
    service: Commands, ann: str, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    done = service.run(*arguments)

    assert done.code == code
    assert sentence in done.err
    assert "user add" not in done.err


def test_filter_of_a_user_who_may_not_see_users_is_not_checked(service: Commands, ann: str) -> None:
    done = by(service, ann, "ls", "--user", "alise")

    assert (done.code, done.err) == (0, "no jobs\n")


def test_token_that_was_pasted_is_revoked_by_the_id_in_it(service: Commands, ann: str) -> None:
    token = service.run("token", "make", "ann").out.strip()
    token_id = token.split("_")[1]

    revoked = service.run("token", "revoke", token)

    assert (revoked.code, revoked.out) == (0, f"{token_id} of ann revoked\n")
    assert f"its id {token_id} is enough" in revoked.err
    assert token.split("_", 2)[2] not in revoked.err
    assert by(service, token, "ls").code != 0


def test_whose_jobs_are_is_told_where_they_are_not_all_of_one(service: Commands, ann: str) -> None:
    by(service, ann, "submit", "--draft", "--", "true")
    service.submit("--draft", "--", "true")

    hers, everybodys = service.run("ls", "--user", "ann").out, service.run("ls").out
    roomy, narrow = (on_terminal(service, "ls", columns=columns) for columns in (110, 80))

    heads = [shown.splitlines()[0].split() for shown in (hers, everybodys)]
    assert ["USER" in head for head in heads] == [False, True]
    assert [" ann " in row for row in everybodys.splitlines()[1:3]] == [False, True]
    assert (b"USER" in roomy, b"USER" in narrow) == (True, False)


def test_audit_takes_the_beginning_of_an_id(service: Commands, ann: str) -> None:
    job_id = service.submit("--draft", "--", "true")

    entries = service.run("report", "audit", "--job", job_id[:12], "--json").json

    assert [entry["job_id"] for entry in entries] == [job_id]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("user", "add", "a b"), 2),
        (("user", "set", "ann"), 2),
        (("user", "set", "ann", "--group", "x", "--no-groups"), 2),
        (("user", "rm", "nobody"), 3),
        (("token", "make", "nobody"), 3),
        (("token", "make", "ann", "--scope", "admin"), 2),
        (("token", "make", "ann", "--expires", "soon"), 2),
        (("token", "revoke", "000000000000"), 3),
        (("report", "audit", "--since", "yesterday"), 2),
    ],
)
def test_what_does_not_fit_is_refused(
    service: Commands, ann: str, arguments: tuple[str, ...], code: int
) -> None:
    done = service.run(*arguments)

    assert (done.code, done.out) == (code, "")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("token", "make", "ann", "--expires", "90"), ("without a unit", "90d", "never")),
        (("token", "make", "ann", "--expires", "tomorrow"), ("90d", "2026-01-31T18:00Z", "never")),
        (("token", "make", "ann", "--expires", "2099-01-31"), ("90d", "2026-01-31T18:00Z", "never")),
        (("report", "audit", "--since", "90"), ("12h", "2026-01-31", "2026-01-31T18:00Z")),
        (("report", "audit", "--until", "tomorrow"), ("12h", "2026-01-31", "2026-01-31T18:00Z")),
        (("report", "audit", "--since", "2026-13-01"), ("12h", "2026-01-31", "2026-01-31T18:00Z")),
        (("report", "audit", "--since", "99999999d"), ("12h", "2026-01-31", "2026-01-31T18:00Z")),
    ],
)
def test_time_that_is_none_is_answered_with_how_to_write_one(
    service: Commands, ann: str, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    done = service.run(*arguments)

    assert (done.code, done.out) == (2, "")
    assert all(word in done.err for word in words), done.err


@pytest.mark.parametrize("since", ["1h", "2026-01-31", "2026-01-31T18:00Z", "2026-01-31T18:00:00+01:00"])
def test_audit_takes_times_as_people_write_them(service: Commands, ann: str, since: str) -> None:
    entries = service.run("report", "audit", "--since", since, "--json").json

    assert "user_added" in {entry["kind"] for entry in entries}


def test_audit_tells_who_did_what(service: Commands, ann: str) -> None:
    job_id = by(service, ann, "submit", "--draft", "--", "true").out.strip()

    entries = service.run("report", "audit", "--actor", "ann", "--since", "1h", "--json").json
    table = service.run("report", "audit", "--job", job_id).out
    lines = list(csv.reader(io.StringIO(service.run("report", "audit", "--csv", "--job", job_id).out)))
    one = service.run("report", "audit", "--limit", "1")
    none = service.run("report", "audit", "--until", "2020-01-01T00:00:00Z", "--json").json

    assert (entries[0]["kind"], entries[0]["job_id"]) == ("submitted", job_id)
    assert {entry["actor"] for entry in entries} == {"ann"}
    through = ["127.0.0.1", "token", ann.split("_")[1]]
    assert table.splitlines()[1].split()[3:9] == ["ann", *through, "submitted", job_id]
    assert [line[2] for line in lines] == ["actor", "ann"]
    assert (len(one.out.splitlines()), "there are more" in one.err) == (2, True)
    assert none == []
