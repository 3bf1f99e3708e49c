"""Statements on sites: which there are, and where a new job goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa

from jobmgr.credential import Source
from jobmgr.dialects import registry
from jobmgr.domain.environment import secrets_of
from jobmgr.domain.job import NewJob
from jobmgr.domain.resources import Resources, counted
from jobmgr.domain.site import LOCAL, MAX_SUBMITTED, Way
from jobmgr.domain.site import Site as SiteView
from jobmgr.domain.status import TERMINAL
from jobmgr.errors import Conflict, InvalidRequest, SiteNotFound
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Attempt, Job, Site
from jobmgr.store.transaction import AnyRow, Topic, Transaction

# By name, what each site may be called as the executor of a job: its executor and, if it has one, its dialect.
_Kinds = Mapping[str, tuple[str, ...]]
# Where most jobs go; the row of this machine never changes.
_HERE: _Kinds = {LOCAL: (LOCAL,)}


def place(tx: Transaction, jobs: list[NewJob]) -> list[NewJob]:
    """The jobs, each with the site that it names or that its executor stands for.

    An executor alone stands for the site called like it, if it is of that kind, else for the first by name of the
    sites of that kind. Raises InvalidRequest for a site or a kind that there is not, for two that do not agree, and
    for an option in the scheduler's own words that it cannot be given.
    """
    names = {job.site for job in jobs if job.site is not None}
    kinds = {job.executor for job in jobs if job.executor is not None}
    sites = _read(tx, names, kinds)
    if kinds or not names <= sites.keys():
        jobs = [replace(job, site=_site_of(tx, job, sites)) for job in jobs]
    _check_options(jobs, sites)
    _check_secrets(jobs)
    return jobs


def _check_options(jobs: Sequence[NewJob], sites: _Kinds) -> None:
    """Here, where it is known which scheduler a job goes to: it will say the same when the job is handed in."""
    for job in jobs:
        options = job.spec.resources.directives
        if options and job.site is not None:
            with _at(job.at):
                registry.check_options(sites[job.site][-1], options)


def _check_secrets(jobs: Sequence[NewJob]) -> None:
    """A batch script can read a file. What else it was given would lie in clear where the script lies."""
    for job in jobs:
        if job.site == LOCAL:
            continue
        for name, reference in secrets_of(job.spec.env).items():
            if reference.source is not Source.FILE:
                raise InvalidRequest(
                    f"{job.at}env.{name}.secret",
                    f"{str(reference)!r} can be had on the service's machine only, and must not lie in a script at the "
                    f"site {job.site}; write file: and the path of a file there",
                )


@contextmanager
def _at(at: str) -> Iterator[None]:
    """Name the job, too, whose field is wrong."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(at + error.field, error.message) from None


def _read(tx: Transaction, names: set[str], kinds: set[str]) -> _Kinds:
    if names <= {LOCAL} and not kinds:
        return _HERE
    rows = _NAMED_OR_OF_KIND.rows(tx.connection, {"names": sorted(names), "kinds": sorted(kinds)})
    return {row.name: tuple(filter(None, (row.executor, row.dialect))) for row in rows}


_NAMED_OR_OF_KIND = Prepared(
    sa.select(Site.name, Site.executor, Site.dialect).where(
        sa.or_(listed(Site.name, "names"), listed(Site.executor, "kinds"), listed(Site.dialect, "kinds"))
    )
)


def _site_of(tx: Transaction, job: NewJob, sites: _Kinds) -> str:
    name, kind = job.site, job.executor
    if name is not None:
        if name not in sites:
            raise InvalidRequest(job.at + "site", f"there is no site {name!r}; see `jobmgr site ls`")
        if kind is not None and kind not in sites[name]:
            has = " and ".join(sorted(sites[name]))
            raise InvalidRequest(job.at + "executor", f"site {name!r} is of the kind {has}, not {kind!r}")
        return name
    # In the order of Python, not in that of the database, which is a matter of its locale.
    fitting = sorted(name for name, kinds in sites.items() if kind in kinds)
    if not fitting:
        known = ", ".join(_known_kinds(tx))
        raise InvalidRequest(
            job.at + "executor", f"there is no site of the kind {kind!r}; there are: {known}"
        )
    return kind if kind in fitting else fitting[0]


def listing(connection: sa.Connection) -> list[SiteView]:
    """All sites by name."""
    return [_site(row) for row in connection.execute(sa.select(*Site.__table__.c).order_by(Site.name))]


def get(connection: sa.Connection, name: str) -> SiteView:
    """One site. Raises SiteNotFound."""
    row = connection.execute(sa.select(*Site.__table__.c).where(Site.name == name)).one_or_none()
    if row is None:
        raise SiteNotFound(name)
    return _site(row)


def _site(row: AnyRow) -> SiteView:
    more = row.configuration
    return SiteView(
        name=row.name,
        executor=row.executor,
        dialect=row.dialect,
        way=Way(row.transport or Way.LOCAL),
        host=row.host,
        work_dir=more.get("work_dir"),
        is_enabled=more.get("enabled", True),
        max_submitted=more.get("max_submitted", MAX_SUBMITTED),
        max_running=more.get("max_running"),
        defaults=Resources.of(more.get("defaults", {})),
        ssh=more.get("ssh", {}),
        work_id=row.work_id,
    )


def live(connection: sa.Connection, name: str) -> int:
    """How many live attempts a site has, in the hands of all services."""
    statement = (
        sa.select(sa.func.count())
        .select_from(Attempt)
        .join(Job, Job.id == Attempt.job)
        .where(Attempt.finished_at.is_(None), Job.site == name)
    )
    return int(connection.execute(statement).scalar_one())


def put(tx: Transaction, sites: Sequence[SiteView]) -> list[SiteView]:
    """Store sites, new ones or instead of those of the same names.

    A site that becomes another place forgets the name of its work directory. Raises Conflict if it has live attempts.
    """
    return [_put(tx, site) for site in sites]


def ensure(tx: Transaction, sites: Sequence[SiteView]) -> list[SiteView]:
    """Store sites, each unless there is one of its kind, which is answered instead.

    Raises Conflict if its name is that of a site of another kind.
    """
    answers = []
    for site in sites:
        there = listing(tx.connection)
        if any(one.name == site.name and one.dialect != site.dialect for one in there):
            raise Conflict(
                f"the site {site.name} is of another kind;"
                f" `jobmgr site add NAME --kind {site.dialect}` makes one of this"
            )
        fitting = [one for one in there if one.dialect == site.dialect]
        answers.append(fitting[0] if fitting else _put(tx, site))
    return answers


def _put(tx: Transaction, site: SiteView) -> SiteView:
    row = _locked(tx, site.name)
    values = {
        "executor": site.executor,
        "dialect": site.dialect,
        "transport": site.way.value,
        "host": site.host,
        "configuration": {
            "work_dir": site.work_dir,
            "enabled": site.is_enabled,
            "max_submitted": site.max_submitted,
            "max_running": site.max_running,
            "defaults": site.defaults.asked(),
            "ssh": dict(site.ssh),
        },
    }
    if row is None:
        site = replace(site, work_id="")
        tx.connection.execute(sa.insert(Site).values(name=site.name, **values))
    else:
        is_moved = _place_of(_site(row)) != _place_of(site)
        if is_moved and (there := live(tx.connection, site.name)):
            raise Conflict(
                f"{there} attempts are live at {site.name}, "
                "whose scheduler, host and work directory stay until they end"
            )
        site = replace(site, work_id="" if is_moved else row.work_id)
        changed = sa.update(Site).where(Site.name == site.name)
        tx.connection.execute(changed.values(**values, work_id=site.work_id))
    _tell(tx, site)
    return site


@dataclass(frozen=True, slots=True)
class Named:
    """The name of a site's work directory, as it was read there."""

    site: SiteView
    work_id: str


def name_directories(tx: Transaction, seen: Sequence[Named]) -> list[str]:
    """Store the names of the work directories of sites that have none yet; answers the names that they have then.

    The first that is stored stands. Empty: the site is another place by now, or not there any more.
    """
    return [_name(tx, one) for one in seen]


def _name(tx: Transaction, seen: Named) -> str:
    row = _locked(tx, seen.site.name)
    if row is None or _place_of(_site(row)) != _place_of(seen.site):
        return ""
    if not row.work_id:
        changed = sa.update(Site).where(Site.name == seen.site.name)
        tx.connection.execute(changed.values(work_id=seen.work_id))
        _tell(tx, _site(row))
    return row.work_id or seen.work_id


def _locked(tx: Transaction, name: str) -> AnyRow | None:
    # Who claims for a site locks it too: it does not move while attempts are made for it.
    statement = sa.select(*Site.__table__.c).where(Site.name == name)
    if tx.is_postgresql:
        statement = statement.with_for_update(key_share=True)
    return tx.connection.execute(statement).one_or_none()


def _tell(tx: Transaction, site: SiteView) -> None:
    tx.record("site_updated", None, site=site.name, enabled=site.is_enabled)
    tx.topics.update((Topic.SITE, Topic.WORK))


@dataclass(frozen=True, slots=True)
class Switch:
    """Whether a site is to get jobs."""

    name: str
    is_enabled: bool


def switch(tx: Transaction, switches: Sequence[Switch]) -> list[SiteView]:
    """Enable sites, or disable them. Raises SiteNotFound, and Conflict for `local`."""
    return [_switch(tx, one) for one in switches]


def _switch(tx: Transaction, wanted: Switch) -> SiteView:
    site = get(tx.connection, wanted.name)
    if site.is_local:
        raise Conflict("the site local is this machine; `jobmgr queue pause` keeps jobs from starting")
    return _put(tx, replace(site, is_enabled=wanted.is_enabled))


def remove(tx: Transaction, names: Sequence[str]) -> list[None]:
    """Forget sites. Raises SiteNotFound, and Conflict for `local` and for sites that stored jobs name."""
    for name in names:
        if get(tx.connection, name).name == LOCAL:
            raise Conflict("the site local always exists")
        if tx.connection.execute(sa.select(Job.id).where(Job.site == name).limit(1)).first() is not None:
            raise Conflict(_why_it_stays(name, _unended(tx, name)))
        tx.connection.execute(sa.delete(Site).where(Site.name == name))
        tx.record("site_removed", None, site=name)
        tx.topics.add(Topic.SITE)
    return [None] * len(names)


def _why_it_stays(name: str, unended: int) -> str:
    disable = f"`jobmgr site disable {name}` gives it no more"
    if not unended:
        return f"jobs of the site {name} are stored, which need it for their files; {disable}"
    have = "has" if unended == 1 else "have"
    cancel = f"`jobmgr ls --site {name} --ids | jobmgr cancel -` ends them"
    return f"{counted(unended, 'job')} of the site {name} {have} not ended; {disable}, and {cancel}"


def _unended(tx: Transaction, name: str) -> int:
    statement = sa.select(sa.func.count()).where(Job.site == name, Job.status.not_in(sorted(TERMINAL)))
    return int(tx.connection.execute(statement).scalar_one())


def _place_of(site: SiteView) -> tuple[str | None, ...]:
    return site.executor, site.dialect, site.way, site.host, site.work_dir


def _known_kinds(tx: Transaction) -> list[str]:
    rows = tx.connection.execute(sa.select(Site.executor, Site.dialect).distinct())
    return sorted({kind for row in rows for kind in row if kind})
