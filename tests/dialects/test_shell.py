"""A plain host, which is this one: real processes, started, found again, told, and gone."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobmgr.dialects.dialect import (
    Answer,
    Command,
    Compliance,
    Doubtful,
    NotUnderstood,
    Order,
    Phase,
    Refused,
    Standing,
    Submission,
    Submitted,
    Wish,
)
from jobmgr.dialects.shell import Shell
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest
from jobmgr.executors import process
from tests import remnant
from tests.patience import eventually

DIALECT = Shell()
WAIT = "while ! [ -e go ]; do sleep 0.05; done\n"
# Stands still as the script of a job does: a shell that is just starting a program (vfork) would not show a stop.
STAND = "sleep 600 &\ntouch up\nwait\n"


class Host:
    """A directory on this machine, and what runs in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def order(self, body: str, **fields: object) -> Order:
        """A submission with a name of its own."""
        values = {"name": f"jm-{secrets.token_hex(8)}", "body": body, "stdout": f"{self.directory}/out",
                  "stderr": f"{self.directory}/err", "cwd": str(self.directory)}  # fmt: skip
        return Order(**{**values, **fields})  # type: ignore[arg-type]

    def answer(self, command: Command | None, env: dict[str, str] | None = None) -> Answer:
        """What a command answers here. It is over when its output is, so a job must not hold that open."""
        assert command is not None
        done = subprocess.run(
            command.argv, input=command.stdin, capture_output=True, text=True, check=False, timeout=60,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        return Answer(done.returncode, done.stdout, done.stderr)

    def submit(self, order: Order, env: dict[str, str] | None = None) -> Submission:
        """Hand it in."""
        path = self.directory / f"{order.name}.sh"
        path.write_text(DIALECT.script(order))
        return DIALECT.submitted(self.answer(DIALECT.submit(str(path), order), env))

    def accepted(self, order: Order) -> str:
        """Hand in what must be taken."""
        submission = self.submit(order)
        assert isinstance(submission, Submitted), submission
        return submission.id

    def seen(self, *ids: str) -> list[Standing]:
        """What is said about these."""
        (command,) = DIALECT.look(ids)
        listing = DIALECT.seen([self.answer(command)])
        assert listing.complete, listing.why
        return [job for job in listing.jobs if job.id in ids]

    def found(self, name: str) -> list[Standing]:
        """What is found under a name."""
        (command,) = DIALECT.find([name])
        listing = DIALECT.found([name], [self.answer(command)])
        assert listing.complete, listing.why
        return list(listing.jobs)

    def tell(self, wish: Wish, *ids: str) -> Compliance:
        """Pass a wish on."""
        return DIALECT.complied(self.answer(DIALECT.ask(wish, ids)))

    def text(self, name: str) -> str:
        """A file, if it is there."""
        path = self.directory / name
        return path.read_text() if path.exists() else ""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    yield Host(tmp_path)
    left = [stat for stat in process.living_processes() if _is_in(stat.pid, tmp_path)]
    remnant.kill(left)


def _is_in(pid: int, directory: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) == directory and pid != os.getpid()
    except OSError:
        return False


async def test_script_runs_after_its_submission_was_answered(host: Host) -> None:
    order = host.order(WAIT + f'echo "{DIALECT.id_word}"\n')

    id_ = host.accepted(order)

    (standing,) = host.seen(id_)
    assert (standing.name, standing.phase) == (order.name, Phase.RUNNING)
    (host.directory / "go").touch()
    await eventually(lambda: host.text("out"))
    assert host.text("out") == f"{id_}\n"
    await eventually(lambda: not host.seen(id_))


async def test_job_has_a_session_of_its_own_and_no_descriptor_of_the_submitter(host: Host) -> None:
    body = "echo $(cut -d' ' -f6 /proc/$$/stat) $$; ls /proc/$$/fd\n"
    order = host.order(body)
    path = host.directory / "script"
    path.write_text(DIALECT.script(order))
    command = DIALECT.submit(str(path), order)

    host.answer(Command(("sh", "-c", 'exec 5>&1 7>&2 && exec "$@"', "sh", *command.argv)))

    await eventually(lambda: not host.found(order.name))
    session, pid, *descriptors = host.text("out").split()
    assert session == pid
    # The shell has the script itself open, above 9.
    assert [number for number in descriptors if int(number) < 10] == ["0", "1", "2"]


async def test_nothing_of_the_submitter_gets_into_the_environment(host: Host) -> None:
    order = host.order("env\n")

    assert isinstance(host.submit(order, {"LEAK": "1", "JOBMGR_TOKEN": "secret"}), Submitted)

    await eventually(lambda: not host.found(order.name))
    names = {line.split("=", 1)[0] for line in host.text("out").splitlines()}
    assert {"HOME", "PATH", "USER"} <= names
    assert names <= {"HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "PWD", "OLDPWD", "SHLVL", "_"}


def test_job_is_found_by_its_name_and_only_by_all_of_it(host: Host) -> None:
    order = host.order(WAIT)
    id_ = host.accepted(order)

    assert [job.id for job in host.found(order.name)] == [id_]
    assert host.found(order.name[:-1]) == []
    assert host.found("jm-never") == []


def test_several_jobs_are_found_with_one_command(host: Host) -> None:
    orders = [host.order(WAIT) for _ in range(3)]
    ids = [host.accepted(order) for order in orders]
    names = [order.name for order in orders[:2]]

    (command,) = DIALECT.find(names)
    listing = DIALECT.found(names, [host.answer(command)])

    assert {(job.id, job.name) for job in listing.jobs} == set(zip(ids[:2], names, strict=True))


def test_several_jobs_are_looked_at_with_one_command(host: Host) -> None:
    ids = [host.accepted(host.order(WAIT)) for _ in range(3)]

    assert sorted(job.id for job in host.seen(*ids)) == sorted(ids)
    everything = DIALECT.read_everything(host.answer(DIALECT.everything()))
    assert everything.complete
    assert set(ids) <= {job.id for job in everything.jobs}


async def test_what_a_job_starts_is_not_taken_for_it(host: Host) -> None:
    """A subshell has the arguments of its shell."""
    order = host.order(f"({WAIT}:) &\nwait\n")
    id_ = host.accepted(order)
    pid = int(id_.split(".")[0])

    await eventually(lambda: len(process.below([pid], process.all_processes())) > 1)

    assert [job.id for job in host.found(order.name)] == [id_]


def test_another_process_with_the_same_pid_is_another_job(host: Host) -> None:
    id_ = host.accepted(host.order(WAIT))
    pid, ticks, boot = id_.split(".")

    others = [f"{pid}.{int(ticks) + 1}.{boot}", f"{pid}.{ticks}.{boot[::-1]}"]

    assert host.seen(*others) == []
    assert host.tell(Wish.CANCEL, *others) is Compliance.GONE
    assert [job.id for job in host.seen(id_)] == [id_]


async def test_suspended_job_stands_still_until_it_is_resumed(host: Host) -> None:
    id_ = host.accepted(host.order(STAND))
    await eventually((host.directory / "up").exists)

    assert host.tell(Wish.SUSPEND, id_) is Compliance.DONE
    await eventually(lambda: [job.phase for job in host.seen(id_)] == [Phase.SUSPENDED])
    assert host.tell(Wish.RESUME, id_) is Compliance.DONE
    await eventually(lambda: [job.phase for job in host.seen(id_)] == [Phase.RUNNING])


async def test_suspended_job_can_be_cancelled(host: Host) -> None:
    id_ = host.accepted(host.order(f"trap 'echo asked; exit' TERM\n{STAND}"))
    await eventually((host.directory / "up").exists)
    host.tell(Wish.SUSPEND, id_)

    assert host.tell(Wish.CANCEL, id_) is Compliance.DONE

    await eventually(lambda: not host.seen(id_))
    assert host.text("out") == "asked\n"
    assert host.tell(Wish.CANCEL, id_) is Compliance.GONE


async def test_what_ignores_its_end_is_killed_and_its_leader_is_not(host: Host) -> None:
    body = "trap : TERM\nsh -c 'trap \"\" TERM; touch up; while :; do sleep 1; done' &\nchild=$!\n"
    wait = "code=143\nwhile [ $code = 143 ]; do wait $child; code=$?; done; echo $code\n"
    id_ = host.accepted(host.order(body + wait))
    await eventually((host.directory / "up").exists)

    assert host.tell(Wish.CANCEL, id_) is Compliance.DONE

    await eventually(lambda: host.text("out"))
    assert host.text("out") == "137\n"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cwd": "/nowhere"}, "/nowhere cannot be entered"),
        ({"stdout": "/nowhere/out"}, "/nowhere/out cannot be written"),
    ],
)
def test_what_cannot_be_started_is_refused(host: Host, fields: dict[str, object], words: str) -> None:
    order = host.order("true\n", **fields)

    submission = host.submit(order)

    assert isinstance(submission, Refused)
    assert words in submission.words
    assert host.found(order.name) == []


@pytest.mark.parametrize(
    "answer",
    [Answer(None), Answer(0, ""), Answer(1, "", "connection lost"), Answer(3, "12.3."), Answer(0, "garbage")],
)
def test_every_other_answer_is_doubtful(answer: Answer) -> None:
    assert isinstance(DIALECT.submitted(answer), Doubtful)


def test_listing_that_was_cut_off_is_not_complete(host: Host) -> None:
    (command,) = DIALECT.look([host.accepted(host.order(WAIT))])
    whole = host.answer(command)

    for length in range(len(whole.stdout.rstrip())):
        assert not DIALECT.seen([Answer(0, whole.stdout[:length])]).complete
    assert not DIALECT.seen([Answer(None, whole.stdout)]).complete


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"resources": Resources(cpus=2)}, "resources.cpus"),
        ({"resources": Resources(memory_bytes=1)}, "resources.memory"),
        ({"resources": Resources(walltime_s=1)}, "resources.walltime"),
        ({"resources": Resources(partition="x")}, "resources.partition"),
        ({"resources": Resources(licenses=("x:1",))}, "resources.licenses"),
        ({"resources": Resources(directives=("--nice",))}, "resources.directives"),
        ({"directives": ("--nice",)}, "resources.directives"),
        ({"is_held": True}, "hold"),
        ({"elements": 2}, "elements"),
    ],
)
def test_what_a_plain_host_cannot_do_is_refused(host: Host, fields: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        DIALECT.script(host.order("true\n", **fields))

    assert refused.value.field == field


def test_what_the_body_does_itself_may_be_asked_for(host: Host) -> None:
    order = host.order(
        "true\n", resources=Resources(modules=("gcc",), setup=("ulimit -s 1",), exclusive=False)
    )

    assert DIALECT.script(order) == "#!/bin/sh\ntrue\n"


def test_host_describes_itself(host: Host) -> None:
    (node,) = DIALECT.read_nodes(host.answer(DIALECT.nodes()))

    assert node.name == os.uname().nodename
    assert node.cpus == os.cpu_count()
    assert DIALECT.read_partitions(host.answer(DIALECT.partitions())) == ()
    assert str(DIALECT.read_version(host.answer(DIALECT.version()))).startswith("Linux ")
    assert DIALECT.read_version(Answer(0, "Darwin 23.1")) is None
    with pytest.raises(NotUnderstood):
        DIALECT.read_nodes(Answer(0, "x"))
