"""A throw-away SLURM: all of its daemons in a directory of its own, on ports of its own, ended by their own ids."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from jobmgr.dialects.dialect import Answer, Command
from jobmgr.executors import process
from tests import port
from tests.postgresql import fast_directory

NODES = ("n1", "n2", "n3")
MAX_ARRAY_SIZE = 1001
# Of a node: what a simulation asks for that says nothing else.
MEMORY_MB = 4096
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
# Debian puts the daemons there, and users seldom have it on their PATH.
_PLACES = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PROGRAMS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "sinfo", "sacctmgr")
_DAEMONS = ("munged", "slurmctld", "slurmd")
_ACCOUNTING = ("slurmdbd", "mariadbd", "mariadb-install-db")

_CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={slurmctld_port}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PriorityType=priority/basic
ReturnToService=2
SlurmdParameters=config_overrides
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool-%n
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd-%n.log
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
MailProg=/bin/true
MinJobAge={min_job_age_s}
KillWait=2
MessageTimeout=10
SlurmdTimeout=300
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MaxArraySize={max_array_size}
GresTypes=gpu
Licenses=ansys:4
{accounting}
{nodes}
PartitionName=debug Nodes=n1,n2 Default=YES MaxTime=2-00:00:00 DefMemPerCPU=100 State=UP
PartitionName=short Nodes=n1 MaxTime=00:30:00 DefMemPerCPU=100 State=UP
PartitionName=idle Nodes=n3 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 State=UP
PartitionName=urgent Nodes=n3 PriorityTier=10 PreemptMode=OFF State=UP
PartitionName=shut Nodes=n2 State=DOWN
"""
_WITH_ACCOUNTING = """\
EnforcePartLimits=ALL
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd_port}
# Here a socket of munge, by which clients reach slurmdbd; it does not follow AuthInfo.
AccountingStoragePass={directory}/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu,license/ansys
AccountingStoreFlags=job_comment"""
_WITHOUT_ACCOUNTING = """\
EnforcePartLimits=NO
AccountingStorageType=accounting_storage/none"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory={memory} "
    "Gres=gpu:a100:2 Feature=fast,{name} State=UNKNOWN"
)
_DATABASE_DAEMON = """\
AuthType=auth/munge
AuthInfo=socket={directory}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={slurmdbd_port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct
LogFile={directory}/slurmdbd.log
PidFile={directory}/slurmdbd.pid
"""


def why_not(*, has_accounting: bool) -> str | None:
    """What is missing on this machine to run a SLURM; None if nothing is."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root"
    needed = _DAEMONS + _PROGRAMS + (_ACCOUNTING if has_accounting else ())
    missing = [name for name in needed if shutil.which(name, path=_PLACES) is None]
    return f"SLURM is not installed: no {', '.join(missing)}" if missing else None


class Slurm:
    """A cluster of three nodes, each of them a daemon on this machine."""

    def __init__(self, directory: Path, *, has_accounting: bool, min_job_age_s: int) -> None:
        self.directory = directory
        self.has_accounting = has_accounting
        self.programs = directory / "bin"
        self._min_job_age_s = min_job_age_s
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = dict(zip(("slurmctld", "slurmdbd", "mariadb", *NODES), port.free(6), strict=True))
        self._password = secrets.token_hex(16)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to talk to this cluster and to no other."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return {
            **inherited,
            "PATH": f"{self.programs}:{os.environ.get('PATH', os.defpath)}",
            "SLURM_CONF": str(self._configuration),
        }

    def run(
        self,
        argv: Sequence[str],
        stdin: str = "",
        *,
        timeout_s: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that sees this cluster; TimeoutExpired after `timeout_s`."""
        return subprocess.run(
            argv,
            input=stdin,
            env={**self.environment, **(env or {})},
            cwd=self.directory,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=timeout_s,
            check=False,
        )

    def answer(
        self, command: Command, *, timeout_s: float = 60, env: Mapping[str, str] | None = None
    ) -> Answer:
        """What a dialect's command answers."""
        done = self.run(command.argv, command.stdin, timeout_s=timeout_s, env=env)
        return Answer(done.returncode, done.stdout, done.stderr)

    def say(self, *argv: str) -> str:
        """Run a command that must succeed, for what it prints."""
        done = self.run(argv)
        assert done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Write the configuration, start all daemons, and wait until every node is idle."""
        self._prepare()
        self._start_munged()
        if self.has_accounting:
            self._start_mariadb()
            self.start_slurmdbd()
            self._tell_accounting()
        self.start_slurmctld()
        for name in NODES:
            self.start_slurmd(name)
        self._wait(self._is_idle, "nodes are not idle")

    def stop(self) -> None:
        """End all jobs and daemons."""
        for name in (*NODES, "slurmctld", "slurmdbd", "mariadb", "munged"):
            self._stop(name)
        process.send_signals(self.remnants(), signal.SIGCONT, signal.SIGKILL)

    def remnants(self) -> list[process.ProcessStat]:
        """Living processes of this cluster: daemons, step managers and jobs."""
        mark = b"SLURM_CONF=" + os.fsencode(self._configuration) + b"\0"
        return [stat for stat in process.living_processes() if mark in _environment(stat.pid)]

    def start_slurmctld(self) -> None:
        """Start the controller and wait until it answers."""
        self._start("slurmctld", "slurmctld", "-D")
        self._wait(lambda: self.run(["scontrol", "ping"]).stdout.rstrip().endswith("UP"), "no slurmctld")

    def stop_slurmctld(self, *, is_immediate: bool = False) -> None:
        """Stop the controller; it saves its state unless it is killed."""
        self._stop("slurmctld", signal.SIGKILL if is_immediate else signal.SIGTERM)

    def start_slurmdbd(self) -> None:
        """Start the accounting daemon and wait until it answers."""
        self._start("slurmdbd", "slurmdbd", "-D")
        self._wait(lambda: self.run(["sacctmgr", "-n", "list", "cluster"]).returncode == 0, "no slurmdbd")

    def stop_slurmdbd(self) -> None:
        """Stop the accounting daemon; the controller keeps for it what it misses."""
        self._stop("slurmdbd")

    def freeze(self, daemon: str) -> None:
        """Let a daemon be there and not answer."""
        self._daemons[daemon].send_signal(signal.SIGSTOP)

    def thaw(self, daemon: str) -> None:
        """Let it answer again."""
        self._daemons[daemon].send_signal(signal.SIGCONT)

    def start_slurmd(self, node: str) -> None:
        """Start the daemon of a node."""
        self._start(node, "slurmd", "-D", "-N", node)

    def stop_slurmd(self, node: str) -> None:
        """Kill the daemon of a node; what runs there runs on."""
        self._stop(node, signal.SIGKILL)

    @property
    def _configuration(self) -> Path:
        return self.directory / "slurm.conf"

    def _prepare(self) -> None:
        for name in ("bin", "state", "db", *(f"spool-{node}" for node in NODES)):
            (self.directory / name).mkdir()
        facts = {
            "directory": self.directory,
            "host": socket.gethostname(),
            "password": self._password,
            "min_job_age_s": self._min_job_age_s,
            "max_array_size": MAX_ARRAY_SIZE,
            **{f"{name}_port": port for name, port in self._ports.items()},
        }
        nodes = "\n".join(
            _NODE.format(name=name, host=facts["host"], port=self._ports[name], memory=MEMORY_MB)
            for name in NODES
        )
        accounting = (_WITH_ACCOUNTING if self.has_accounting else _WITHOUT_ACCOUNTING).format(**facts)
        self._configuration.write_text(_CONFIGURATION.format(**facts, nodes=nodes, accounting=accounting))
        (self.directory / "gres.conf").write_text(self._gpus())
        database = self.directory / "slurmdbd.conf"
        database.write_text(_DATABASE_DAEMON.format(**facts))
        database.chmod(0o600)
        key = self.directory / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        for name in _PROGRAMS:
            self._wrap(name)

    def _gpus(self) -> str:
        lines = []
        for name in NODES:
            for number in range(2):
                (self.directory / f"gpu-{name}-{number}").touch()
            lines.append(f"NodeName={name} Name=gpu Type=a100 File={self.directory}/gpu-{name}-[0-1]\n")
        return "".join(lines)

    def _wrap(self, name: str) -> None:
        wrapper = self.programs / name
        wrapper.write_text(
            f'#!/bin/sh\nSLURM_CONF={self._configuration} exec {shutil.which(name, path=_PLACES)} "$@"\n'
        )
        wrapper.chmod(0o755)

    def _start_munged(self) -> None:
        directory = self.directory
        options = [
            f"--key-file={directory}/munge.key", f"--socket={directory}/munge.socket",
            f"--pid-file={directory}/munged.pid", f"--log-file={directory}/munged.log",
            f"--seed-file={directory}/munged.seed", "--num-threads=2", "--foreground",
        ]  # fmt: skip
        self._start("munged", "munged", *options)
        self._wait((directory / "munge.socket").exists, "no munged")

    def _start_mariadb(self) -> None:
        data = self.directory / "db"
        # Two servers that share a directory for temporary tables remove each other's.
        done = self.run(
            ["mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}", "--skip-test-db",
             "--auth-root-authentication-method=socket", f"--tmpdir={self.directory}"],
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        first = self.directory / "first.sql"
        first.write_text(
            "CREATE DATABASE slurm_acct;\n"
            f"CREATE USER slurm@'127.0.0.1' IDENTIFIED BY '{self._password}';\n"
            "GRANT ALL ON slurm_acct.* TO slurm@'127.0.0.1';\n"
        )
        first.chmod(0o600)
        options = [
            "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={self.directory}/mariadb.socket",
            f"--pid-file={self.directory}/mariadb.pid", "--bind-address=127.0.0.1", "--skip-name-resolve",
            f"--port={self._ports['mariadb']}", f"--init-file={first}",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=32M",
            "--skip-log-bin", f"--tmpdir={self.directory}",
        ]  # fmt: skip
        self._start("mariadb", "mariadbd", *options)
        self._wait(lambda: _answers(self._ports["mariadb"]), "no mariadbd")

    def _tell_accounting(self) -> None:
        """Accounts and limits to hit: one submitted job for `tight`, ten minutes for `brief`."""
        for words in (
            "add cluster lab",
            "add account project",
            "add account other",
            "add qos tight set MaxSubmitJobsPerUser=1",
            "add qos brief set MaxWall=10",
            "modify account root set qos+=tight,brief",
            "add user root account=project,other qos=normal,tight,brief defaultaccount=project",
        ):
            done = self.run(["sacctmgr", "-i", *words.split()])
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"

    def _is_idle(self) -> bool:
        states = self.run(["sinfo", "-h", "-N", "-p", "debug,idle", "-o", "%T"]).stdout.split()
        return states == ["idle"] * len(NODES)

    def _start(self, name: str, program: str, *options: str) -> None:
        with (self.directory / f"{name}.out").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [str(shutil.which(program, path=_PLACES)), *options],
                cwd=self.directory,
                env={**self.environment, "PATH": _PLACES},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt of the tests must not end it before its clients
            )

    def _stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        daemon = self._daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(signal.SIGCONT)
        daemon.send_signal(number)
        try:
            daemon.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _wait(self, look: Callable[[], bool], problem: str) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not look():
            dead = [name for name, daemon in self._daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                said = "".join(
                    file.read_text(errors="replace")[-1500:]
                    for name in (dead or self._daemons)
                    for file in (self.directory / f"{name}.out", self.directory / f"{name}.log")
                    if file.exists()
                )
                raise AssertionError(f"SLURM did not start: {problem}; ended: {dead}; {said}")
            time.sleep(0.05)


# Ends what was started and removes its files when the other end of its standard input is gone, as after a kill of
# the tests. All processes of the cluster show where its configuration lies.
_GUARD = """
cat >/dev/null
for entry in /proc/[0-9]*; do
    tr '\\0' '\\n' 2>/dev/null <"$entry/environ" | grep -qxF "SLURM_CONF=$0/slurm.conf" || continue
    [ "${entry#/proc/}" = $$ ] || kill -KILL "${entry#/proc/}"
done
rm -rf "$0"
"""


@contextmanager
def running_slurm(*, has_accounting: bool, min_job_age_s: int = 300) -> Iterator[Slurm]:
    """Start a cluster, and at the end stop it with all its jobs and remove its files."""
    directory = Path(tempfile.mkdtemp(prefix="jobmgr-slurm-", dir=fast_directory()))
    # munged wants its socket where everybody may come.
    directory.chmod(0o755)
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, str(directory)], stdin=subprocess.PIPE, start_new_session=True
    )
    slurm = Slurm(directory, has_accounting=has_accounting, min_job_age_s=min_job_age_s)
    try:
        slurm.start()
        yield slurm
    finally:
        guard.kill()
        guard.communicate()
        slurm.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
