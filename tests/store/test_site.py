"""Where a new job goes: the site that it names, or the one that its executor stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import pytest_asyncio
import sqlalchemy as sa

from jobmgr.dispatch.admission import choose
from jobmgr.domain.job import JobFilter, NewJob
from jobmgr.domain.site import Site
from jobmgr.errors import InvalidRequest
from jobmgr.store import claims, ownership, sites, submissions
from jobmgr.store.claims import Claim, Room
from jobmgr.store.ownership import Adoption
from jobmgr.store.sites import Named
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


@pytest.mark.parametrize(
    ("site", "executor", "count"), [("local", None, 0), ("Zuse", None, 1), (None, "slurm", 1)]
)
async def test_sites_of_a_batch_are_read_in_one_statement_if_at_all(
    cluster: Worker, site: str | None, executor: str | None, count: int
) -> None:
    statements: list[str] = []

    def watched(tx: Transaction, bulks: Sequence[list[NewJob]]) -> list[list[submissions.Stored]]:
        @sa.event.listens_for(tx.connection, "before_cursor_execute")
        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        stored = submissions.insert(tx, bulks)
        sa.event.remove(tx.connection, "before_cursor_execute", note)
        return stored

    await cluster.database.write(watched, [new_job(site=site, executor=executor) for _ in range(50)])

    assert len([statement for statement in statements if "FROM sites" in statement]) == count


LAB = Site("lab", dialect="shell", work_dir="/lab")


async def named(worker: Worker, site: Site, work_id: str) -> str:
    """The name that the site has after this one was read."""
    name = await worker.database.write(sites.name_directories, Named(site, work_id))
    assert (await worker.database.read(sites.get, site.name)).work_id == name
    return name


async def test_name_of_a_work_directory_that_was_stored_first_stands(worker: Worker) -> None:
    await worker.database.write(sites.put, LAB)

    assert await named(worker, LAB, "one") == "one"
    assert await named(worker, LAB, "two") == "one"


async def test_site_keeps_the_name_of_its_work_directory_as_long_as_that_is_the_same(worker: Worker) -> None:
    await worker.database.write(sites.put, LAB)
    await named(worker, LAB, "one")

    changed = await worker.database.write(sites.put, replace(LAB, max_submitted=7))
    moved = await worker.database.write(sites.put, replace(LAB, work_dir="/other", work_id="one"))

    assert (changed.work_id, moved.work_id) == ("one", "")
    assert await worker.database.read(sites.get, "lab") == moved


async def test_name_is_not_stored_for_a_directory_that_is_not_meant_any_more(worker: Worker) -> None:
    await worker.database.write(sites.put, replace(LAB, work_dir="/other"))

    assert await named(worker, LAB, "one") == ""
    await worker.database.write(sites.remove, "lab")
    assert await worker.database.write(sites.name_directories, Named(LAB, "one")) == ""


async def claim_at(worker: Worker, site: str, slots: int, work_id: str = "") -> list[str]:
    claimed = await worker.database.write(
        claims.claim, Claim(worker.id, site, Room.elsewhere(slots), choose, work_id=work_id)
    )
    return [one.job_id for one in claimed]


async def test_foreign_queue_has_no_more_than_all_services_together_may_give_it(worker: Worker) -> None:
    other = await Worker.register(worker.database, "other")
    for name in ("lab", "far"):
        await worker.database.write(sites.put, replace(LAB, name=name))
    await worker.insert(*(new_job(f"a{number}", site="lab") for number in range(5)))
    await worker.insert(new_job("here"), new_job("b", site="far"))
    await other.claim()
    await claim_at(other, "far", 1)

    first = await claim_at(worker, "lab", 2)
    # Of three it may have the other leaves one.
    second = await claim_at(other, "lab", 3)
    third = await claim_at(other, "lab", 2)

    assert (first, second, third) == (["a0", "a1"], ["a2"], [])


async def test_nothing_is_claimed_for_a_work_directory_that_the_site_does_not_mean(worker: Worker) -> None:
    await worker.database.write(sites.put, LAB)
    await named(worker, LAB, "one")
    await worker.add("a", site="lab")

    assert await claim_at(worker, "lab", 2) == []
    assert await claim_at(worker, "lab", 2, "two") == []
    assert await claim_at(worker, "lab", 2, "one") == ["a"]


async def test_what_is_at_other_sites_is_left_to_who_sees_them(worker: Worker) -> None:
    heir = await Worker.register(worker.database, "heir")
    for name in ("lab", "far"):
        await worker.database.write(sites.put, replace(LAB, name=name))
    await worker.insert(new_job("here"), new_job("there", site="lab"), new_job("beyond", site="far"))
    await worker.claim()
    for name in ("lab", "far"):
        await claim_at(worker, name, 1)

    here = await worker.database.write(ownership.adopt, Adoption(heir.id, [worker.id]))
    there = await worker.database.write(ownership.adopt, Adoption(heir.id, [worker.id], ["lab"]))

    assert [one.job_id for one in here] == ["here"]
    assert [one.job_id for one in there] == ["there"]
