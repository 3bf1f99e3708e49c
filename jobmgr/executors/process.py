"""All that differs between operating systems: what names a process, starting one, finding and ending trees.

Linux is complete. Elsewhere `may_adopt_orphans` is False and the process table is empty, so that the executor
refuses to start with a sentence instead of promising what it cannot keep; a port adds its branches here.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

ATTEMPT_VARIABLE = "JOBMGR_ATTEMPT_TOKEN"
RUN_VARIABLE = "JOBMGR_RUN_DIR"
JOB_TOKEN_VARIABLE = "JOBMGR_JOB_TOKEN_FILE"  # noqa: S105 -- a name
# What the system answers if it has no descriptor, process or memory left; a moment later it may.
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})

_PR_SET_CHILD_SUBREAPER = 36  # Source: prctl(2), linux/prctl.h.
_PF_FORKNOEXEC = 0x40  # Source: linux/sched.h; set by fork, cleared by a successful exec, kept by a zombie.
# Source: setrlimit(2), RLIMIT_LOCKS, for which Python has no name. Linux shows it and has not enforced it since 2.4.25.
_RLIMIT_LOCKS = 10
_LIMIT_OF_LOCKS = b"Max file locks"
_MARK_BYTES = 7
_DEAD_STATES = "ZXx"
_STOPPED_STATES = "Tt"
# poll(2) takes its milliseconds as a C int, which is less than a month; whoever wakes up too early looks again.
_LONGEST_POLL_MS = 3_600_000.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# Python ignores these two, and an ignored signal survives exec; the warden gave all others their default.
_SIGNALS_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)

may_adopt_orphans = sys.platform == "linux"


class ProcessStat(NamedTuple):
    """One line of the process table. `start_ticks` (since boot) tells a recycled pid from the old one."""

    pid: int
    state: str
    parent: int
    session: int
    has_executed: bool
    start_ticks: int

    @property
    def is_stopped(self) -> bool:
        """Whether it was told to stop and has."""
        return self.state in _STOPPED_STATES


class Exited(NamedTuple):
    """A child that ended and is not reaped yet; exactly one of `exit_code` and `signal` is set."""

    pid: int
    exit_code: int | None
    signal: int | None


class Usage(NamedTuple):
    """What a reaped child and the descendants it waited for used.

    On Linux the peak of a spawned program is never below that of the process that spawned it (exec keeps the
    high-water mark of the memory it replaces), so a keeper's own 12 MB or so are the smallest value seen.
    """

    cpu_s: float
    peak_memory_bytes: int


def adopt_orphans() -> None:
    """From now on, descendants whose parent dies become children of this process. Not inherited by fork."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl(PR_SET_CHILD_SUBREAPER)")


@functools.cache
def boot_id() -> str:
    """Names this boot of this kernel; all processes of another boot are gone."""
    return _read_short("/proc/sys/kernel/random/boot_id").decode().strip()


def booted_at() -> float:
    """When this boot began, in seconds since 1970, as exact as the wall clock is."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def pid_namespace() -> str:
    """Names the space in which process ids of this process have their meaning."""
    return os.readlink("/proc/self/ns/pid")


def host() -> str:
    """Names the machine, so that the boot of another one is not taken for an earlier boot of this one."""
    return os.uname().nodename


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


# Limits


def descriptor_limit() -> int:
    """How many files this process may have open: the soft limit, which may be raised."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raise_descriptor_limit() -> None:
    """Let this process have as many files open as it may at all."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit_descriptors(most)


def limit_descriptors(count: int) -> None:
    """Let this process, and those that it starts, have `count` files open, if that is allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS shows `unlimited` and refuses it.
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, most))


def can_start() -> bool:
    """Whether the system lets this process have a child: one is made for no program, and is gone again.

    Should a keeper be killed meanwhile, its warden finds what never became a command, and that is the truth.
    """
    try:
        os.posix_spawn("", ("none",), {})
    except FileNotFoundError:
        return True
    except OSError:
        return False
    raise AssertionError("a program without a name was started")


# Marks


def may_mark() -> bool:
    """Whether this process may give marks: any number has to be allowed as its limit of file locks."""
    _, most = resource.getrlimit(_RLIMIT_LOCKS)
    return most == resource.RLIM_INFINITY or most >= 256**_MARK_BYTES


def new_mark() -> int:
    """A mark that nobody has."""
    return int.from_bytes(os.urandom(_MARK_BYTES), "big")


def bear(mark: int) -> None:
    """Bear this mark, as every process born below this one will from its first instant until it is reaped.

    Of what a process inherits at birth it is the one thing that no exec changes, that a zombie still shows, that
    nobody needs for anything else, and that may be any number. A program that sets its limit of file locks loses it.
    """
    _, most = resource.getrlimit(_RLIMIT_LOCKS)
    resource.setrlimit(_RLIMIT_LOCKS, (mark, most))


def mark_of(pid: int) -> int | None:
    """The mark that the process bears, a zombie too; None if it has none. Raises OSError as `read_stat`."""
    try:
        limits = _read_short(f"/proc/{pid}/limits")
    except (FileNotFoundError, ProcessLookupError):
        return None
    soft = limits.partition(_LIMIT_OF_LOCKS)[2].split(maxsplit=1)[:1]
    # Nothing is shown of what is just being reaped.
    return int(soft[0]) if soft and soft[0].isdigit() else None


def eldest(stats: Iterable[ProcessStat]) -> ProcessStat:
    """The one that was born first. Raises OSError as `read_stat`.

    Ids are given in rising order and start again from below at the end. Of two that were born within one tick (10 ms)
    the later one is the next above by less than half of all ids, because half of them, 16384 at the least that Linux
    comes with, cannot be given in this time.
    """
    ids = int(_read_short("/proc/sys/kernel/pid_max"))

    def older(one: ProcessStat, other: ProcessStat) -> ProcessStat:
        if one.start_ticks != other.start_ticks:
            return min(one, other, key=lambda stat: stat.start_ticks)
        return one if (other.pid - one.pid) % ids < ids // 2 else other

    return functools.reduce(older, stats)


# Starting


def spawn(program: str, argv: list[str], env: Mapping[str, str], stdout: int, stderr: int) -> tuple[int, int]:
    """Start `program` in its own session and the current directory; its pid and start ticks. Raises OSError.

    stdin is this process's own, which is /dev/null in a keeper; all other descriptors are close-on-exec.
    """
    before = _ticks_now()
    pid = os.posix_spawn(
        program,
        argv,
        env,
        file_actions=((os.POSIX_SPAWN_DUP2, stdout, 1), (os.POSIX_SPAWN_DUP2, stderr, 2)),
        setsid=True,
        setsigmask=(),
        setsigdef=_SIGNALS_PYTHON_IGNORES,
    )
    # The kernel takes the same clock in between; within one tick (10 ms) it need not be asked.
    if before != _ticks_now():
        # The command runs, so an error must not look as if it did not.
        with contextlib.suppress(OSError):
            return pid, start_ticks(pid)
    return pid, before


def _ticks_now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS_PER_S // 1_000_000_000


class PrivateText:
    """A text in this process that its children read as a file: only our user may, it is on no disk, and it is gone
    with this process. A file in a directory would be made and removed for each text; this takes one system call.
    """

    SIZE = 256

    def __init__(self, name: str) -> None:
        """Raises OSError."""
        self._descriptor = os.memfd_create(name)
        os.fchmod(self._descriptor, 0o400)
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        self.write("")

    def write(self, text: str) -> None:
        """Instead of what it was. Newlines fill it up, which shells leave out of what they read."""
        os.pwrite(self._descriptor, text.encode().ljust(self.SIZE, b"\n"), 0)


# Waiting


def poll_timeout_ms(due: float | None) -> float | None:
    """For how long to poll, so as to wake up at `due` (monotonic) or, if that is far away, before; None: for ever."""
    if due is None:
        return None
    # Rounded up: waking a moment early would spin.
    return min(max(0.0, (due - time.monotonic()) * 1000 + 1), _LONGEST_POLL_MS)


def await_child(timeout_s: float) -> None:
    """Wait until a child has ended, for at most `timeout_s`. SIGCHLD must be blocked.

    This takes one system call where a handler and its wake-up pipe take four. Where it does not exist the
    caller's ordinary loop sees the end a moment later.
    """
    if sys.platform == "linux":
        signal.sigtimedwait((signal.SIGCHLD,), timeout_s)


def exited_children() -> Iterator[Exited]:
    """Children that ended, one at a time; the receiver reaps each before it asks for the next."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            found = None
        if found is None:
            return
        if found.si_code == os.CLD_EXITED:
            yield Exited(found.si_pid, found.si_status, None)
        else:
            yield Exited(found.si_pid, None, found.si_status)


def reap(pid: int) -> Usage | None:
    """Take an ended child out of the process table; None if it is not there (any more)."""
    try:
        reaped, _, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        reaped = 0
    if reaped == 0:
        return None
    # ru_maxrss counts KiB on Linux and bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def has_children() -> bool:
    """Whether this process has a child, living or unreaped; without one, an adopter's tree is empty."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


# The process table


def read_stat(pid: int) -> ProcessStat | None:
    """The process with this id, a zombie too; None if there is none.

    Raises OSError if that cannot be seen (no descriptor is free, say): it is not the same as death.
    """
    try:
        text = _read_short(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat_of(pid, text)


def stat_of(pid: int, text: bytes) -> ProcessStat:
    """What /proc/PID/stat says of a process. Raises OSError as `read_stat` for what is not whole."""
    # The name may hold blanks and brackets; the fields after its last bracket are numbered from 3 in proc(5).
    fields = text[text.rfind(b")") + 2 :].split()
    try:
        return ProcessStat(
            pid=pid,
            state=fields[0].decode(),
            parent=int(fields[1]),
            session=int(fields[3]),
            has_executed=not int(fields[6]) & _PF_FORKNOEXEC,
            start_ticks=int(fields[19]),
        )
    except (IndexError, ValueError) as error:
        raise OSError(errno.EIO, f"/proc/{pid}/stat cannot be understood") from error


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since boot; 0 if it is gone. Raises OSError as `read_stat`."""
    stat = read_stat(pid)
    return 0 if stat is None else stat.start_ticks


def age_s(ticks: int) -> float:
    """How long ago a process started, by the clock of its start ticks, which nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS_PER_S


def is_alive(pid: int, ticks: int) -> bool:
    """Whether the very process that started then still runs. Raises OSError as `read_stat`."""
    stat = read_stat(pid)
    return stat is not None and stat.start_ticks == ticks and stat.state not in _DEAD_STATES


def all_processes() -> list[ProcessStat]:
    """The whole process table, zombies too, as far as we may see it. Raises OSError as `read_stat`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            # With hidepid in force other users' processes may not be looked at; ours are never among them.
            with contextlib.suppress(PermissionError):
                found.append(read_stat(int(name)))
    return [stat for stat in found if stat is not None]


def living_processes() -> list[ProcessStat]:
    """All processes that have not ended."""
    return [stat for stat in all_processes() if stat.state not in _DEAD_STATES]


def below(roots: Iterable[int], table: Sequence[ProcessStat]) -> list[ProcessStat]:
    """The processes of `table` whose line of parents meets `roots`; a root counts if `table` has it."""
    children: dict[int, list[ProcessStat]] = {}
    for stat in table:
        children.setdefault(stat.parent, []).append(stat)
    wanted = set(roots)
    found = [stat for stat in table if stat.pid in wanted]
    seen = {stat.pid for stat in found}
    waiting = [*wanted]
    while waiting:
        for stat in children.get(waiting.pop(), ()):
            if stat.pid not in seen:
                seen.add(stat.pid)
                found.append(stat)
                waiting.append(stat.pid)
    return found


def moving(members: Sequence[ProcessStat]) -> list[ProcessStat]:
    """Those of a tree that may still do something after all of it was sent STOP.

    A parent inside vfork (shells and posix_spawn start programs so) cannot stop before its child has become a program
    or has ended; while that child is stopped, it cannot run either.
    """
    waited_for = {stat.parent for stat in members if stat.is_stopped and not stat.has_executed}
    return [
        stat for stat in members if not stat.is_stopped and not (stat.state == "D" and stat.pid in waited_for)
    ]


def descendants() -> list[ProcessStat]:
    """The living processes below this one."""
    return [stat for stat in below((os.getpid(),), living_processes()) if stat.pid != os.getpid()]


def token_of(pid: int) -> str | None:
    """The attempt whose token the process was started with; None if it has none or may not be looked at."""
    token = variable_of(pid, ATTEMPT_VARIABLE)
    return None if token is None else token.decode("ascii", "replace")


def variable_of(pid: int, name: str) -> bytes | None:
    """This variable of the environment that the process was started with; None as for `token_of`."""
    prefix = name.encode() + b"="
    for entry in _read_entries(f"/proc/{pid}/environ"):
        if entry.startswith(prefix):
            return entry[len(prefix) :]
    return None


def arguments_of(pid: int) -> list[bytes]:
    """The command line of the process; empty if it is gone."""
    return _read_entries(f"/proc/{pid}/cmdline")


def carriers(token: str) -> list[ProcessStat]:
    """The living processes that were started with this attempt's token in their environment."""
    return [stat for stat in living_processes() if token_of(stat.pid) == token]


def bearers(mark: int) -> list[ProcessStat]:
    """The living processes that bear this mark: its keeper, and all that was born below it."""
    found = []
    for stat in living_processes():
        with contextlib.suppress(PermissionError):  # As in `all_processes`.
            if mark_of(stat.pid) == mark:
                found.append(stat)
    return found


def send_signals(targets: Iterable[ProcessStat], *signals: signal.Signals) -> None:
    """Send `signals` to each process that still is the one that was seen; a recycled pid is never hit."""
    for target in targets:
        try:
            handle = os.pidfd_open(target.pid)
        except OSError:
            continue
        try:
            # From the opening on the handle stays with one process, so this check cannot be outrun.
            if start_ticks(target.pid) == target.start_ticks:
                for number in signals:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        signal.pidfd_send_signal(handle, number)
        except OSError:
            continue  # Without the comparison it gets nothing; whoever ends a tree comes again.
        finally:
            os.close(handle)


# The process itself


def reset_signals() -> None:
    """Give every signal its default, whatever the service ignored (nohup does), save Python's own two."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in _SIGNALS_PYTHON_IGNORES:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def wake_on_child() -> int:
    """Make the end of a child readable on the returned descriptor."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, _do_nothing)  # Without a handler Python writes no wake-up byte.
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def run_forked(main: Callable[[], None], keep: int) -> int:
    """Fork; the child closes all descriptors above 2 but `keep`, runs `main` and ends. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        _run_and_exit(main, keep)
    return pid


def _run_and_exit(main: Callable[[], None], keep: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        os.closerange(3, keep)
        os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))
        main()
    except BaseException:  # noqa: BLE001  # boundary: a forked child must not return into its parent's code
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _do_nothing(_number: int, _frame: object) -> None:
    pass


def _read_short(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def _read_entries(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.read().removesuffix(b"\0").split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []
