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
from jobmgr.executors.hold import NEVER_STARTED, Hold, exit_record, log
from jobmgr.executors.keeper import Keeper
from jobmgr.executors.messages import Message, Peer
from jobmgr.executors.note import Assignment, Leader, Note, Status, Step

FIRST_CONNECTION_S = 30.0
_SHORTAGE_S = 0.1
_KEEPERS_WAITING = 64  # Connections a keeper or warden has not accepted yet.


class _Kept(NamedTuple):
    """A keeper; `mark` is borne by it and by all that is born below it."""

    note: Note
    socket_path: str
    mark: int


class Warden:
    """The loop of the warden process."""

    def __init__(self, listener: socket.socket, directory: str) -> None:
        self._listener = listener
        self._directory = directory
        self._socket_path = str(listener.getsockname())
        self._keepers: dict[int, _Kept] = {}
        self._bereft: list[_Kept] = []  # Keepers that died, whose attempt is not taken over yet.
        self._holds: dict[str, Hold] = {}
        self._marks: dict[str, int] = {}  # Of the keepers that the held attempts had.
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
            while self._is_needed():
                for descriptor, _ in self._poll.poll(self._timeout_ms()):
                    self._serve(descriptor)
                self._look_after()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self._socket_path)

    def _is_needed(self) -> bool:
        held = self._keepers or self._bereft or self._holds
        return bool(held or self._peers) or time.monotonic() < self._alone_until

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
        return process.poll_timeout_ms(min(due, default=None))

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
            hold = self._holds.get(message.get("token", ""))
            if hold is not None:
                hold.obey(message)

    def _attach(self, descriptor: int, token: str) -> None:
        hold = self._holds.get(token)
        if hold is not None:
            self._watchers.setdefault(token, set()).add(descriptor)
            self._tell(descriptor, hold.attach())
            return
        notes = [kept.note for kept in (*self._keepers.values(), *self._bereft)]
        kept = any(note.step and note.assignment.token == token for note in notes)
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
            kept = _Kept(Note(), path, process.new_mark())
            pid = process.run_forked(lambda: self._become_keeper(listener, kept), listener.fileno())
        except OSError as error:
            log(f"no keeper could be forked: {error}")
            with contextlib.suppress(OSError):
                os.unlink(path)
            return None
        finally:
            listener.close()
        self._keepers[pid] = kept
        fault.reach("warden.forked")
        return path

    def _become_keeper(self, listener: socket.socket, kept: _Kept) -> None:
        # All that the warden had open is closed by now. Its objects stay referenced until the keeper ends, or
        # their finalizers would close descriptors that are the keeper's by then.
        warden = {
            "pid": os.getppid(),
            "start_ticks": process.start_ticks(os.getppid()),
            "socket": self._socket_path,
        }
        process.bear(kept.mark)
        holder = {**_identity(), "mark": kept.mark, "socket": kept.socket_path, "warden": warden}
        Keeper(listener, kept.note, holder).run()

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
            else:
                owner.leader_exited(child)

    def _collect_keepers(self) -> None:
        """Take over what dead keepers left. Raises OSError if that cannot be done now; then it is still to do."""
        dead = [self._keepers.pop(pid) for pid in list(self._keepers) if process.reap(pid) is not None]
        for kept in dead:
            with contextlib.suppress(OSError):
                os.unlink(kept.socket_path)
            if kept.note.step is Step.FREE:
                kept.note.close()
            else:
                log(f"a keeper died at step {kept.note.step.name} of attempt {kept.note.assignment.token}")
                self._bereft.append(kept)
        if dead and self._bereft:
            fault.reach("warden.bereaved")
        while self._bereft:
            self._take_over(self._bereft[-1])
            self._bereft.pop().note.close()

    def _take_over(self, kept: _Kept) -> None:
        note = kept.note
        assignment = note.assignment
        try:
            if note.step is Step.PREPARING and not _has_passed(assignment):
                return
            if gate.read_exit(assignment.control) is None:
                self._hold_or_close(kept, assignment)
        except (OSError, ValueError, LookupError) as error:
            if isinstance(error, OSError) and error.errno in process.SCARCE:
                raise
            log(f"attempt {assignment.token} could not be taken over: {error}")

    def _hold_or_close(self, kept: _Kept, assignment: Assignment) -> None:
        note = kept.note
        leader = note.leader if note.step >= Step.RUNNING else self._find_leader(kept, assignment)
        space = gate.ExitSpace(assignment.control, assignment.nonce, again=True)
        if leader is None:
            space.publish(exit_record(assignment.token, Status(None, None), error=NEVER_STARTED))
            return
        hold = Hold(assignment, leader, _Adopted(self, assignment.token, leader.pid), space)
        hold.take_over(note)
        if note.status is not None:
            hold.child_exited(leader.pid)
        self._holds[assignment.token] = hold
        self._marks[assignment.token] = kept.mark
        fault.reach("warden.took_over")

    def _find_leader(self, kept: _Kept, assignment: Assignment) -> Leader | None:
        """The child that a keeper started and had no time to note; None if it started none.

        Living or not, it is our child now, because nobody has reaped it. It and all that it left bear its keeper's
        mark, and of these it was born first. A command that has put its mark away may be any child that bears no
        mark of ours: raises LookupError if that leaves a doubt, and then the attempt has no holder any more.
        """
        known = {*self._keepers, *(hold.pid for hold in self._holds.values())}
        children = [c for c in process.all_processes() if c.parent == os.getpid() and c.pid not in known]
        marks = {child.pid: process.mark_of(child.pid) for child in children}
        others = self._marks_but(kept.mark)
        candidates = [
            child
            for child in children
            if marks[child.pid] == kept.mark
            or (marks[child.pid] not in others and process.token_of(child.pid) in (None, assignment.token))
        ]
        if not candidates:
            return None
        eldest = process.eldest(candidates)
        if marks[eldest.pid] != kept.mark:
            raise LookupError(f"process {eldest.pid} bears no mark of ours and may be its command")
        # Its keeper died within the instant after the start, so it has started just now.
        return Leader(eldest.pid, eldest.start_ticks, time.time_ns(), assignment.deadline())

    def _marks_but(self, mark: int) -> set[int]:
        """The marks of all other keepers, living or dead, below which there may be processes."""
        keepers = [kept.mark for kept in (*self._keepers.values(), *self._bereft)]
        return {*keepers, *self._marks.values()} - {mark}

    def _advance(self) -> None:
        for token, hold in list(self._holds.items()):
            record = hold.advance()
            if record is not None:
                del self._holds[token], self._marks[token]
                self._tell_watchers(token, {"op": "ended", "token": token, "record": record})
                self._watchers.pop(token, None)
            elif (news := hold.take_news()) is not None:
                self._tell_watchers(token, news)

    def _tell_watchers(self, token: str, message: Message) -> None:
        for descriptor in list(self._watchers.get(token, ())):
            self._tell(descriptor, message)

    def adopted(self, token: str, leader: int) -> list[process.ProcessStat]:
        """The living processes of a held attempt.

        A child of ours belongs to the attempt of its session, else of the mark it was born with. One that shows
        neither (it has put its mark away) is counted when only one attempt is held.
        """
        table = process.living_processes()
        # Children in the table may be those of keepers that died only now; they must be known as their own.
        self._collect_keepers()
        mark = self._marks[token]
        leaders = {hold.pid for hold in self._holds.values()} - {leader}
        others = self._marks_but(mark)
        roots = []
        for child in table:
            if child.parent != os.getpid() or child.pid in self._keepers or child.session in leaders:
                continue
            borne = mark if child.session == leader else process.mark_of(child.pid)
            if borne == mark or (borne not in others and not leaders):
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
    """Become a warden. `argv`: the descriptor of its listening socket, how many files a command may have open,
    and the directory for other sockets, by which a census knows whose it is.
    """
    # The service waits for this process only, so it gets neither a child to reap nor a zombie.
    if os.fork():
        os._exit(0)
    process.reset_signals()
    process.limit_descriptors(int(sys.argv[2]))
    # Its number may be above that limit, below which a keeper closes what it does not need.
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        listener = inherited.dup()
    Warden(listener, sys.argv[3]).run()


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except FileNotFoundError:
        # Somebody tidied up. Nobody else's directory can be at this place: making it fails if there is one.
        os.mkdir(os.path.dirname(path), 0o700)
        listener.bind(path)


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
