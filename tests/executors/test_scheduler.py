"""What is said to a site's scheduler, as its programs get it."""

from __future__ import annotations

import os
from pathlib import Path

from jobmgr.dialects.slurm import Slurm
from jobmgr.executors.scheduler import Scheduler
from jobmgr.transports.local import LocalTransport
from tests.dialects.shell import install

# One argument of a shell at a site; Linux takes no longer ones.
_MOST_BYTES = 128 * 1024
END, RECORD = "\x1f", "\x1e"


def queued(id_: int) -> str:
    return END.join((str(id_), "RUNNING", "0", "0", "N/A", "N/A", "n1", "None", f"jm-{id_}")) + RECORD


async def test_thousands_of_ids_are_looked_at_in_portions_and_each_is_told_once(tmp_path: Path) -> None:
    scheduler, ids = _scheduler(tmp_path, 20_000)

    listing = await scheduler.look(ids)

    sizes = [len(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert scheduler.asked["look"] == len(sizes) == 2
    assert max(sizes) < _MOST_BYTES
    assert listing.complete
    # Also one that nobody asked for, because it may have a name that somebody knows.
    assert sorted(one.id for one in listing.jobs) == sorted([*ids, "7"])


async def test_portion_that_is_not_answered_makes_the_listing_incomplete(tmp_path: Path) -> None:
    scheduler, ids = _scheduler(tmp_path, 20_000)
    install(
        tmp_path / "bin",
        "sacct",
        f"if mkdir '{tmp_path}/first' 2>/dev/null; then exit 0; fi; echo 'slurmdbd: away' >&2; exit 1",
    )

    listing = await scheduler.look(ids)

    assert (listing.complete, listing.has_whole_queue) == (False, True)
    assert "slurmdbd: away" in listing.why


def _scheduler(folder: Path, number: int) -> tuple[Scheduler, list[str]]:
    ids = range(100_000, 100_000 + number)
    (folder / "queue").write_text("".join(map(queued, [7, *ids])))
    install(folder / "bin", "scontrol", "echo 'MaxArraySize = 1001'")
    install(folder / "bin", "squeue", f"cat '{folder}/queue'")
    says = f"for one; do case $one in --jobs=*) echo \"$one\" >>'{folder}/asked' ;; esac; done"
    install(folder / "bin", "sacct", says)
    transport = LocalTransport({**os.environ, "PATH": f"{folder}/bin:/usr/bin:/bin"})
    return Scheduler(Slurm(), transport), [str(id_) for id_ in ids]
