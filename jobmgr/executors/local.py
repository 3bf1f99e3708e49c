"""The executor of this machine: hands attempts to keepers and tells what became of them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from jobmgr import credential, fault
from jobmgr.credential import Reference
from jobmgr.domain.environment import Environment, field_of, secrets_of
from jobmgr.domain.job import JobError
from jobmgr.domain.outcome import MAX_SENTENCE
from jobmgr.domain.resources import GPU_VARIABLE
from jobmgr.errors import ExecutorUnavailable, SecretUnavailable
from jobmgr.executors import command, evidence, gate, process
from jobmgr.executors.crew import Crew
from jobmgr.executors.links import Link
from jobmgr.executors.messages import Message
from jobmgr.executors.protocol import (
    RAN_BEFORE,
    Ended,
    Final,
    JobToken,
    Launch,
    Lost,
    NeverRan,
    Paused,
    Report,
    Resumed,
    Started,
    Unreachable,
    Wanted,
    no_token,
)
from jobmgr.executors.pursuit import Live, Pursuit, settled
from jobmgr.failure import Failure
from jobmgr.settings import clean_environment

logger = logging.getLogger(__name__)

Secrets = Mapping[str, str]  # By the names of the variables.

_FOLLOW_AGAIN_FIRST_S = 0.5
_FOLLOW_AGAIN_MAX_S = 30.0
_LAST_WORDS = frozenset({"ended", "refused", "not_started"})  # After these a keeper has no attempt.


class LocalExecutor:
    """Runs attempts on this machine, under keepers that outlive this process.

    `base_env` is what every command starts from, and has the variables that secrets of jobs refer to; `job_env` is
    asked at each launch for more (JOBMGR_URL is known only once the service listens). Commands may have
    `descriptor_limit` files open, else as many as this process may when this is made; with more than 1024 a program
    that calls select() breaks. Control directories are `<work_dir>/control/<job_id>/<number>`, run directories
    `<work_dir>/runs/<job_id>/<number>` with the files `stdout` and `stderr`.
    """

    def __init__(
        self,
        work_dir: Path,
        report: Callable[[Report], None],
        *,
        base_env: Mapping[str, str],
        job_env: Callable[[], Mapping[str, str]] = dict,
        job_token: JobToken = no_token,
        walltime_grace_s: float = 10.0,
        leftover_grace_s: float = 5.0,
        idle_keeper_s: float = 60.0,
        descriptor_limit: int | None = None,
    ) -> None:
        self._work_dir = work_dir.absolute()
        self._report = report
        self._job_env = job_env
        self._job_token = job_token
        self._base_env = clean_environment(base_env)
        hello = {
            "op": "hello",
            "env": self._base_env,
            "walltime_grace_s": walltime_grace_s,
            "leftover_grace_s": leftover_grace_s,
        }
        self._crew = Crew(
            self._work_dir,
            hello,
            idle_keeper_s=idle_keeper_s,
            descriptor_limit=process.descriptor_limit() if descriptor_limit is None else descriptor_limit,
            on_message=self._on_message,
            on_lost=self._on_lost,
        )
        self._pursuit = Pursuit(
            self._started, self._unreachable, self._turned, self._on_message, self._on_lost
        )
        self.work_id = ""  # The name of the work directory, once started.
        self._live: dict[str, Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the warden; call it before databases and sockets are opened, which it should not inherit."""
        if not process.may_adopt_orphans:
            raise ExecutorUnavailable(
                "commands can be run on Linux only for now; use a site on another machine"
            )
        if not process.may_mark():
            raise ExecutorUnavailable(
                "the hard limit of file locks (`ulimit -H -x`) is used to tell commands apart; make it unlimited"
            )
        try:
            self.work_id = await asyncio.to_thread(gate.make_roots, str(self._work_dir))
        except (OSError, gate.ControlFileGarbled) as error:
            raise ExecutorUnavailable(f"the work directory cannot be used: {error}") from error
        await self._crew.start()

    async def launch(self, launches: Sequence[Launch]) -> None:
        """See Executor. All directories of a batch are made in one thread hop."""
        lives = [self._enter(launch) for launch in launches]
        ready = await self._prepared(lives, await asyncio.to_thread(_make_directories, lives))
        fault.reach("launch.prepared")
        ready, secrets = await self._with_secrets(ready)
        links = [link for _ in ready if (link := self._crew.take_idle()) is not None]
        if len(links) < len(ready):
            links += await self._crew.fork(len(ready) - len(links))
        fault.reach("launch.manned")
        errors: dict[str, JobError] = {}
        for live in ready:
            # A cancel that came in before this moment ends here; later ones go to the keeper.
            if live.cancel_grace_s is None and links:
                try:
                    self._hand_over(live, links.pop(), secrets.get(live.token, {}))
                except ValueError as error:
                    errors[live.token] = JobError(Failure.ARGUMENTS_TOO_LONG, f"{error}; use a file")
        fault.reach("launch.handed_over")
        for link in links:
            self._crew.release(link)
        for live in ready:
            if not live.is_handed_over:
                # Unless it is cancelled or too large, there was no keeper for it.
                if live.cancel_grace_s is None and live.token not in errors:
                    live.shortage = self._crew.trouble
                await self._give_back(live, errors.get(live.token))

    async def cancel(self, token: str, grace_s: float) -> None:
        """See Executor."""
        live = self._live.get(token)
        if live is None:
            return
        live.cancel_grace_s = grace_s
        if not live.is_handed_over:
            return  # launch() sees the wish before it hands the attempt over.
        live.kick.set()
        if live.link is None:
            return  # Whoever looks for it voids its gate, which may have to keep a doubt.
        try:
            is_void = await asyncio.to_thread(gate.void, live.control, token, "cancelled")
        except (OSError, ValueError) as error:
            logger.warning("the gate of attempt %s cannot be read: %s", token, error)
            is_void = False
        fault.reach("cancel.voided")
        # If the gate is void its keeper will say so, or whoever looks for it sees it.
        if live.link is not None and not is_void:
            live.link.send({"op": "cancel", "token": token, "grace_s": grace_s})

    async def pause(self, token: str) -> None:
        """See Executor."""
        self._ask(token, "pause")

    async def resume(self, token: str) -> None:
        """See Executor."""
        self._ask(token, "resume")

    def _ask(self, token: str, wish: Literal["pause", "resume"]) -> None:
        live = self._live.get(token)
        if live is not None:
            live.wish = wish
            if live.link is not None:
                live.link.send({"op": wish, "token": token})

    async def recover(self, launches: Sequence[Launch]) -> None:
        """See Executor. Returns when each attempt is reported or looked for."""
        lives = [self._enter(launch) for launch in launches]
        for live in lives:
            live.is_handed_over = True
        sightings = await asyncio.to_thread(
            lambda: [evidence.look(live.control, live.token, live.launch.origin) for live in lives]
        )
        fault.reach("recovery.looked")
        for live, sighting in zip(lives, sightings, strict=True):
            report = settled(live.token, sighting)
            if report is not None:
                self._finish(live, report)
            else:
                self._pursue(live)

    async def forget(self, token: str) -> None:
        """See Executor."""
        live = self._live.pop(token, None)
        if live is not None:
            live.is_over = True
            live.kick.set()
            if live.link is not None:
                self._crew.forget(live.link)
                live.link.close()

    async def stop(self) -> None:
        """See Executor."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for live in self._live.values():
            if live.link is not None:
                live.link.close()
        self._live.clear()
        await self._crew.stop()

    def run_directory(self, launch: Launch) -> str:
        """See Executor."""
        return f"{self._root_of(launch)}/runs/{launch.place}"

    async def missing(self, wanted: Sequence[Wanted]) -> Sequence[tuple[str, ...] | None]:
        """See Executor."""
        places = [(self.run_directory(one.launch), one.names) for one in wanted]
        return await asyncio.to_thread(lambda: [_missing(*place) for place in places])

    # Handing over

    def _root_of(self, launch: Launch) -> str | Path:
        # What an earlier service claimed lies where that one kept its files.
        return (launch.origin and launch.origin.work_dir) or self._work_dir

    def _enter(self, launch: Launch) -> Live:
        known = self._live.get(launch.token)
        if known is not None:
            # Handed in again, because its state is in doubt: the new look tells it all again, once.
            known.is_over = True
            known.kick.set()
        control = f"{self._root_of(launch)}/control/{launch.place}"
        live = Live(launch, control=control, run=self.run_directory(launch))
        self._live[launch.token] = live
        return live

    async def _prepared(self, lives: Iterable[Live], errors: Iterable[Exception | None]) -> list[Live]:
        """The attempts that have their directories; the others get their report."""
        ready = []
        for live, error in zip(lives, errors, strict=True):
            if error is None:
                ready.append(live)
            elif isinstance(error, OSError):
                live.shortage = _shortage(error.errno, str(error))
                reason = None if live.shortage else _file_error(error.errno, str(error))
                await self._give_back(live, reason)
            elif isinstance(error, gate.ControlFileGarbled):
                await self._give_back(live, None)
            else:
                self._finish(live, Lost(live.token, RAN_BEFORE))
        return ready

    async def _with_secrets(self, lives: list[Live]) -> tuple[list[Live], Mapping[str, Secrets]]:
        """The attempts whose secrets can be had, with these by token; the others get their report.

        Nothing keeps a secret beyond the handing over.
        """
        if not any(secrets_of(live.launch.env) for live in lives):
            return lives, {}
        ready: list[Live] = []
        secrets: dict[str, Secrets] = {}
        looks = (asyncio.to_thread(_fetch, live.launch.env, self._base_env) for live in lives)
        for live, found in zip(lives, await asyncio.gather(*looks), strict=True):
            if isinstance(found, JobError):
                await self._give_back(live, found)
            else:
                ready.append(live)
                secrets[live.token] = found
        return ready, secrets

    def _hand_over(self, live: Live, link: Link, secrets: Secrets) -> None:
        """Give the attempt to a keeper, unless that died meanwhile. Raises ValueError if it is too large."""
        if link.is_closed:
            return
        launch = live.launch
        order = {
            "op": "start",
            "token": launch.token,
            "control": live.control,
            "run": live.run,
            "command": launch.command,
            "env": self._environment(live, secrets),
            "job_token": self._job_token(launch),
            "cwd": launch.cwd or live.run,
            "walltime_s": launch.walltime_s,
        }
        try:
            link.send(order)
        except ValueError:
            self._crew.release(link)
            raise
        live.is_handed_over = True
        live.link = link
        link.token = launch.token

    def _environment(self, live: Live, secrets: Secrets) -> dict[str, str | Reference]:
        """What the command sees beside the base environment."""
        launch = live.launch
        return {
            # That of the service would be another directory.
            "PWD": launch.cwd or live.run,
            **launch.env,
            **secrets,
            **({GPU_VARIABLE: ",".join(launch.gpus)} if launch.gpus else {}),
            **self._job_env(),
            "JOBMGR_JOB_ID": launch.job_id,
            "JOBMGR_ATTEMPT": str(launch.number),
            process.RUN_VARIABLE: live.run,
            process.ATTEMPT_VARIABLE: live.token,
        }

    async def _give_back(self, live: Live, error: JobError | None) -> None:
        """Void the gate of an attempt that is handed to nobody, and tell that it did not run."""
        live.is_handed_over = True
        try:
            is_void = await asyncio.to_thread(gate.void, live.control, live.token, "not handed to a keeper")
        except (OSError, ValueError) as failure:
            logger.warning("the gate of attempt %s cannot be voided now: %s", live.token, failure)
            # Where no directory can be made there is no gate, and after this launch nobody else is told to start it.
            is_void = error is not None and isinstance(failure, OSError) and not _may_exist(live.control)
        if is_void:
            self._finish(live, NeverRan(live.token, error))
        else:
            self._pursue(live)

    # What holders say

    def _on_message(self, link: Link, message: Message) -> None:
        operation = message["op"]
        if operation in _LAST_WORDS:
            (self._crew.release if _has_worked(message) else self._crew.dismiss)(link)
        live = self._live.get(message.get("token", ""))
        if live is None:
            return
        if operation == "started":
            moment = datetime.fromisoformat(message["started_at"])
            self._started(live, Started(live.token, evidence.handle_of(message), moment))
        elif operation in ("paused", "resumed"):
            self._turned(live, Paused(live.token) if operation == "paused" else Resumed(live.token))
        elif operation == "ended":
            self._ended(live, message["record"])
        elif operation == "not_started":
            live.shortage = _shortage(message["errno"], message["message"])
            reason = None if live.shortage else _file_error(message["errno"], message["message"])
            self._finish(live, NeverRan(live.token, reason))
        elif operation == "refused":
            # Somebody else decided about this attempt, or its keeper cannot; the control directory says what.
            live.shortage = message["trouble"]
            live.link = None
            self._pursue(live)

    def _on_lost(self, link: Link) -> None:
        self._crew.forget(link)
        live = self._live.get(link.token or "")
        if live is not None and live.link is link:
            live.link = None
            self._pursue(live)

    def _started(self, live: Live, started: Started) -> None:
        if not live.has_started and not live.is_over:
            live.has_started = True
            live.is_unreachable = False
            self._report(started)

    def _unreachable(self, live: Live, why: str) -> None:
        if not live.is_over and not live.is_unreachable:
            live.is_unreachable = True
            # When it is reached again its start is told again, which says so.
            live.has_started = False
            logger.warning("attempt %s of job %s is unreachable: %s", live.token, live.launch.job_id, why)
            self._report(Unreachable(live.token, why))

    def _turned(self, live: Live, turn: Paused | Resumed) -> None:
        if not live.is_over:
            self._report(turn)

    def _ended(self, live: Live, record: Message) -> None:
        try:
            self._finish(live, Ended(live.token, evidence.exit_record(record)))
        except ValueError:
            logger.exception("attempt %s has an exit record that is not understood", live.token)

    def _finish(self, live: Live, report: Final) -> None:
        if not live.is_over:
            live.is_over = True
            self._live.pop(live.token, None)
            if isinstance(report, Ended) and report.record.error is not None:
                error = report.record.error
                if error.code == command.NO_RESOURCES:
                    report = NeverRan(report.token, None, error.message)
            elif isinstance(report, NeverRan) and report.error is None:
                report = NeverRan(report.token, None, live.shortage)
            self._report(report)

    # Looking for holders

    def _pursue(self, live: Live) -> None:
        task = asyncio.get_running_loop().create_task(self._follow(live))
        self._tasks.add(task)  # Awaited by stop().
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, live: Live) -> None:
        pause_s = _FOLLOW_AGAIN_FIRST_S
        while not live.is_over:
            try:
                report = await self._pursuit.follow(live)
            except Exception:  # boundary: the attempt stays undecided and is looked for again
                logger.exception(
                    "attempt %s of job %s cannot be followed now", live.token, live.launch.job_id
                )
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _FOLLOW_AGAIN_MAX_S)
                continue
            if report is not None:
                self._finish(live, report)
            return


def _missing(directory: str, names: Sequence[str]) -> tuple[str, ...]:
    # A name that is too long, or below a directory that may not be entered, is that of no file we can see.
    return tuple(name for name in names if not os.path.isfile(f"{directory}/{name}"))


def _make_directories(lives: Iterable[Live]) -> list[Exception | None]:
    """Make the directories of all attempts; for each None, or why it has none. Blocks."""
    results: list[Exception | None] = []
    for live in lives:
        try:
            gate.make_with_run(live.control, live.run, live.token)
        except (OSError, gate.OtherToken, gate.ControlFileGarbled) as error:
            results.append(error)
        else:
            results.append(None)
    return results


def _fetch(env: Environment, environment: Mapping[str, str]) -> Secrets | JobError:
    """The secrets that a job refers to, or why one cannot be had. Blocks."""
    try:
        return {
            name: credential.fetch(reference, field_of(name), environment)
            for name, reference in secrets_of(env).items()
        }
    except SecretUnavailable as error:
        return JobError(Failure.SECRET_UNAVAILABLE, str(error)[:MAX_SENTENCE])


def _may_exist(control: str) -> bool:
    """Whether there may be a gate, as far as can be seen. Blocks."""
    try:
        os.lstat(f"{control}/gate")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _has_worked(message: Message) -> bool:
    """Whether a keeper's last words about an attempt speak for it: it started the command, or the job was to blame."""
    if message["op"] != "ended":
        return False
    error = message["record"].get("error")
    return error is None or error["code"] != command.NO_RESOURCES


def _shortage(number: int | None, message: str) -> str | None:
    """What the service or a keeper is short of, if that is what this error says; the job has no part in it."""
    if number == errno.EFBIG:
        return f"no file may be as large as needed (`ulimit -f`): {message}"
    return f"the system is short of resources: {message}" if number in process.SCARCE else None


def _file_error(number: int | None, message: str) -> JobError:
    if number in gate.DISK_FULL:
        return JobError(
            Failure.DISK_FULL,
            f"no space for the files of the attempt: {message}; free some and retry the job",
        )
    return JobError(
        Failure.WORK_DIR_UNWRITABLE,
        f"the files of the attempt cannot be made: {message}; correct the work directory",
    )
