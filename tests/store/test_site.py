"""Where a new job goes: the site that it names, or the one that its executor stands for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.domain.job import JobFilter, NewJob
from jobmgr.errors import InvalidRequest
from jobmgr.store import submissions
from jobmgr.store.transaction import Transaction
from tests.store.worker import Worker, new_job


@pytest_asyncio.fixture
async def cluster(worker: Worker) -> Worker:
    """Two SLURM clusters, one of LSF, and a site that is called as another kind than its own."""
    await worker.site("newton", "batch", "slurm")
    await worker.site("Zuse", "batch", "slurm")
    await worker.site("lsf", "batch", "lsf")
    await worker.site("pbs", "dask")
    return worker


@pytest.mark.parametrize(
    ("site", "executor", "expected"),
    [
        ("local", None, "local"),
        ("newton", None, "newton"),
        (None, "local", "local"),
        (None, "lsf", "lsf"),
        # Capitals come first on every database, whatever its locale.
        (None, "slurm", "Zuse"),
        (None, "batch", "Zuse"),
        (None, "dask", "pbs"),
        ("newton", "slurm", "newton"),
        ("newton", "batch", "newton"),
        ("local", "local", "local"),
    ],
)
async def test_job_goes_to_the_site_that_is_meant(
    cluster: Worker, site: str | None, executor: str | None, expected: str
) -> None:
    await cluster.add("a", site=site, executor=executor)

    assert (await cluster.get("a")).site == expected


@pytest.mark.parametrize(
    ("executor", "expected"),
    [
        ("slurm", ["newton", "Zuse"]),
        ("lsf", ["lsf"]),
        ("batch", ["newton", "Zuse", "lsf"]),
        ("pbs", []),
        ("local", ["local"]),
    ],
)
async def test_jobs_are_listed_by_what_their_executor_may_be_called(
    cluster: Worker, executor: str, expected: list[str]
) -> None:
    for site in ("newton", "local", "Zuse", "lsf"):
        await cluster.add(site, site=site)

    assert [job.job_id for job in await cluster.all(JobFilter(executor=executor))] == expected


async def test_site_of_the_executors_own_name_comes_before_others(cluster: Worker) -> None:
    await cluster.site("slurm", "batch", "slurm")

    await cluster.add("a", site=None, executor="slurm")

    assert (await cluster.get("a")).site == "slurm"


@pytest.mark.parametrize(
    ("site", "executor", "field", "sentence"),
    [
        ("nowhere", None, "site", "there is no site 'nowhere'"),
        ("nowhere", "slurm", "site", "there is no site 'nowhere'"),
        (None, "pbs", "executor", "no site of the kind 'pbs'; there are: batch, dask, local, lsf, slurm"),
        (None, "newton", "executor", "no site of the kind 'newton'"),
        (None, "", "executor", "no site of the kind ''"),
        ("newton", "lsf", "executor", "site 'newton' is of the kind batch and slurm, not 'lsf'"),
        ("local", "slurm", "executor", "site 'local' is of the kind local, not 'slurm'"),
    ],
)
async def test_site_and_executor_that_do_not_fit_are_refused(
    cluster: Worker, site: str | None, executor: str | None, field: str, sentence: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await cluster.insert(new_job("good"), new_job("bad", site=site, executor=executor))

    assert refused.value.field == field
    assert sentence in refused.value.message
    assert await cluster.all() == []


async def test_jobs_of_one_bulk_go_to_different_sites(cluster: Worker) -> None:
    await cluster.insert(
        new_job("a"),
        new_job("b", site=None, executor="slurm"),
        new_job("c", site="lsf"),
        new_job("d", site=None, executor="local"),
    )

    assert [job.site for job in await cluster.all()] == ["local", "Zuse", "lsf", "local"]


@pytest.mark.parametrize("executor", [None, "slurm"])
async def test_sites_of_a_batch_are_read_in_one_statement(cluster: Worker, executor: str | None) -> None:
    statements: list[str] = []

    def watched(tx: Transaction, bulks: Sequence[list[NewJob]]) -> list[list[submissions.Stored]]:
        @sa.event.listens_for(tx.connection, "before_cursor_execute")
        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        stored = submissions.insert(tx, bulks)
        sa.event.remove(tx.connection, "before_cursor_execute", note)
        return stored

    site = None if executor else "local"

    await cluster.database.write(watched, [new_job(site=site, executor=executor) for _ in range(50)])

    assert len([statement for statement in statements if "FROM sites" in statement]) == 1
