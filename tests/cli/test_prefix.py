"""The beginning of an id in place of the id."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Commands


def test_beginning_of_an_id_stands_for_the_only_job_it_fits(service: Commands) -> None:
    job_id = service.submit("--wait", "--", "echo", "hello")
    start = job_id[:12]

    shown, reason, log = (service.run(*verb, start) for verb in (("show", "--json"), ("why",), ("logs",)))
    waited, cancelled = service.run("wait", start), service.run("cancel", start)

    assert shown.json["job_id"] == job_id
    assert [done.code for done in (shown, reason, log, waited, cancelled)] == [0] * 5
    assert log.out == "hello\n"
    assert cancelled.out == f"{job_id} completed\n"


@pytest.mark.parametrize("verb", ["show", "why", "logs", "wait", "hold"])
def test_beginning_of_several_ids_is_answered_with_them(service: Commands, verb: str) -> None:
    ids = [service.submit("--draft", "--job-id", f"{verb}-{end}", "--", "true") for end in ("one", "two")]

    done = service.run(verb, f"{verb}-")

    assert (done.code, done.out) == (2, "")
    assert all(job_id in done.err for job_id in ids)


def test_not_all_of_very_many_candidates_are_named(service: Commands) -> None:
    for number in range(11):
        service.submit("--draft", "--job-id", f"many-{number}", "--", "true")

    done = service.run("show", "many-")

    assert done.code == 2
    assert done.err.count("many-") == 11  # ten of them, and what was asked for
    assert "many-1, ...;" in done.err


def test_id_itself_comes_before_ids_that_begin_so(service: Commands) -> None:
    for job_id in ("exact", "exact-1", "exact-2"):
        service.submit("--draft", "--job-id", job_id, "--", "true")

    assert service.run("show", "--json", "exact").json["job_id"] == "exact"


def test_three_characters_are_no_beginning_but_may_be_an_id(service: Commands) -> None:
    service.submit("--draft", "--job-id", "abc-1", "--", "true")
    before = service.run("show", "abc")
    service.submit("--draft", "--job-id", "abc", "--", "true")

    assert (before.code, before.err) == (3, "jobmgr: there is no job 'abc'\n")
    assert service.run("show", "--json", "abc").json["job_id"] == "abc"
