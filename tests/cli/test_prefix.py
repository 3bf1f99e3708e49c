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
    # As ids look that are chosen for jobs.
    start = verb.encode().hex()[:8].ljust(8, "0")
    ids = [service.submit("--draft", "--job-id", f"{start}{end:012x}", "--", "true") for end in (1, 2)]

    done = service.run(verb, start)

    assert (done.code, done.out) == (2, "")
    assert all(job_id in done.err for job_id in ids)


def test_not_all_of_very_many_candidates_are_named(service: Commands) -> None:
    for number in range(11):
        service.submit("--draft", "--job-id", f"facade{number:014x}", "--", "true")

    done = service.run("show", "facade")

    assert done.code == 2
    assert done.err.count("facade") == 11  # ten of them, and what was asked for
    assert f"facade{1:014x}, ...;" in done.err


def test_id_itself_comes_before_ids_that_begin_so(service: Commands) -> None:
    for job_id in ("decade", f"decade{1:014x}"):
        service.submit("--draft", "--job-id", job_id, "--", "true")

    assert service.run("show", "--json", "decade").json["job_id"] == "decade"


def test_an_id_of_ones_own_is_never_taken_for_another(service: Commands) -> None:
    service.submit("--draft", "--job-id", "study10", "--", "true")
    service.submit("--draft", "--job-id", "beef10", "--", "true")

    assert service.run("cancel", "study1").code == 3
    assert service.run("cancel", "beef1").code == 3


def test_three_characters_are_no_beginning_but_may_be_an_id(service: Commands) -> None:
    service.submit("--draft", "--job-id", f"abc{1:017x}", "--", "true")
    before = service.run("show", "abc")
    service.submit("--draft", "--job-id", "abc", "--", "true")

    assert (before.code, before.err) == (3, "jobmgr: there is no job 'abc'\n")
    assert service.run("show", "--json", "abc").json["job_id"] == "abc"
