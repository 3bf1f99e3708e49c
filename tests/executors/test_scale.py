"""Many attempts: all of them end, and nothing piles up."""

from __future__ import annotations

import asyncio
import os

from jobmgr.executors.protocol import Ended, Launch

from .conftest import Service, Site, eventually

WIDTH = 8


async def _run_all(service: Service, launches: list[Launch]) -> None:
    """Keep `WIDTH` attempts running until all have ended."""
    before = len(service.finals())
    for first in range(0, len(launches), WIDTH // 2):
        await _until_ended(service, before + first - WIDTH // 2)
        await service.executor.launch(launches[first : first + WIDTH // 2])
    await _until_ended(service, before + len(launches))


async def _until_ended(service: Service, count: int) -> None:
    await eventually(lambda: len(service.finals()) >= count)


async def test_many_jobs_end_and_leave_nothing(site: Site, service: Service) -> None:
    await _run_all(service, [site.launch_of("true") for _ in range(50)])
    keepers = site.holders()
    ours, theirs = _descriptors([os.getpid()]), _descriptors(keepers)

    await _run_all(service, [site.launch_of("true") for _ in range(450)])

    ended = [report for report in service.reports if isinstance(report, Ended)]
    assert len(ended) == len({report.token for report in ended}) == 500
    assert {report.record.exit_code for report in ended} == {0}
    assert site.commands() == []
    assert len(site.holders()) <= WIDTH + 1
    assert _descriptors([os.getpid()])[0] == ours[0] + len(site.holders()) - len(keepers)
    # The warden has none for its keepers, so a keeper that was added changes nothing there either.
    assert _descriptors(keepers) == theirs


def _descriptors(pids: list[int]) -> list[int]:
    return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]


async def test_batch_larger_than_the_crew_runs_at_once(site: Site, service: Service) -> None:
    launches = [site.shell("while [ ! -e ../../go ]; do sleep 0.02; done") for _ in range(40)]

    await service.executor.launch(launches)

    for launch in launches:
        await service.started(launch)
    (site.work / "runs" / "go").touch()
    for launch in launches:
        assert (await service.record(launch)).exit_code == 0


async def test_surplus_keepers_are_let_go(site: Site) -> None:
    service = await site.service(idle_keeper_s=0.2)
    await service.executor.launch([site.shell(":") for _ in range(5)])
    await eventually(lambda: len(service.finals()) == 5)

    await eventually(lambda: len(site.holders()) == 1)

    assert (await service.run(site.shell("exit 3"))).exit_code == 3


async def test_launches_from_several_tasks_do_not_mix(site: Site, service: Service) -> None:
    batches = [[site.shell(f"exit {batch}") for _ in range(10)] for batch in range(5)]

    await asyncio.gather(*(service.executor.launch(batch) for batch in batches))

    for number, batch in enumerate(batches):
        for launch in batch:
            assert (await service.record(launch)).exit_code == number


async def test_run_files_are_the_jobs_own(site: Site, service: Service) -> None:
    launch = site.shell("echo out; echo err >&2")

    await service.run(launch)

    assert sorted(path.name for path in service.run_dir(launch).iterdir()) == ["stderr", "stdout"]
    assert sorted(os.listdir(service.control(launch))) == ["exit", "gate", "token"]
