"""How often a watch looks at files and asks a scheduler, by a clock that goes on only when everybody waits."""

from __future__ import annotations

import asyncio
import selectors
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import pairwise

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.dialects.slurm import Slurm
from jobmgr.dialects.slurm_listing import FIELD_END, RECORD_END
from jobmgr.executors.pace import Pace
from jobmgr.executors.place import Place
from jobmgr.executors.protocol import Launch
from jobmgr.executors.register import Register
from jobmgr.executors.scheduler import Scheduler
from jobmgr.executors.watch import Hands, Watch

TOKEN = "a" * 32
PACE = Pace(files_s=0.5, rest=5.0, ask_first_s=2.0, ask_max_s=8.0, again_max_s=120.0)
# A look is made every half second, so the pause after 4.5 s, which should be 6.75 s, ends with the next one.
GROWING = [2.0, 3.0, 4.5, 7.0, 8.0, 8.0]


class Impatience(selectors.SelectSelector):
    """Waits for nobody: who sleeps is woken at once, and `now` is then as late as he wanted to sleep."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        self.now += max(0.0, timeout)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """Its time passes only while all of its tasks sleep."""

    def __init__(self) -> None:
        self._impatience = Impatience()
        super().__init__(self._impatience)

    def time(self) -> float:
        return self._impatience.now


class Site:
    """A way to a site with one job, `word` of which its scheduler says. `takes_s`: how long each program does."""

    host = "lab"

    def __init__(self, takes_s: Mapping[str, float]) -> None:
        self.word = "PENDING"
        self._takes_s = takes_s
        self._runs: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def pauses(self, program: str) -> list[float]:
        """How long it was left in peace, from each end of a run to the beginning of the next."""
        return [after[0] - before[1] for before, after in pairwise(self._runs[program])]

    async def run(self, command: Command, timeout_s: float) -> Answer:  # noqa: ARG002 - it answers in time
        """See Transport."""
        program = next((name for name in ("scontrol", "squeue", "sacct") if name in command.argv), "files")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(self._takes_s.get(program, 0.0))
        self._runs[program].append((began, loop.time()))
        return Answer(0, self._said(program), "")

    def _said(self, program: str) -> str:
        match program:
            case "scontrol":
                return "MaxArraySize = 1001\n"
            case "squeue":
                fields = ("12", self.word, "0", "0", "N/A", "N/A", "", "None", f"jm-{TOKEN}")
                return FIELD_END.join(fields) + RECORD_END
            case "files":
                return f"job/1\t{TOKEN}\t\t\t\t\n"
            case _:
                return ""

    async def close(self) -> None:
        """See Transport."""


def watched(
    for_s: float, takes_s: Mapping[str, float] | None = None, *, at_s: float = 0.0, then: str = ""
) -> Site:
    """A site whose one job was watched for so long; after `at_s` its scheduler says `then`."""
    site = Site(takes_s or {})
    _run(site, for_s, at_s, lambda _: setattr(site, "word", then or site.word))
    return site


def _run(site: Site, for_s: float, at_s: float, what: Callable[[Watch], object]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        register = Register("lab", lambda _: None)
        register.take(Launch("job", 1, TOKEN, ("true",), handle="12")).is_handed_in = True
        hands = Hands(_nothing, _nothing, _nothing, _nothing)
        watch = Watch(
            "lab", register, Scheduler(Slurm(), site, PACE), Place(site, "/w"), hands, PACE, loop.time
        )
        loop.call_at(at_s, what, watch)
        with suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await watch.run()

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run())


def _nothing(*_: object) -> None:
    """There is nothing to do."""


def test_questions_come_in_growing_pauses_while_nothing_changes() -> None:
    assert watched(33.0).pauses("squeue") == GROWING


def test_after_a_change_it_is_asked_again_soon() -> None:
    site = watched(30.0, at_s=20.0, then="RUNNING")

    assert site.pauses("squeue") == [*GROWING[:5], 2.0, 3.0]


def test_what_is_expected_to_change_is_asked_about_with_the_next_look() -> None:
    site = Site({})

    _run(site, 24.0, 20.0, Watch.look_soon)

    # The fifth question would have come 8 s after the fourth, at 24.5 s.
    assert site.pauses("squeue") == [*GROWING[:4], 4.0, 3.0]


def test_scheduler_rests_for_some_times_as_long_as_it_took_to_answer() -> None:
    # Five times as long, and then until the next look.
    assert watched(13.0, {"squeue": 0.75}).pauses("squeue") == [4.0, 4.0]


def test_scheduler_has_its_rest_though_something_is_expected_to_change() -> None:
    site = Site({"squeue": 0.75})

    _run(site, 13.0, 1.0, Watch.look_soon)

    assert site.pauses("squeue") == [4.0, 4.0]


def test_scheduler_that_takes_its_time_is_asked_as_often_as_any_at_last() -> None:
    assert watched(33.0, {"squeue": 5.0}).pauses("squeue") == [8.0, 8.0]


def test_site_rests_for_some_times_as_long_as_the_look_at_its_files_took() -> None:
    assert watched(5.0).pauses("files") == [0.5] * 9
    assert watched(60.0, {"files": 3.0}).pauses("files") == [15.0] * 3


def test_site_is_looked_at_every_now_and_then_however_long_that_takes() -> None:
    assert watched(400.0, {"files": 30.0}).pauses("files") == [120.0] * 2
