"""What is wished of many attempts is told with few commands, and until it was taken or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jobmgr.dialects.dialect import Dialect
from jobmgr.dialects.shell import Shell
from jobmgr.dialects.slurm import Slurm
from jobmgr.domain.wish import Hold, Pause, Rank, Wished
from jobmgr.executors.breaker import Breaker
from jobmgr.executors.live import Live
from jobmgr.executors.messenger import Messenger
from jobmgr.executors.pace import Pace
from jobmgr.executors.place import Files
from jobmgr.executors.protocol import Launch
from jobmgr.executors.scheduler import NAMED_AT_ONCE, Scheduler
from jobmgr.transports.local import LocalTransport
from tests.dialects.shell import install
from tests.patience import eventually

QUICK = Pace(again_first_s=0.05, again_max_s=0.1)
HOLD, RELEASE = Hold(is_held=True, v=4), Hold(is_held=False, v=5)
UNFIT = "echo 'MaxArraySize            = 1001'"


@dataclass
class Lab:
    """A scheduler that can be told what to say to scontrol, and what came of wishes."""

    folder: Path
    dialect: Dialect = field(default_factory=Slurm)
    answers: dict[str, list[tuple[Wished, bool]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.says("exit 0")
        self.transport = LocalTransport({"PATH": f"{self.folder}:/usr/bin:/bin"})
        self.scheduler = Scheduler(self.dialect, self.transport, QUICK)
        breaker = Breaker("lab", QUICK, time.monotonic)
        self.messenger = Messenger(self.scheduler, QUICK, breaker, self._hear)

    def _hear(self, token: str, wished: Wished, is_taken: bool) -> None:
        self.answers.setdefault(token, []).append((wished, is_taken))

    def says(self, script: str) -> None:
        """Let scontrol do this; how often it was asked for what is noted."""
        asked = f"[ $1 = show ] && {UNFIT} && exit; echo $* >>{self.folder}/asked"
        install(self.folder, "scontrol", f"{asked}; {script}")

    @property
    def asked(self) -> Sequence[str]:
        """The commands of scontrol."""
        return (self.folder / "asked").read_text().splitlines()


@asynccontextmanager
async def opened(folder: Path, dialect: Callable[[], Dialect] = Slurm) -> AsyncIterator[Lab]:
    lab = Lab(folder, dialect())
    try:
        yield lab
    finally:
        await lab.transport.close()


def waiting(number: int) -> list[Live]:
    """Attempts that wait at the scheduler under the ids 0, 1, ..."""
    return [
        Live(
            Launch(f"job-{index}", 1, f"{index}", ("true",)),
            f"jm-{index}",
            ids=(f"{index}",),
            is_handed_in=True,
        )
        for index in range(number)
    ]


def running(number: int) -> list[Live]:
    """Attempts whose gates were passed by the jobs 0, 1, ..."""
    lives = waiting(number)
    for live in lives:
        live.has_started = True
        live.files = Files("token", {"decision": "run", "holder": {"id": live.ids[0]}})
    return lives


def wish(lives: Sequence[Live], wished: Wished) -> None:
    for live in lives:
        live.errand.add(wished)


@pytest.mark.parametrize("wished", [Pause(is_paused=True), Pause(is_paused=False)])
async def test_pauses_and_their_ends_are_one_command_for_many(tmp_path: Path, wished: Pause) -> None:
    async with opened(tmp_path) as lab:
        lives = running(NAMED_AT_ONCE + 1)
        wish(lives, wished)

        await lab.messenger.run(lives)

        word = "suspend" if wished.is_paused else "resume"
        assert lab.scheduler.asked[word] == len(lab.asked) == 2
        assert all(lab.answers[live.launch.token] == [(wished, True)] for live in lives)


async def test_who_is_named_twice_is_told_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab:
        lives = waiting(2)
        wish(lives, Rank(5, v=1))

        await lab.messenger.run([*lives, *lives])

        assert lab.scheduler.asked["prioritise"] == 1
        assert [lab.answers[live.launch.token] for live in lives] == [[(Rank(5, v=1), True)]] * 2


async def test_holds_and_ranks_are_told_of_all_who_want_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab:
        lives = waiting(30)
        for number, live in enumerate(lives):
            # Each is another version.
            live.errand.add(Hold(is_held=True, v=number))
            live.errand.add(Rank(number % 2, v=number))

        await lab.messenger.run(lives)

        assert (lab.scheduler.asked["hold"], lab.scheduler.asked["prioritise"]) == (1, 2)
        assert all(live.errand.open == [] for live in lives)


async def test_one_that_is_refused_among_many_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab:
        lab.says('case ,$2, in *,7,*) echo "Access/permission denied" >&2; exit 1 ;; esac')
        lives = waiting(64)
        wish(lives, HOLD)

        await lab.messenger.run(lives)

        assert [live.launch.token for live in lives if live.errand.remark(Hold)] == ["7"]
        assert [token for token, told in lab.answers.items() if told == [(HOLD, False)]] == ["7"]
        assert lab.scheduler.asked["hold"] == 13  # halves of halves


async def test_one_that_is_never_answered_keeps_nobody_else_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab:
        lab.says(f'case ,$2, in *,7,*) [ -e {tmp_path}/well ] || {{ echo "hm" >&2; exit 1; }} ;; esac')
        lives = waiting(16)
        wish(lives, HOLD)

        def answered(token: str, wished: Wished, is_taken: bool) -> None:
            lab.answers[token] = [(wished, is_taken)]
            if len(lab.answers) == len(lives) - 1:
                (tmp_path / "well").touch()

        breaker = Breaker("lab", QUICK, time.monotonic)
        await Messenger(lab.scheduler, QUICK, breaker, answered).run(lives)

        assert list(lab.answers)[-1] == "7"
        assert all(told == [(HOLD, True)] for told in lab.answers.values())


async def test_who_is_told_may_wish_something_else_while_others_are_in_doubt(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab:
        lab.says(f'case ,$2, in *,1,*) [ -e {tmp_path}/well ] || {{ echo "hm" >&2; exit 1; }} ;; esac')
        told, doubted = waiting(2)
        wish([told, doubted], HOLD)
        first = asyncio.create_task(lab.messenger.run([told, doubted]))
        await eventually(lambda: told.errand.remark(Hold) is None)

        await eventually(lambda: not told.errand.is_run)
        told.errand.add(RELEASE)
        await lab.messenger.run([told])

        assert lab.answers["0"] == [(HOLD, True), (RELEASE, True)]
        assert doubted.errand.open == [HOLD]
        (tmp_path / "well").touch()
        await first
        assert lab.answers["1"] == [(HOLD, True)]


async def test_while_nobody_answers_one_asks_for_all(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab:
        away = f"[ $(wc -l <{tmp_path}/asked) -ge 4 ] || {{ echo 'Unable to contact' >&2; exit 1; }}"
        lab.says(away)
        lives = waiting(40)
        wish(lives, HOLD)

        await lab.messenger.run(lives)

        named = [len(line.split()[1].split(",")) for line in lab.asked]
        assert named == [40, 1, 1, 1, 39]
        assert all(live.errand.open == [] for live in lives)


async def test_what_a_scheduler_has_no_word_for_is_said_at_once(tmp_path: Path) -> None:
    async with opened(tmp_path, Shell) as lab:
        (live,) = waiting(1)
        live.errand.add(HOLD)
        live.errand.add(Rank(7, v=6))

        await lab.messenger.run([live])

        assert live.errand.open == []
        assert live.errand.said == {Hold: "shell has no word for that", Rank: "shell has no word for that"}
        assert lab.scheduler.asked == {"fit": 1}


async def test_nothing_is_told_of_whom_a_wish_is_not_about(tmp_path: Path) -> None:
    async with opened(tmp_path) as lab:
        waits, runs = waiting(1)[0], running(1)[0]
        waits.errand.add(Pause(is_paused=True))
        runs.errand.add(HOLD)

        await lab.messenger.run([waits, runs])

        assert (waits.errand.remark(Pause), runs.errand.remark(Hold)) == ("", "")
        assert lab.answers == {}
