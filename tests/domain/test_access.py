"""The one decision, as a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from jobmgr.domain.access import (
    Hearing,
    Principal,
    Role,
    Scope,
    Sight,
    Verb,
    check,
    confined,
    may,
    sight,
)
from jobmgr.domain.job import Event, JobFilter
from jobmgr.errors import AccessDenied, JobNotFound


@dataclass(frozen=True, slots=True)
class Owned:
    job_id: str
    user: str


OWN, OF_A_MATE, OF_A_STRANGER = Owned("own", "ann"), Owned("mates", "ben"), Owned("strange", "zoe")
OF_JOBS = (Verb.READ, Verb.REPORT, Verb.CHANGE)


def principal(role: Role, *scopes: Scope, job_id: str | None = None) -> Principal:
    return Principal("ann", role, frozenset(scopes or Scope), {"ben": None}, job_id)


# What each may do at all, and with which jobs: own, a mate's, a stranger's.
MAY = {
    Role.VIEWER: ({Verb.SELF, Verb.LOOK, Verb.READ, Verb.OVERSEE}, {Verb.READ}, {Verb.READ}, {Verb.READ}),
    Role.USER: ({*OF_JOBS, Verb.SELF, Verb.LOOK, Verb.SUBMIT}, {*OF_JOBS}, {Verb.READ}, set()),
    Role.ADMIN: (set(Verb), {*OF_JOBS}, {*OF_JOBS}, {*OF_JOBS}),
}


@pytest.mark.parametrize("role", list(Role))
def test_roles(role: Role) -> None:
    who = principal(role)
    at_all, *of_jobs = MAY[role]
    assert {verb for verb in Verb if may(who, verb)} == at_all
    for job, verbs in zip((OWN, OF_A_MATE, OF_A_STRANGER), of_jobs, strict=True):
        assert {verb for verb in OF_JOBS if may(who, verb, job)} == verbs, job


@pytest.mark.parametrize(
    ("scope", "verbs"),
    [
        (Scope.READ, {Verb.SELF, Verb.LOOK, Verb.READ, Verb.OVERSEE}),
        (Scope.SUBMIT, {Verb.SELF, Verb.SUBMIT, Verb.REPORT, Verb.CHANGE}),
        (Scope.ADMIN, {Verb.SELF, Verb.OPERATE, Verb.GOVERN, Verb.SUBMIT_AS}),
    ],
)
def test_a_scope_is_the_most_a_token_is_good_for(scope: Scope, verbs: set[Verb]) -> None:
    assert {verb for verb in Verb if may(principal(Role.ADMIN, scope), verb)} == verbs
    of_a_user = {verb for verb in Verb if may(principal(Role.USER, scope), verb)}
    assert of_a_user == verbs & MAY[Role.USER][0]


@pytest.mark.parametrize("role", [Role.USER, Role.ADMIN])
def test_token_of_a_job_is_good_for_that_job(role: Role) -> None:
    who = principal(role, job_id="own")
    assert {verb for verb in Verb if may(who, verb)} == {Verb.SELF, Verb.READ, Verb.REPORT}
    assert {verb for verb in OF_JOBS if may(who, verb, OWN)} == {Verb.READ, Verb.REPORT}
    for other in (Owned("other", "ann"), OF_A_MATE, OF_A_STRANGER):
        assert not any(may(who, verb, other) for verb in OF_JOBS)
    assert not Hearing.of(who).everything


def test_what_is_not_seen_is_not_there_and_what_is_seen_is_refused() -> None:
    who = principal(Role.USER)
    with pytest.raises(JobNotFound):
        check(who, Verb.CHANGE, OF_A_STRANGER)
    with pytest.raises(AccessDenied, match="may look at it, and no more"):
        check(who, Verb.CHANGE, OF_A_MATE)
    with pytest.raises(AccessDenied, match="takes the role admin"):
        check(who, Verb.OPERATE)
    with pytest.raises(AccessDenied, match="lacks the scope submit"):
        check(principal(Role.USER, Scope.READ), Verb.SUBMIT)
    with pytest.raises(AccessDenied, match="is of job own"):
        check(principal(Role.USER, job_id="own"), Verb.SUBMIT)
    with pytest.raises(AccessDenied, match="is of job own"):
        check(principal(Role.USER, job_id="own"), Verb.CHANGE, OWN)
    with pytest.raises(AccessDenied, match="lacks the scope submit"):
        check(principal(Role.USER, Scope.READ), Verb.CHANGE, OWN)
    # Who may change a job knows that there is one; of others' it takes `read` to be told of them.
    submitter = principal(Role.USER, Scope.SUBMIT)
    with pytest.raises(AccessDenied, match="lacks the scope read"):
        check(submitter, Verb.READ, OWN)
    with pytest.raises(JobNotFound):
        check(submitter, Verb.CHANGE, OF_A_MATE)


def test_listings_are_confined_to_what_is_seen() -> None:
    assert confined(principal(Role.ADMIN), JobFilter()) == JobFilter()
    assert confined(principal(Role.VIEWER), JobFilter(user="zoe")) == JobFilter(user="zoe")
    alone = Principal("ann", Role.USER)
    assert confined(alone, JobFilter()) == JobFilter(user="ann")
    assert confined(alone, JobFilter(user="zoe")) == JobFilter(user="zoe", users=frozenset({"ann"}))
    both = frozenset({"ann", "ben"})
    assert sight(principal(Role.USER)) == Sight(both)
    assert confined(principal(Role.USER), JobFilter(ids=("x",))) == JobFilter(ids=("x",), users=both)
    bound = principal(Role.USER, job_id="own")
    assert confined(bound, JobFilter()).ids == ("own",)
    assert confined(bound, JobFilter(ids=("own", "x"))).ids == ("own",)
    assert confined(bound, JobFilter(ids=("x",))).ids == ()


def event(kind: str, job_id: str | None = None, user: str = "") -> Event:
    return Event(1, datetime.now(UTC), kind, job_id, user, 1, {})


def test_what_is_heard() -> None:
    events = [
        event("completed", "own", "ann"),
        event("completed", "mates", "ben"),
        event("completed", "strange", "zoe"),
        event("queue_updated"),
        event("user_added"),
    ]

    def heard(who: Principal) -> list[str]:
        return [each.job_id or each.kind for each in Hearing.of(who).heard(events)]

    assert heard(principal(Role.ADMIN)) == ["own", "mates", "strange", "queue_updated", "user_added"]
    assert heard(principal(Role.VIEWER)) == ["own", "mates", "strange", "queue_updated"]
    assert heard(principal(Role.USER)) == ["own", "mates", "queue_updated"]
    assert heard(principal(Role.ADMIN, job_id="own")) == ["own"]
    early = [replace(events[0], at=datetime.now(UTC) - timedelta(days=1)), events[0]]
    new = replace(principal(Role.USER), since=datetime.now(UTC) - timedelta(hours=1))
    assert Hearing.of(new).heard(early) == [events[0]]
    of_mate = [replace(events[1], at=early[0].at), events[1]]
    anew = replace(principal(Role.USER), mates={"ben": new.since})
    assert Hearing.of(anew).heard(of_mate) == [events[1]]
    assert Hearing.of(replace(anew, role=Role.VIEWER)).heard(of_mate) == of_mate
    # What a token is good for at most is also the most that its bearer hears.
    assert heard(principal(Role.ADMIN, Scope.READ)) == ["own", "mates", "strange", "queue_updated"]
