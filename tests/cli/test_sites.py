"""`jobmgr site`, and jobs of sites in lists: what is printed, and the exit codes."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Commands


@pytest.fixture
def host(service: Commands) -> Commands:
    """The command beside a service that has the site `host`, which needs no scheduler, open."""
    added = service.run("site", "add", "host", "--kind", "shell")
    assert added.code == 0, added
    return service


def facts(out: str) -> list[tuple[str, str]]:
    """Names and values of `show`."""
    rows = [line.partition("  ") for line in out.splitlines()]
    return [(name, value.strip()) for name, _, value in rows]


def test_options_in_a_schedulers_words_are_shown_one_by_one(service: Commands) -> None:
    service.run("site", "add", "far", "--kind", "slurm", "--disabled")
    asked = [text for name in ("--nice=3", "--comment=a,b") for text in ("-R", f"directives={name}")]
    job_id = service.submit("--site", "far", *asked, "-R", "exclusive=true", "--", "true")

    shown = facts(service.run("show", job_id).out)

    assert [value for name, value in shown if name == "directives"] == ["--nice=3", "--comment=a,b"]
    assert ("exclusive", "yes") in shown
    assert ("site", "far") in shown


def test_jobs_of_a_site_are_listed_with_what_they_are_called_there(host: Commands) -> None:
    there = host.submit("--site", "host", "--name", "there", "--wait", "--", "true")
    here = host.submit("--name", "here", "--wait", "--", "true")
    handle = host.run("show", "--json", there).json["handle"]

    listed = host.run("ls", "--site", "host").out.splitlines()
    both = host.run("ls").out
    alone = host.run("ls", "--site", "local", "--name", "here").out

    assert [line.split()[0] for line in listed[1:]] == [there]
    assert listed[0].split()[:5] == ["ID", "NAME", "STATUS", "QUEUE", "SITE"]
    assert f"host {handle}" in listed[1]
    assert f"host {handle}" in both
    assert here in both
    assert "SITE" not in alone


def test_site_that_is_mistyped_is_not_a_site_without_jobs(host: Commands) -> None:
    done = host.run("ls", "--site", "hots")

    assert (done.code, done.out) == (3, "")
    assert "there is no site 'hots'" in done.err


def test_forgotten_site_is_warned_of(service: Commands) -> None:
    one = service.run("submit", "-R", "partition=long", "--draft", "--", "true")
    line = b'{"command": ["true"], "draft": true, "resources": {"modules": ["ansys"]}}'
    many = service.run("submit", "--from", "-", stdin=line)

    assert (one.code, many.code) == (0, 0)
    remedy = "on this machine; name the `site` whose scheduler is meant, or leave it out"
    assert one.err == f"warning: resources.partition: means nothing {remedy}\n"
    assert many.err == f"warning: jobs[0].resources.modules: means nothing {remedy}\n"
