"""What the contract is held against: an executor of some kind with a place of its own, one service after another."""

from __future__ import annotations

import os
import secrets
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from jobmgr.dialects.dialect import Answer, Command, Dialect, Wish
from jobmgr.domain.resources import Resources
from jobmgr.executors import process
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.local import LocalExecutor
from jobmgr.executors.pace import Pace
from jobmgr.executors.protocol import Ended, Executor, ExitRecord, Final, Launch, Report
from jobmgr.transports.transport import Transport
from tests.patience import eventually

PATIENCE_S = 60.0
PACE = Pace(
    files_s=0.2,
    ask_first_s=0.3,
    ask_max_s=0.6,
    again_first_s=0.3,
    again_max_s=0.6,
    in_doubt_s=1.5,
    end_again_s=3.0,
    record_comes_s=1.5,
    absent_s=2.5,
)
R = TypeVar("R", bound=Report)


@dataclass(frozen=True, slots=True)
class Refused:
    """What a scheduler is asked for that it does not have, and what it says to that."""

    asked: Resources
    words: str


@dataclass(frozen=True, slots=True)
class Ways:
    """How a kind is brought to do what only some can; a text says instead why it cannot.

    `warns`: of what is cancelled the command hears before it is killed. `killed`: as what it is told if it has to be.
    """

    waiting: Resources | str
    refused: Refused | str
    pause: bool | str
    walltime: Resources | str
    tells_who_cancelled: bool | str
    away: bool | str = True
    stutter: bool | str = True
    lost: bool | str = True
    warns: bool | str = True
    killed: type[Final] | str = Ended
    small: Resources = field(default_factory=Resources)


class Life:
    """One life of a service: an executor and what it reported."""

    def __init__(self) -> None:
        self.executor: Executor
        self.reports: list[Report] = []

    def said(self, launch: Launch, kind: type[R]) -> list[R]:
        """What it reported of this kind about an attempt."""
        return [one for one in self.reports if one.token == launch.token and isinstance(one, kind)]

    async def wait(self, launch: Launch, kind: type[R]) -> R:
        """The first report of this kind, once it is there."""
        await eventually(lambda: self.said(launch, kind), PATIENCE_S)
        return self.said(launch, kind)[0]

    async def final(self, launch: Launch) -> Final:
        """How the attempt ended."""
        await eventually(lambda: self.finals(launch), PATIENCE_S)
        return self.finals(launch)[0]

    async def record(self, launch: Launch) -> ExitRecord:
        """The record of an attempt that has to have one."""
        found = await self.final(launch)
        assert isinstance(found, Ended), found
        return found.record

    def finals(self, launch: Launch) -> list[Final]:
        """All final reports about an attempt."""
        return [one for one in self.reports if one.token == launch.token and isinstance(one, Final)]


class Subject(ABC):
    """One kind of executor, and where its attempts lie. Everybody who runs sees `root` under the same path."""

    def __init__(self, root: Path, ways: Ways) -> None:
        self.root = root
        self.ways = ways
        self.commands_sent: list[Command] = []
        self._lives: list[Life] = []
        self._launches: list[Launch] = []

    async def life(self) -> Life:
        """A service is started."""
        life = Life()
        life.executor = await self._executor(life.reports.append)
        await life.executor.start()
        self._lives.append(life)
        return life

    def launch(self, *command: str, **fields: Any) -> Launch:
        """An attempt of a new job."""
        values = {"resources": self.ways.small, **fields}
        launch = Launch(f"job-{secrets.token_hex(4)}", 1, secrets.token_hex(16), command, **values)
        self._launches.append(launch)
        return launch

    def once(self, script: str, **fields: Any) -> Launch:
        """An attempt whose command notes that it ran."""
        noted = f"echo ran >> '{self.root}'/ran-$JOBMGR_JOB_ID"
        return self.launch("sh", "-c", f"{noted}; {script}", **fields)

    def until_told(self, code: int) -> Launch:
        """An attempt that ends with `code` once it is told to."""
        return self.once(f"while [ ! -e '{self.root}/go' ]; do sleep 0.05; done; exit {code}")

    def tell(self) -> None:
        """Let all those go on."""
        (self.root / "go").touch()

    def control(self, launch: Launch) -> Path:
        """The control directory of an attempt."""
        run = self._lives[0].executor.run_directory(launch)
        return Path(run.replace("/runs/", "/control/"))

    def ran(self, launch: Launch) -> int:
        """How often the command of an attempt was run."""
        ledger = self.root / f"ran-{launch.job_id}"
        return len(ledger.read_text().split()) if ledger.exists() else 0

    async def close(self) -> None:
        """End everything; fails if an attempt was told to have ended twice, by one service."""
        for life in self._lives:
            await life.executor.stop()
        process.send_signals(self.commands(*self._launches), signal.SIGCONT, signal.SIGKILL)
        await self._tidy()
        for life in self._lives:
            assert [one for one in self._launches if len(life.finals(one)) > 1] == []

    def commands(self, *launches: Launch) -> list[process.ProcessStat]:
        """The living processes of these attempts, without what holds them."""
        tokens = {launch.token for launch in launches}
        return [stat for stat in process.living_processes() if process.token_of(stat.pid) in tokens]

    def holders(self, launch: Launch) -> list[process.ProcessStat]:
        """The living processes of an attempt, with those that hold it: they have its token in their names."""
        token = launch.token.encode()
        return [stat for stat in process.living_processes() if token in _seen_of(stat.pid)]

    @abstractmethod
    async def _executor(self, report: Callable[[Report], None]) -> Executor: ...

    @abstractmethod
    async def _tidy(self) -> None: ...

    @abstractmethod
    async def cancel_there(self, handle: str) -> None:
        """End a job by its scheduler's own means."""

    @abstractmethod
    def go_away(self) -> None:
        """From now on the scheduler cannot be reached; what runs runs on."""

    @abstractmethod
    def come_back(self) -> None:
        """It can be reached again."""

    @abstractmethod
    def stutter(self) -> None:
        """From now on it takes what is handed in twice, and does not say so."""

    @abstractmethod
    def swallow(self) -> None:
        """What is handed in next is lost on its way, in silence."""


def _seen_of(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


class Keepers(Subject):
    """This machine, without a scheduler."""

    async def _executor(self, report: Callable[[Report], None]) -> Executor:
        return LocalExecutor(
            self.root / "work",
            report,
            base_env={"PATH": os.environ["PATH"]},
            walltime_grace_s=1.0,
            leftover_grace_s=1.0,
        )

    async def _tidy(self) -> None:
        await eventually(lambda: not self._holders())

    def _holders(self) -> list[process.ProcessStat]:
        found = []
        for stat in process.living_processes():
            with suppress(OSError):
                if Path(f"/proc/{stat.pid}/fd/2").readlink() == self.root / "work" / "keepers.log":
                    found.append(stat)
        return found

    async def cancel_there(self, handle: str) -> None:
        raise NotImplementedError

    def go_away(self) -> None:
        raise NotImplementedError

    def come_back(self) -> None:
        raise NotImplementedError

    def stutter(self) -> None:
        raise NotImplementedError

    def swallow(self) -> None:
        raise NotImplementedError


class Heard:
    """A way to a site; `commands` are those that went over it."""

    def __init__(self, way: Transport, commands: list[Command]) -> None:
        self.host = way.host
        self._way = way
        self._commands = commands

    async def run(self, command: Command, timeout_s: float) -> Answer:
        """See Transport."""
        self._commands.append(command)
        return await self._way.run(command, timeout_s)

    async def close(self) -> None:
        """See Transport."""
        await self._way.close()


@dataclass(frozen=True, slots=True)
class Moods:
    """What is done to let a scheduler be away, be back, take twice and not say so, or lose the next submission."""

    away: Callable[[], None]
    back: Callable[[], None]
    stutter: Callable[[], None]
    swallow: Callable[[], None]


class Queue(Subject):
    """A scheduler. `moods` are how it is brought to what a test wants; `tidy` ends what it has."""

    def __init__(
        self,
        root: Path,
        ways: Ways,
        dialect: Dialect,
        way: Callable[[], Transport],
        moods: Moods,
        *,
        tidy: Callable[[], None],
    ) -> None:
        super().__init__(root, ways)
        for name in ("control", "runs"):
            (root / name).mkdir(parents=True)
        self._dialect = dialect
        self._way = way
        self._moods = moods
        self._end_all = tidy

    async def _executor(self, report: Callable[[Report], None]) -> Executor:
        transport = Heard(self._way(), self.commands_sent)
        return BatchExecutor(
            "lab", await self._fitted(transport), transport, str(self.root), report, pace=PACE
        )

    async def _fitted(self, transport: Transport) -> Dialect:
        answers = [await transport.run(command, PATIENCE_S) for command in self._dialect.probe()]
        return self._dialect.fitted(answers)

    async def _tidy(self) -> None:
        self._moods.back()
        self._end_all()

    async def cancel_there(self, handle: str) -> None:
        transport = self._way()
        command = (await self._fitted(transport)).ask(Wish.CANCEL, handle.split())
        assert command is not None
        answer = await transport.run(command, PATIENCE_S)
        await transport.close()
        assert answer.exit_code == 0, answer

    def go_away(self) -> None:
        self._moods.away()

    def come_back(self) -> None:
        self._moods.back()

    def stutter(self) -> None:
        self._moods.stutter()

    def swallow(self) -> None:
        self._moods.swallow()


class Front:
    """A directory before a scheduler's programs, for those that are to fail; `words` is how, code and sentence."""

    def __init__(self, directory: Path, words: Mapping[str, tuple[int, str]]) -> None:
        self.directory = directory
        self._words = words
        directory.mkdir(parents=True)

    def put_up(self) -> None:
        """Let each program say its words and fail."""
        for program, (code, said) in self._words.items():
            self._put(program, f"cat >&2 <<'END'\n{said}\nEND\nexit {code}")

    def repeat(self, program: str, real: str, verb: str = "") -> None:
        """Let the real one be run twice, and nobody hear of it; if it has verbs, for this one only."""
        self._put(program, f'{_pass(real, verb)}for _ in 1 2; do {real} "$@" >/dev/null; done\nkill -9 $$')

    def swallow(self, program: str, real: str = "", verb: str = "") -> None:
        """Let the next call do nothing and say nothing; verbs as above."""
        self._put(program, f'{_pass(real, verb)}rm -f "$0"; kill -9 $$')

    def take_down(self) -> None:
        """Let the real ones be reached again."""
        for program in self._words:
            (self.directory / program).unlink(missing_ok=True)

    def _put(self, program: str, script: str) -> None:
        file = self.directory / f"{program}.new"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        file.rename(self.directory / program)


def _pass(real: str, verb: str) -> str:
    return f'[ "$1" = {verb} ] || exec {real} "$@"\n' if verb else ""
