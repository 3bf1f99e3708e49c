"""Statements on sites: where a new job goes, and which sites are of a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import sqlalchemy as sa

from jobmgr.domain.job import NewJob
from jobmgr.errors import InvalidRequest
from jobmgr.store.prepared import Prepared, listed
from jobmgr.store.tables import Site
from jobmgr.store.transaction import Transaction

# By name, what each site may be called as the executor of a job: its executor and its dialect.
_Kinds = Mapping[str, frozenset[str]]


def place(tx: Transaction, jobs: list[NewJob]) -> list[NewJob]:
    """The jobs, each with the site that it names or that its executor stands for.

    An executor alone stands for the site called like it, if it is of that kind, else for the first by name of the
    sites of that kind. Raises InvalidRequest for a site or a kind that there is not, and for two that do not agree.
    """
    names = {job.site for job in jobs if job.site is not None}
    kinds = {job.executor for job in jobs if job.executor is not None}
    sites = _read(tx, names, kinds)
    if not kinds and names <= sites.keys():
        return jobs
    return [replace(job, site=_site_of(tx, job, sites)) for job in jobs]


def _read(tx: Transaction, names: set[str], kinds: set[str]) -> _Kinds:
    rows = _NAMED_OR_OF_KIND.rows(tx.connection, {"names": sorted(names), "kinds": sorted(kinds)})
    return {row.name: frozenset(filter(None, (row.executor, row.dialect))) for row in rows}


_NAMED_OR_OF_KIND = Prepared(
    sa.select(Site.name, Site.executor, Site.dialect).where(
        sa.or_(listed(Site.name, "names"), listed(Site.executor, "kinds"), listed(Site.dialect, "kinds"))
    )
)


def _site_of(tx: Transaction, job: NewJob, sites: _Kinds) -> str:
    name, kind = job.site, job.executor
    if name is not None:
        if name not in sites:
            raise InvalidRequest(job.at + "site", f"there is no site {name!r}; `local` always exists")
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


def _known_kinds(tx: Transaction) -> list[str]:
    rows = tx.connection.execute(sa.select(Site.executor, Site.dialect).distinct())
    return sorted({kind for row in rows for kind in row if kind})
