"""Who may do what: the one decision, for every door.

A principal is whoever a request comes from. What it may do at all follows from its role and, if it showed an API token,
from the token's scopes; with which jobs, from whose they are. A job that it may not see is to it as if there were none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from jobmgr.domain.job import Event, JobFilter
from jobmgr.errors import AccessDenied, JobNotFound


class Role(StrEnum):
    """What a user is here for: to look at everything, to run jobs, or to look after the service."""

    VIEWER = "viewer"
    USER = "user"
    ADMIN = "admin"


class Scope(StrEnum):
    """What an API token is good for, at most: it never gives what its user's role does not."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


class Verb(StrEnum):
    """What somebody may want to do.

    `self` is to see who one is, and to see and revoke one's own API tokens, which everybody may; `read` is to see jobs,
    `look` to see what is no job: queues, limits, sites; `report` is to change what a job says of itself (name,
    description, tags, extended properties), `change` to cancel, retry, hold, prioritise or delete it, `oversee` to see
    what everybody runs at schedulers, `operate` to change queues, limits and sites, `govern` to change users and API
    tokens and to read what everybody did, `submit_as` to submit jobs that are another user's.
    """

    SELF = "self"
    READ = "read"
    LOOK = "look"
    SUBMIT = "submit"
    REPORT = "report"
    CHANGE = "change"
    OVERSEE = "oversee"
    OPERATE = "operate"
    GOVERN = "govern"
    SUBMIT_AS = "submit_as"


class Owned(Protocol):
    """A job, or its row."""

    @property
    def job_id(self) -> str:
        """Its id."""

    @property
    def user(self) -> str:
        """Whose it is."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever asks. `mates` are the users who share a group with it, without itself, and when each was made; what
    happened before that, or before `since`, was nothing of this user's, whoever had the name then.

    Of an API token `token_id` is its name and `expires_at` when it ends; `job_id` is the job that it is bound to, if it
    was made for one that runs.
    """

    name: str
    role: Role
    scopes: frozenset[Scope] = frozenset(Scope)
    mates: Mapping[str, datetime | None] = field(default_factory=dict, hash=False)
    job_id: str | None = None
    token_id: str | None = None
    expires_at: datetime | None = None
    since: datetime | None = None

    @classmethod
    def owner(cls, name: str) -> Principal:
        """The user of the service itself."""
        return cls(name, Role.ADMIN)

    @property
    def shows_nothing(self) -> bool:
        """Whether it needs no API token here: the user of the service itself."""
        return self.token_id is None and self.job_id is None

    @property
    def sees_all(self) -> bool:
        """Whether all jobs are to be seen by it, whosever they are."""
        return sight(self) == Sight()

    @property
    def bearer(self) -> tuple[str, str | None, str | None]:
        """What is counted as one who asks: an API token, or that of a running job."""
        return self.name, self.token_id, self.job_id

    @property
    def keeper_of_keys(self) -> str:
        """Whose the keys of its requests are: a running job's are not its user's."""
        return self.name if self.job_id is None or self.token_id is None else self.token_id


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and from where (an address or `unix`, and by which API token), as it is kept of what they do."""

    principal: Principal
    origin: str


_SCOPE: Mapping[Verb, Scope] = {
    Verb.READ: Scope.READ,
    Verb.LOOK: Scope.READ,
    Verb.OVERSEE: Scope.READ,
    Verb.SUBMIT: Scope.SUBMIT,
    Verb.REPORT: Scope.SUBMIT,
    Verb.CHANGE: Scope.SUBMIT,
    Verb.OPERATE: Scope.ADMIN,
    Verb.GOVERN: Scope.ADMIN,
    Verb.SUBMIT_AS: Scope.ADMIN,
}
_OF_ROLE: Mapping[Role, frozenset[Verb]] = {
    Role.VIEWER: frozenset({Verb.READ, Verb.LOOK, Verb.OVERSEE}),
    Role.USER: frozenset({Verb.READ, Verb.LOOK, Verb.SUBMIT, Verb.REPORT, Verb.CHANGE}),
    Role.ADMIN: frozenset(Verb),
}
_OF_A_JOB = frozenset({Verb.READ, Verb.REPORT})


def may(principal: Principal, verb: Verb, job: Owned | None = None) -> bool:
    """Whether `principal` may do this: at all, or to `job`."""
    if verb is Verb.SELF:
        return True
    if verb not in _OF_ROLE[principal.role] or _SCOPE[verb] not in principal.scopes:
        return False
    if principal.job_id is not None:
        return verb in _OF_A_JOB and (job is None or job.job_id == principal.job_id)
    if job is None or principal.role is Role.ADMIN or job.user == principal.name:
        return True
    return verb is Verb.READ and sight(principal).shows(job.job_id, job.user)


def sees(principal: Principal, job: Owned) -> bool:
    """Whether there is this job for `principal`: who may change it is told of it, also without the scope to look."""
    return may(principal, Verb.READ, job) or may(principal, Verb.CHANGE, job)


def check(principal: Principal, verb: Verb, job: Owned | None = None) -> None:
    """Raise AccessDenied unless `principal` may do this; JobNotFound for a job that it does not even see."""
    if may(principal, verb, job):
        return
    if job is not None and not sees(principal, job):
        raise JobNotFound(job.job_id)
    raise AccessDenied(_reason(principal, verb, job))


def _reason(principal: Principal, verb: Verb, job: Owned | None) -> str:
    if principal.job_id is not None:
        return f"this API token is of job {principal.job_id}, and good for what that tells of itself only"
    if verb not in _OF_ROLE[principal.role]:
        able = ", ".join(role for role in Role if verb in _OF_ROLE[role])
        return f"{principal.name} is here as {principal.role}; to {_SAID[verb]} takes the role {able}"
    if _SCOPE[verb] not in principal.scopes:
        return f"this API token lacks the scope {_SCOPE[verb]}, which it takes to {_SAID[verb]}"
    assert job is not None
    return f"job {job.job_id!r} is {job.user}'s: {principal.name} may look at it, and no more"


_SAID: Mapping[Verb, str] = {
    Verb.READ: "see jobs",
    Verb.LOOK: "see queues, limits and sites",
    Verb.OVERSEE: "see what everybody runs",
    Verb.SUBMIT: "submit jobs",
    Verb.REPORT: "change what a job says of itself",
    Verb.CHANGE: "change jobs",
    Verb.OPERATE: "change queues, limits and sites",
    Verb.GOVERN: "change users and API tokens, and to read what everybody did",
    Verb.SUBMIT_AS: "submit jobs in the name of others",
}


@dataclass(frozen=True, slots=True)
class Sight:
    """Which jobs somebody sees: those of `users` (None: everybody's), and of these only `job_id` if there is one."""

    users: frozenset[str] | None = None
    job_id: str | None = None

    def shows(self, job_id: str, user: str) -> bool:
        """Whether this job is among them."""
        return (self.job_id is None or job_id == self.job_id) and (self.users is None or user in self.users)


def sight(principal: Principal) -> Sight:
    """Which jobs `principal`, who may read, sees."""
    if principal.job_id is not None:
        return Sight(frozenset({principal.name}), principal.job_id)
    if principal.role is Role.USER:
        return Sight(frozenset(principal.mates) | {principal.name})
    return Sight()


def confined(principal: Principal, wanted: JobFilter) -> JobFilter:
    """What `wanted` selects of the jobs that `principal` sees."""
    seen = sight(principal)
    if seen.users is None:
        return wanted
    if seen.job_id is not None:
        wanted = replace(wanted, ids=(seen.job_id,) if seen.job_id in (wanted.ids or (seen.job_id,)) else ())
    if wanted.user is None and seen.users == {principal.name}:
        # By one user there is an index.
        return replace(wanted, user=principal.name)
    return replace(wanted, users=seen.users)


# What concerns everybody who runs jobs; other events without a job are for those who look after the service.
_COMMON = frozenset({"limits_updated", "queue_updated", "site_updated", "site_removed"})


@dataclass(frozen=True, slots=True)
class Hearing:
    """What somebody is told of all that happens: everything, or what happens to the jobs that they see and, if they may
    look at those, to queues, limits and sites. Who hears alike is told alike.

    Nothing is told of what happened before `since`, and of `mates` nothing from before each was made.
    """

    everything: bool = False
    sight: Sight = field(default_factory=Sight)
    looks: bool = False
    since: datetime | None = None
    mates: Mapping[str, datetime | None] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, principal: Principal) -> Hearing:
        """That of `principal`, who may read."""
        told = may(principal, Verb.GOVERN), sight(principal), may(principal, Verb.LOOK)
        return cls(*told, principal.since, principal.mates) if principal.role is Role.USER else cls(*told)

    def hears(self, event: Event) -> bool:
        """Whether it is told of `event`."""
        if self.everything:
            return True
        if self.since is not None and event.at < self.since:
            return False
        if event.job_id is None:
            return self.looks and event.kind in _COMMON
        return self.sight.shows(event.job_id, event.user) and not self._is_of_an_earlier(event)

    def _is_of_an_earlier(self, event: Event) -> bool:
        # Whoever had the name of a mate before may have been in other groups.
        made_at = self.mates.get(event.user)
        return made_at is not None and event.at < made_at

    def heard(self, events: Sequence[Event]) -> Sequence[Event]:
        """Those of `events`; the very list if it is told of everything."""
        return events if self.everything else [event for event in events if self.hears(event)]
