"""The warden: forks keepers, and holds what a keeper left that died before its command.

It outlives the service in a session of its own. It is an adopter of orphans, so the command of a dead keeper
becomes its child and the true status is still recorded; no child and no record means that it never started.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from typing import NamedTuple

from jobmgr import fault
from jobmgr.executors import gate, process
from jobmgr.executors.hold import Hold, exit_record, log
from jobmgr.executors.keeper import Keeper
from jobmgr.executors.messages import Message, Peer
from jobmgr.executors.note import Assignment, Leader, Note, Status, Step

FIRST_CONNECTION_S = 30.0
_SHORTAGE_S = 0.1
_KEEPERS_WAITING = 64  # Connections a keeper or warden has not accepted yet.


_NEVER_STARTED = {
    "code": "keeper_died_before_start",
    "message": "the process that was to start the command was killed; the command never ran",
}


class _Kept(NamedTuple):
    """A living keeper."""

    note: Note
    socket_path: str


class Warden:
    """The loop of the warden process."""

    def __init__(self, listener: socket.socket, directory: str) -> None:
        self._listener = listener
        self._directory = directory
        self._socket_path = str(listener.getsockname())
        self._keepers: dict[int, _Kept] = {}
        self._holds: dict[str, Hold] = {}
        self._peers: dict[int, Peer] = {}
        self._watchers: dict[str, set[int]] = {}
        self._poll = select.poll()
        self._wakeup = -1
        self._is_short = False  # What had to be done could not be done for want of descriptors or memory.
        self._alone_until = time.monotonic() + FIRST_CONNECTION_S

    def run(self) -> None:
        """Serve until there is no keeper, no held command and no service."""
        process.adopt_orphans()
        self._wakeup = process.wake_on_child()
        self._listener.settimeout(0)
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)
        try:
            while self._keepers or self._holds or self._peers or time.monotonic() < self._alone_until:
                for descriptor, _ in self._poll.poll(self._timeout_ms()):
                    self._serve(descriptor)
                self._look_after()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self._socket_path)

    def _look_after(self) -> None:
        self._is_short = False
        try:
            self._collect()
            self._advance()
        except OSError as error:
            # No descriptor or memory is free: what is held stays held, and is looked after again soon.
            log(f"the processes cannot be looked after now: {error}")
            self._is_short = True

    def _timeout_ms(self) -> float | None:
        due = [at for hold in self._holds.values() if (at := hold.wake_at()) is not None]
        if not self._keepers and not self._peers:
            due.append(self._alone_until)
        if self._is_short:
            due.append(time.monotonic() + _SHORTAGE_S)
        return max(0.0, (min(due) - time.monotonic()) * 1000 + 1) if due else None

    def _serve(self, descriptor: int) -> None:
        if descriptor == self._wakeup:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 4096)
        elif descriptor == self._listener.fileno():
            self._accept()
        elif descriptor in self._peers:
            messages = self._peers[descriptor].receive()
            if messages is None:
                self._hang_up(descriptor)
            else:
                for message in messages:
                    self._obey(descriptor, message)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if process.peer_uid(connection) != os.getuid():
            connection.close()
            return
        peer = Peer(connection)
        self._peers[peer.fileno] = peer
        self._poll.register(peer.fileno, select.POLLIN)
        self._alone_until = 0.0

    def _hang_up(self, descriptor: int) -> None:
        peer = self._peers.pop(descriptor, None)
        if peer is None:
            return
        self._poll.unregister(descriptor)
        peer.close()
        for watchers in self._watchers.values():
            watchers.discard(descriptor)

    def _obey(self, descriptor: int, message: Message) -> None:
        operation = message["op"]
        if operation == "fork":
            paths = [path for _ in range(message["count"]) if (path := self._fork()) is not None]
            self._tell(descriptor, {"op": "forked", "sockets": paths})
        elif operation == "attach":
            self._look_after()
            self._attach(descriptor, message["token"])
        else:
            self._look_after()
            if message["token"] in self._holds:
                self._holds[message["token"]].obey(message)

    def _attach(self, descriptor: int, token: str) -> None:
        hold = self._holds.get(token)
        if hold is not None:
            self._watchers.setdefault(token, set()).add(descriptor)
            self._tell(descriptor, hold.attach())
            return
        kept = any(k.note.step and k.note.assignment.token == token for k in self._keepers.values())
        self._tell(descriptor, {"op": "elsewhere" if kept else "unknown", "token": token})

    def _tell(self, descriptor: int, message: Message) -> None:
        if descriptor in self._peers and not self._peers[descriptor].send(message):
            self._hang_up(descriptor)

    # Keepers

    def _fork(self) -> str | None:
        """Fork a keeper that listens already; the path of its socket, or None if the system refuses."""
        path = os.path.join(self._directory, f"k-{os.urandom(6).hex()}")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _bind(listener, path)
            listener.listen(_KEEPERS_WAITING)
            note = Note()
            pid = process.run_forked(lambda: self._become_keeper(listener, path, note), listener.fileno())
        except OSError as error:
            log(f"no keeper could be forked: {error}")
            with contextlib.suppress(OSError):
                os.unlink(path)
            return None
        finally:
            listener.close()
        self._keepers[pid] = _Kept(note, path)
        fault.reach("warden.forked")
        return path

    def _become_keeper(self, listener: socket.socket, path: str, note: Note) -> None:
        # All that the warden had open is closed by now. Its objects stay referenced until the keeper ends, or
        # their finalizers would close descriptors that are the keeper's by then.
        warden = {
            "pid": os.getppid(),
            "start_ticks": process.start_ticks(os.getppid()),
            "socket": self._socket_path,
        }
        Keeper(listener, note, {**_identity(), "socket": path, "warden": warden}).run()

    # Children that ended

    def _collect(self) -> None:
        self._collect_keepers()
        for child in process.exited_children():
            # A keeper that died since then left its children in the same instant; they must be known as its
            # own before one of them is reaped.
            self._collect_keepers()
            owner = next((hold for hold in self._holds.values() if hold.pid == child.pid), None)
            if owner is None:
                process.reap(child.pid)
                continue
            seen = process.read_stat(child.pid)
            if seen is not None and not seen.has_executed:
                owner.never_started(_NEVER_STARTED, child)
            else:
                owner.leader_exited(child)

    def _collect_keepers(self) -> None:
        dead = [pid for pid in self._keepers if process.reap(pid) is not None]
        notes = []
        for pid in dead:
            kept = self._keepers.pop(pid)
            with contextlib.suppress(OSError):
                os.unlink(kept.socket_path)
            notes.append(kept.note)
        if any(note.step is not Step.FREE for note in notes):
            fault.reach("warden.bereaved")
        # Those whose leader is known come first, so that the others' can be told from what is left.
        for note in sorted(notes, key=lambda note: note.step, reverse=True):
            if note.step is not Step.FREE:
                self._take_over(note, is_alone=len(dead) == 1 and not self._holds)
            note.close()

    def _take_over(self, note: Note, *, is_alone: bool) -> None:
        assignment = note.assignment
        log(f"a keeper died at step {note.step.name} of attempt {assignment.token}")
        try:
            if note.step is Step.PREPARING and not _has_passed(assignment):
                return
            if gate.read_exit(assignment.control) is None:
                self._hold_or_close(note, assignment, is_alone=is_alone)
        except (OSError, ValueError, LookupError) as error:
            log(f"attempt {assignment.token} could not be taken over: {error}")

    def _hold_or_close(self, note: Note, assignment: Assignment, *, is_alone: bool) -> None:
        if note.step >= Step.RUNNING:
            leader: Leader | None = note.leader
        else:
            leader = self._find_leader(assignment, is_alone=is_alone)
        space = gate.ExitSpace(assignment.control, assignment.nonce, again=True)
        if leader is None:
            space.publish(exit_record(assignment.token, Status(None, None), error=_NEVER_STARTED))
            return
        hold = Hold(assignment, leader, _Adopted(self, assignment.token, leader.pid), space)
        hold.take_over(note)
        if note.status is not None:
            hold.child_exited(leader.pid)
        self._holds[assignment.token] = hold
        fault.reach("warden.took_over")

    def _find_leader(self, assignment: Assignment, *, is_alone: bool) -> Leader | None:
        """The child that a keeper started and had no time to note; None if it started none.

        A zombie, or a child that has not become the command yet, does not show its token. It is the one if no
        other attempt can have left it. Raises LookupError if that cannot be told; the attempt is lost then.
        """
        known = {*self._keepers, *(hold.pid for hold in self._holds.values())}
        children = [c for c in process.all_processes() if c.parent == os.getpid() and c.pid not in known]
        tokens = {child.pid: process.token_of(child.pid) for child in children}
        for child in children:
            if tokens[child.pid] == assignment.token:
                return _leader(child, assignment)
        unnamed = [child for child in children if tokens[child.pid] is None]
        if not unnamed:
            return None
        if is_alone and len(unnamed) == 1:
            return _leader(unnamed[0], assignment)
        raise LookupError("its command cannot be told from the other children of this warden")

    def _advance(self) -> None:
        for token, hold in list(self._holds.items()):
            record = hold.advance()
            if record is not None:
                del self._holds[token]
                self._tell_watchers(token, {"op": "ended", "token": token, "record": record})
                self._watchers.pop(token, None)
            elif (news := hold.take_news()) is not None:
                self._tell_watchers(token, news)

    def _tell_watchers(self, token: str, message: Message) -> None:
        for descriptor in list(self._watchers.get(token, ())):
            self._tell(descriptor, message)

    def adopted(self, token: str, leader: int) -> list[process.ProcessStat]:
        """The living processes of a held attempt.

        A child of ours belongs to the attempt of its session, else of the token it was started with. One that
        shows neither (a daemon with an environment of its own) is counted when only one attempt is held.
        """
        table = process.living_processes()
        # Children in the table may be those of keepers that died only now; they must be known as their own.
        self._collect_keepers()
        leaders = {hold.pid for hold in self._holds.values()} - {leader}
        roots = []
        for child in table:
            if child.parent != os.getpid() or child.pid in self._keepers or child.session in leaders:
                continue
            carried = None if child.session == leader else process.token_of(child.pid)
            if carried == token or child.session == leader or (carried is None and not leaders):
                roots.append(child.pid)
        return process.below(roots, table)


class _Adopted:
    """The family of an attempt whose keeper died."""

    def __init__(self, warden: Warden, token: str, leader: int) -> None:
        self._warden = warden
        self._token = token
        self._leader = leader

    def members(self) -> list[process.ProcessStat]:
        return self._warden.adopted(self._token, self._leader)

    def is_gone(self) -> bool:
        # Other children keep the kernel from answering this, and one look may miss a process that forks and
        # ends while the table is read; two looks in a row are taken as proof.
        return not self.members() and not self.members()


def main() -> None:
    """Become a warden: `argv` holds the descriptor of its listening socket and the directory for others."""
    # The service waits for this process only, so it gets neither a child to reap nor a zombie.
    if os.fork():
        os._exit(0)
    process.reset_signals()
    Warden(socket.socket(fileno=int(sys.argv[1])), sys.argv[2]).run()


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except FileNotFoundError:
        # Somebody tidied up. Nobody else's directory can be at this place: making it fails if there is one.
        os.mkdir(os.path.dirname(path), 0o700)
        listener.bind(path)


def _leader(child: process.ProcessStat, assignment: Assignment) -> Leader:
    # Its keeper died within the instant after the start, so it has started just now.
    return Leader(child.pid, child.start_ticks, time.time_ns(), assignment.deadline())


def _has_passed(assignment: Assignment) -> bool:
    if gate.void(assignment.control, assignment.token, "its keeper died before the start"):
        return False
    decision = gate.read(assignment.control)
    return decision is not None and decision["nonce"] == assignment.nonce


def _identity() -> Message:
    pid = os.getpid()
    return {
        "host": process.host(),
        "boot_id": process.boot_id(),
        "pid_ns": process.pid_namespace(),
        "pid": pid,
        "start_ticks": process.start_ticks(pid),
    }
