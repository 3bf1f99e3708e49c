"""Judges the service that command lines of this user talk to, and what it says of its sites."""

from __future__ import annotations

from collections.abc import Iterator

from jobmgr.client import announcement
from jobmgr.client.announcement import Announcement
from jobmgr.client.health import Health
from jobmgr.domain.checkup import Check, ok, problem, warning
from jobmgr.domain.resources import counted
from jobmgr.domain.site import LOCAL

NAME = "service"
_SITES = "sites"
_START = "start one with `jobmgr serve`"


def judge(left: Announcement | None, health: Health | None, version: str, *, is_served: bool) -> Check:
    """Whether it runs, answers, can use its database, and is of this version."""
    if health is not None:
        return _answer(health, left, version)
    if left is not None:
        found = f"process {left.pid} was killed and left its {announcement.FILE}"
        return warning(NAME, found, f"{_START}; it takes up what was left")
    if is_served:
        return ok(NAME, "none of this state directory, but another program serves the database")
    return warning(NAME, "none is running, so no job is started", _START)


def _answer(health: Health, left: Announcement | None, version: str) -> Check:
    who = f"{health.url} (process {left.pid})" if left and left.url == health.url else health.url
    if not health.lives:
        remedy = "if that process hangs, end it and start `jobmgr serve` again; running jobs are not touched"
        return problem(NAME, f"{who} does not answer: {health.trouble}", remedy)
    if health.version is None:
        remedy = "show its token in JOBMGR_TOKEN, or run this as its user"
        return warning(NAME, f"{who} lives, but tells us nothing: {health.trouble}", remedy)
    if not health.is_ready:
        remedy = "see what is said about the database; the service goes on by itself once it is back"
        return problem(NAME, f"{who} lives, but is not ready: {health.trouble}", remedy)
    if health.version != version:
        found = f"{who} is jobmgr {health.version}, this is {version}"
        return warning(NAME, found, "restart the service, so that both are the same; running jobs go on")
    return ok(NAME, f"{who} is ready, jobmgr {health.version}{_doors(left, health)}")


def _doors(left: Announcement | None, health: Health) -> str:
    """Who gets in, as the service itself was told: the settings here may be others."""
    if left is None or not left.doors or health.url not in (left.url, f"unix:{left.socket}"):
        return ""
    told = dict(left.doors) | ({"socket": left.socket} if left.socket else {})
    return "; " + "; ".join(f"{name} {text}" for name, text in told.items())


def judge_sites(health: Health | None) -> Iterator[Check]:
    """Whether it serves the sites that are enabled; nothing if it does not tell."""
    sites = health.sites if health is not None else ()
    enabled = [site for site in sites if site.enabled and site.name != LOCAL]
    if not enabled:
        return
    troubles = [site.trouble for site in enabled if site.trouble]
    if troubles:
        yield problem(_SITES, "; ".join(troubles), "`jobmgr site test NAME` tries a site step by step")
    else:
        yield ok(_SITES, f"{counted(len(enabled), 'site')} served")
