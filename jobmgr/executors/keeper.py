"""A keeper: starts one command at a time, holds it to its end, and writes its exit record.

It is forked from the warden, adopts the orphans of its command, and serves whichever service connects to its
socket. Without a service it carries on with the command it has, and ends after it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Mapping

from jobmgr import fault
from jobmgr.executors import command, gate, process
from jobmgr.executors.hold import Hold, exit_record, log, note_down, publish
from jobmgr.executors.messages import Message, Peer
from jobmgr.executors.note import Assignment, Leader, Note, Status

LINGER_S = 2.0  # How long a keeper without command and service waits for a service.
FIRST_GREETING_S = 15.0  # And for its first one, which may be busy with hundreds of others.
# A command that ends within this time is told to the service in one go: one wake-up less on both sides.
_TELL_AFTER_S = 0.02


class Keeper:
    """The loop of one keeper process. `holder` is what its gates say about it."""

    def __init__(self, listener: socket.socket, note: Note, holder: Message) -> None:
        self._listener = listener
        self._note = note
        self._holder = holder
        self._peer: Peer | None = None
        self._base_env: Mapping[str, str] = {}
        self._walltime_grace_s = 0.0
        self._leftover_grace_s = 0.0
        self._hold: Hold | None = None
        self._told_start = False
        self._hears_children = False
        self._alone_since = time.monotonic() + FIRST_GREETING_S - LINGER_S
        self._poll = select.poll()
        self._wakeup = -1

    def run(self) -> None:
        """Serve until there is neither a command nor a service."""
        process.adopt_orphans()
        self._job_token = process.PrivateText("job-token")
        self._wakeup = process.wake_on_child()
        # Blocked except while a long command runs, see process.await_child.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        self._listener.settimeout(0)
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(self._wakeup, select.POLLIN)
        os.chdir("/")
        try:
            while not self._is_over():
                for descriptor, _ in self._poll.poll(self._timeout_ms()):
                    self._serve(descriptor)
                self._advance()
        finally:
            with contextlib.suppress(OSError):
                os.unlink(self._holder["socket"])

    def _is_over(self) -> bool:
        if self._hold is not None or self._peer is not None:
            return False
        return time.monotonic() >= self._alone_since + LINGER_S

    def _timeout_ms(self) -> float | None:
        if self._hold is not None:
            due = self._hold.wake_at()
        else:
            due = None if self._peer is not None else self._alone_since + LINGER_S
        return process.poll_timeout_ms(due)

    def _serve(self, descriptor: int) -> None:
        if descriptor == self._wakeup:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 4096)
        elif descriptor == self._listener.fileno():
            self._accept()
        elif self._peer is not None and descriptor == self._peer.fileno:
            messages = self._peer.receive()
            if messages is None:
                self._hang_up()
            else:
                for message in messages:
                    self._obey(message)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if process.peer_uid(connection) != os.getuid():
            connection.close()
            return
        self._hang_up()  # The newer service knows more: it has adopted the older one's attempts.
        self._peer = Peer(connection)
        self._poll.register(self._peer.fileno, select.POLLIN)

    def _hang_up(self) -> None:
        if self._peer is None:
            return
        self._poll.unregister(self._peer.fileno)
        self._peer.close()
        self._peer = None
        # An idle keeper serves nobody now; a new service forks its own.
        self._alone_since = time.monotonic() - (LINGER_S if self._hold is None else 0.0)

    def _obey(self, message: Message) -> None:
        operation = message["op"]
        if operation == "start":
            self._start(message)
        elif operation == "hello":
            self._base_env = message["env"]
            self._walltime_grace_s = message["walltime_grace_s"]
            self._leftover_grace_s = message["leftover_grace_s"]
        elif operation == "attach":
            self._attach(message["token"])
        elif self._hold is not None and self._hold.token == message.get("token"):
            self._collect()  # A leader that ended by itself before this moment did end by itself.
            self._hold.obey(message)

    def _attach(self, token: str) -> None:
        if self._hold is None or self._hold.token != token:
            self._tell({"op": "unknown", "token": token})
        else:
            self._tell(self._hold.attach())
            self._told_start = True

    def _start(self, order: Message) -> None:
        token: str = order["token"]
        if self._hold is not None:
            self._tell(_refused(token))
            return
        nonce = os.urandom(8).hex()
        assignment = Assignment(
            order["control"],
            token,
            nonce,
            order["walltime_s"],
            self._walltime_grace_s,
            self._leftover_grace_s,
        )
        try:
            order["env"].update(self._token_variable(order.get("job_token")))
            self._note.assign(assignment)
            fault.reach("keeper.assigned")
            self._pass_and_spawn(order, assignment)
        except (OSError, ValueError) as error:
            self._note.clear()
            self._tell(_not_started(token, order["control"], error))

    def _pass_and_spawn(self, order: Message, assignment: Assignment) -> None:
        """Take all space on disk, pass the gate, start the command.

        Raises OSError or ValueError, and then the command never starts: an attempt has its files or does not run.
        What is wrong with the command itself shows after the gate and becomes its exit record.
        """
        space = gate.ExitSpace(assignment.control, assignment.nonce)
        fault.reach("keeper.reserved")
        outputs: list[int] = []
        try:
            outputs.append(command.open_output(order["run"] + "/stdout"))
            outputs.append(command.open_output(order["run"] + "/stderr"))
            fault.reach("keeper.opened")
            mine = gate.pass_gate(assignment.control, assignment.token, assignment.nonce, self._holder)
        except (OSError, ValueError):
            _close(outputs)
            space.drop()
            raise
        if not mine:
            _close(outputs)
            space.drop()
            self._note.clear()
            self._tell(_refused(assignment.token))
            return
        self._note.passed()
        fault.reach("keeper.passed")
        try:
            self._spawn(order, assignment, space, outputs[0], outputs[1])
        except command.SpawnFailed as failure:
            error = {"code": failure.code, "message": failure.message}
            record = publish(space, exit_record(assignment.token, Status(None, None), error=error))
            self._finish(assignment.token, record)
        finally:
            _close(outputs)

    def _spawn(
        self, order: Message, assignment: Assignment, space: gate.ExitSpace, stdout: int, stderr: int
    ) -> None:
        env = {**self._base_env, **order["env"]}
        started_at_ns = time.time_ns()
        pid, start_ticks = command.start(order["command"], env, order["cwd"], stdout, stderr)
        fault.reach("keeper.spawned")
        leader = Leader(pid, start_ticks, started_at_ns, assignment.deadline())
        self._note.running(leader)
        self._told_start = False
        self._hold = Hold(assignment, leader, _Descendants(), space, self._note)
        # On disk too: should warden and keeper both die, the next service still finds the process by this.
        note_down(space, self._hold.started)
        fault.reach("keeper.noted")
        process.await_child(_TELL_AFTER_S)
        self._advance()
        if self._hold is not None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
            self._hears_children = True

    def _token_variable(self, job_token: str | None) -> Mapping[str, str]:
        if job_token is None:
            return {}
        # The command before is gone, with all that it left behind.
        self._job_token.write(job_token)
        return {process.JOB_TOKEN_VARIABLE: self._job_token.path}

    def _collect(self) -> None:
        for child in process.exited_children():
            if self._hold is None:
                process.reap(child.pid)
            elif child.pid == self._hold.pid:
                self._hold.leader_exited(child)
            else:
                self._hold.child_exited(child.pid)

    def _advance(self) -> None:
        if self._hold is None:
            return
        self._collect()
        record = self._hold.advance()
        if record is not None:
            self._finish(self._hold.token, record, self._hold.started)
        elif not self._told_start and self._peer is not None:
            self._told_start = True
            self._tell(self._hold.started)
            fault.reach("keeper.told_start")
        elif (news := self._hold.take_news()) is not None:
            self._tell(news)

    def _finish(self, token: str, record: Message, started: Message | None = None) -> None:
        self._note.clear()
        self._hold = None
        if self._hears_children:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
            self._hears_children = False
        self._alone_since = time.monotonic()
        ended = {"op": "ended", "token": token, "record": record}
        if started is None or self._told_start:
            self._tell(ended)
        else:
            self._tell(started, ended)
        fault.reach("keeper.told_end")

    def _tell(self, *messages: Message) -> None:
        if self._peer is not None and not self._peer.send(*messages):
            self._hang_up()


class _Descendants:
    """A keeper has one command at a time, so whatever runs below it belongs to that command."""

    def members(self) -> list[process.ProcessStat]:
        return process.descendants()

    def is_gone(self) -> bool:
        return not process.has_children()


def _refused(token: str, trouble: str | None = None) -> Message:
    """Who hears this looks at the gate; `trouble` is why this keeper could not decide it."""
    return {"op": "refused", "token": token, "trouble": trouble}


def _not_started(token: str, control: str, error: Exception) -> Message:
    """Void the gate, so that it says what is told here; where it says or may say otherwise, refuse.

    A full disk takes no void gate. It takes no other either: an error of this kind means that none was linked.
    """
    log(f"attempt {token} was not started: {error}")
    number = getattr(error, "errno", None)
    trouble = None
    try:
        is_void = gate.void(control, token, str(error))
    except (OSError, ValueError) as failure:
        log(f"the gate of attempt {token} cannot be voided: {failure}")
        is_void = number in gate.DISK_FULL
        trouble = f"a keeper could not decide the gate of an attempt: {failure}"
    if not is_void:
        return _refused(token, trouble)
    return {"op": "not_started", "token": token, "errno": number, "message": str(error)}


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
