"""Every kind of executor, one after the other."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.dialects import registry
from jobmgr.domain.resources import Resources
from jobmgr.executors import process
from jobmgr.executors.protocol import Lost
from jobmgr.transports.local import LocalTransport
from jobmgr.transports.transport import Transport
from tests import pretenders
from tests.executors.contract.subject import Front, Keepers, Moods, Queue, Refused, Subject, Ways
from tests.hpcpack import HpcPack
from tests.slurm import Slurm
from tests.transports.sshd import SshServer, find_program, make_key

_TINY = Resources(memory_bytes=10 * 2**20)
_A_MINUTE = "its shortest limit is a minute; tests/crash/test_slurm.py waits for one"
_UNREACHABLE = "Unable to contact slurm controller (connect failure)"
_SLURM = Ways(
    waiting=Resources(partition="shut", memory_bytes=2**20),
    refused=Refused(Resources(partition="no-such", memory_bytes=2**20), "Invalid partition name specified"),
    pause=True,
    walltime=_A_MINUTE,
    tells_who_cancelled=True,
    small=_TINY,
)
_SLURM_AWAY = {
    "sbatch": (1, f"sbatch: error: Batch job submission failed: {_UNREACHABLE}"),
    "squeue": (1, f"slurm_load_jobs error: {_UNREACHABLE}"),
    "sacct": (1, "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection"),
    "scancel": (1, f"scancel: error: Kill job error on job id 1: {_UNREACHABLE}"),
}
_TORQUE_AWAY = {
    "qsub": (1, f"There was an error running the Slurm sbatch command.\nsubmission failed: {_UNREACHABLE}"),
    "qstat": (8, "Problem loading jobs."),
    "qdel": (1, f"qdel: Kill job error on job id 1: {_UNREACHABLE}"),
}
_TORQUE = ("qsub", "qstat", "qdel", "qhold", "qrls", "pbsnodes")
_OPENPBS = Ways(
    waiting=Resources(partition="stopq"),
    refused=Refused(Resources(partition="nosuchq"), "qsub: Unknown queue"),
    pause=True,
    walltime=Resources(walltime_s=2),
    tells_who_cancelled=True,
)
_LSF = Ways(
    waiting=Resources(partition="onejob"),
    refused=Refused(Resources(partition="nosuch"), "nosuch: No such queue. Job not submitted."),
    pause=True,
    walltime=Resources(walltime_s=120),
    tells_who_cancelled=True,
)


@pytest.fixture
def keepers(tmp_path: Path) -> Subject:
    """Processes of this machine."""
    no_queue = "it has no queue: the dispatcher lets attempts wait"
    return Keepers(
        tmp_path,
        Ways(
            waiting=no_queue,
            refused=no_queue,
            pause=True,
            walltime=Resources(walltime_s=1),
            tells_who_cancelled=no_queue,
            away=no_queue,
            stutter=no_queue,
            lost="a warden records the end for a dead keeper; test_recovery.py kills both",
        ),
    )


@pytest.fixture
def slurm_place(slurm: Slurm, tmp_path: Path) -> Iterator[Path]:
    """Where the cluster's nodes see the same files."""
    place = slurm.directory / f"contract-{tmp_path.name}"
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def real_slurm(slurm: Slurm, slurm_place: Path) -> Subject:
    """SLURM's own commands."""
    front = Front(slurm_place / "front", _SLURM_AWAY)
    environment = slurm.environment
    environment["PATH"] = f"{front.directory}:{environment['PATH']}"
    way = partial(LocalTransport, environment)
    return _of_slurm(slurm, slurm_place, "slurm", way, _SLURM, front, "sbatch")


@pytest.fixture
def slurm_over_ssh(slurm: Slurm, slurm_place: Path, tmp_path: Path) -> Iterator[Subject]:
    """The same, at a login node."""
    pytest.importorskip("asyncssh", reason="asyncssh is not installed (pip install 'jobmgr[ssh]')")
    from jobmgr.transports.ssh.connection import Connection
    from jobmgr.transports.ssh.transport import SshTransport

    program = find_program()
    if program is None:
        pytest.skip("OpenSSH's server is not installed (no sshd on the PATH or in /usr/sbin)")
    front = Front(slurm_place / "front", _SLURM_AWAY)
    path = f"{front.directory}:{slurm.environment['PATH']}"
    server = SshServer(program, tmp_path / "login", make_key(tmp_path / "key"), f"SetEnv PATH={path}")
    server.start()
    host = server.host()
    yield _of_slurm(
        slurm, slurm_place, "slurm", lambda: SshTransport(Connection(host)), _SLURM, front, "sbatch"
    )
    server.stop()


@pytest.fixture
def torque_commands(slurm: Slurm, slurm_place: Path) -> Subject:
    """PBS's commands of SLURM."""
    missing = [name for name in _TORQUE if shutil.which(name) is None]
    if missing:
        pytest.skip(f"slurm-wlm-torque is not installed: no {', '.join(missing)}")
    front = Front(slurm_place / "front", _TORQUE_AWAY)
    environment = slurm.environment
    environment["PATH"] = f"{front.directory}:{environment['PATH']}"
    ways = Ways(
        waiting=_SLURM.waiting,
        refused=Refused(Resources(partition="no-such"), "Invalid partition name specified"),
        pause="these commands cannot suspend",
        walltime=_A_MINUTE,
        tells_who_cancelled="they list no causes of ends",
        small=_TINY,
    )
    way = partial(LocalTransport, environment)
    return _of_slurm(slurm, slurm_place, "pbs", way, ways, front, "qsub")


def _of_slurm(
    slurm: Slurm,
    place: Path,
    dialect: str,
    way: Callable[[], Transport],
    ways: Ways,
    front: Front,
    submits: str,
) -> Subject:
    real = shutil.which(submits, path=slurm.environment["PATH"])
    return Queue(
        place / "work",
        ways,
        registry.dialect(dialect),
        way,
        Moods(
            away=front.put_up,
            back=front.take_down,
            stutter=partial(front.repeat, submits, str(real)),
            swallow=partial(front.swallow, submits),
        ),
        tidy=partial(_cancel_all, slurm),
    )


def _cancel_all(slurm: Slurm) -> None:
    slurm.run(["scancel", "--me"])


@pytest.fixture
def openpbs(tmp_path: Path) -> Subject:
    """OpenPBS, as it was recorded."""
    return _pretended(tmp_path, "openpbs", "history", "pbs", _OPENPBS)


@pytest.fixture
def openpbs_without_history(tmp_path: Path) -> Subject:
    """The same, of a server that forgets jobs when they end."""
    forgetful = "a server without history does not tell how a job ended"
    ways = Ways(
        waiting=_OPENPBS.waiting,
        refused=_OPENPBS.refused,
        pause=True,
        walltime=forgetful,
        tells_who_cancelled=forgetful,
        lost=forgetful,
        killed=Lost,
    )
    return _pretended(tmp_path, "openpbs", "none", "pbs", ways)


@pytest.fixture
def ibm_lsf(tmp_path: Path) -> Subject:
    """LSF, as IBM documents it."""
    return _pretended(tmp_path, "lsf", "ibm", "lsf", _LSF)


@pytest.fixture
def classic_lsf(tmp_path: Path) -> Subject:
    """volclava, as it was recorded."""
    speechless = "it does not tell what ended a job"
    ways = Ways(
        waiting=_LSF.waiting,
        refused=_LSF.refused,
        pause=True,
        walltime=speechless,
        tells_who_cancelled=speechless,
    )
    return _pretended(tmp_path, "lsf", "classic", "lsf", ways)


def _pretended(folder: Path, scheduler: str, kind: str, dialect: str, ways: Ways) -> Subject:
    directory = folder / "scheduler"
    programs = pretenders.install(directory, scheduler, kind)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    return Queue(
        folder / "work",
        ways,
        registry.dialect(dialect),
        lambda: LocalTransport(environment),
        Moods(
            away=(directory / "down").touch,
            back=partial((directory / "down").unlink, missing_ok=True),
            stutter=(directory / "stutter").touch,
            swallow=(directory / "swallow").touch,
        ),
        tidy=lambda: _kill_runners(directory),
    )


def _kill_runners(directory: Path) -> None:
    """The processes beside running jobs; their jobs are dead."""
    mark = os.fsencode(directory)
    for stat in process.living_processes():
        with suppress(ProcessLookupError):
            if mark in process.arguments_of(stat.pid):
                os.kill(stat.pid, signal.SIGKILL)


@pytest.fixture
def plain_host(tmp_path: Path) -> Subject:
    """Processes of a host, held by nobody but a shell."""
    no_queue = "nobody queues there"
    return Queue(
        tmp_path / "work",
        Ways(
            waiting=no_queue,
            refused=Refused(Resources(partition="any"), "resources.partition"),
            pause=True,
            walltime="nobody limits jobs there",
            tells_who_cancelled="nobody remembers there what ended a job",
            away=no_queue,
            stutter=no_queue,
        ),
        registry.dialect("shell"),
        lambda: LocalTransport(os.environ),
        Moods(_nothing, _nothing, _nothing, _nothing),
        tidy=_nothing,
    )


@pytest.fixture
def windows_hpc(tmp_path: Path) -> Subject:
    """HPC Pack, as Microsoft documents it."""
    hpc = HpcPack(tmp_path / "hpc")
    hpc.install()
    front = Front(tmp_path / "front", {"job": (1, "Could not connect to the scheduler.")})
    environment = {**os.environ, "PATH": f"{front.directory}:{hpc.programs}:{os.environ['PATH']}"}
    real = f"{hpc.programs}/job"
    return Queue(
        # Two slashes are the beginning of a share's name.
        Path(f"/{tmp_path}/work"),
        Ways(
            waiting=Resources(partition="Drained"),
            refused=Refused(Resources(partition="Nowhere"), "The node group 'Nowhere' does not exist."),
            pause="it has no word for that",
            walltime="it does not tell which limit ended a job, and who plays it limits none",
            tells_who_cancelled=True,
            warns="who plays it kills at once what is cancelled",
        ),
        registry.dialect("windows_hpc"),
        lambda: LocalTransport(environment),
        Moods(
            away=front.put_up,
            back=front.take_down,
            stutter=partial(front.repeat, "job", real, "submit"),
            swallow=partial(front.swallow, "job", real, "submit"),
        ),
        tidy=hpc.remove,
    )


def _nothing() -> None:
    """What cannot be brought about there."""


KINDS = (
    "keepers",
    "real_slurm",
    "slurm_over_ssh",
    "torque_commands",
    "openpbs",
    "openpbs_without_history",
    "ibm_lsf",
    "classic_lsf",
    "plain_host",
    "windows_hpc",
)

# What they consist of runs whole in other kinds: the short form takes every third test of theirs, each another third.
_COMPOUND = ("slurm_over_ssh", "openpbs_without_history", "torque_commands")
# KILL is waited for: in the short form where asking again puts it off, where no cause is told, and where it is ours.
_KILLED = "test_command_that_heeds_no_signal_is_killed"
_KILLING = ("openpbs", "classic_lsf", "plain_host")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what only the long form runs."""
    found = (item for item in items if isinstance(item, pytest.Function))
    here = [item for item in found if item.path.parent == Path(__file__).parent]
    names = list(dict.fromkeys(item.originalname for item in here))
    for item in here:
        kind = item.callspec.params["subject"]
        is_another_third = kind in _COMPOUND and names.index(item.originalname) % 3 != _COMPOUND.index(kind)
        if is_another_third or (item.originalname == _KILLED and kind not in _KILLING):
            item.add_marker(pytest.mark.slow)


@pytest_asyncio.fixture(params=KINDS)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """One kind; everything it started is ended after the test."""
    found: Subject = request.getfixturevalue(request.param)
    yield found
    await found.close()
