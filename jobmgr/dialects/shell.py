"""A plain host: Linux, a POSIX shell, and nobody who queues, counts or remembers.

A job is a process that leads a session of its own and shows whose it is in its arguments: `sh SCRIPT MARK NAME`. Its
id is its pid, the tick at which it was born, and the boot: no other process ever has all three. Sources: proc(5) for
/proc/PID/stat and /proc/PID/cmdline, setsid(1) of util-linux, grep(1) of GNU for `-z`.

A job sees HOME, USER, LOGNAME, SHELL, PATH, LANG and TZ as the host gives them to a command of this user, and nothing
else of the process that submits. What has ended leaves nothing here: gate and record tell what became of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import assert_never

from jobmgr.dialects import quoting, request
from jobmgr.dialects.answers import number, printed, why, words
from jobmgr.dialects.dialect import (
    Answer,
    Command,
    Compliance,
    Doubtful,
    Listing,
    Node,
    NotUnderstood,
    Order,
    Partition,
    Phase,
    Refused,
    Standing,
    Submission,
    Submitted,
    Wish,
)
from jobmgr.errors import InvalidRequest

_MARK = "jobmgr-job"
# How long a cancelled job has for its end, before what it started is killed.
_GRACE_S = 10
_REFUSED = 3

# The fields of a line of /proc/PID/stat begin again after the name, which stands in parentheses and may hold anything.
_BORN = r"""
read -r boot </proc/sys/kernel/random/boot_id || exit 1
# born PID: sets `state` and `session`, and `ticks` to the tick of its birth; fails if there is none.
born() {
    read -r stat <"/proc/$1/stat" || return 1
    set -- ${stat##*") "}
    state=$1 session=$4 ticks=${20}
} 2>/dev/null
"""
# The shell that prints the id is the parent, so the process can be seen until it was read, also if it ends at once.
_SUBMIT = (
    _BORN
    + r"""
script=$1 name=$2 cwd=$3 out=$4 err=$5 mark=$6 refused=$7
refuse() {
    echo "$1" >&2
    exit "$refused"
}
command -v setsid >/dev/null || refuse 'there is no setsid on this host'
[ -r "$script" ] || refuse "$script cannot be read"
cd -- "$cwd" || refuse "$cwd cannot be entered"
true >>"$out" || refuse "$out cannot be written"
true >>"$err" || refuse "$err cannot be written"
set -- "HOME=$HOME" "PATH=$PATH" "USER=$(id -un)" "LOGNAME=$(id -un)"
[ -z "$SHELL" ] || set -- "$@" "SHELL=$SHELL"
[ -z "$LANG" ] || set -- "$@" "LANG=$LANG"
[ -z "$TZ" ] || set -- "$@" "TZ=$TZ"
# Whoever waits for the end of our output must not wait for the job.
setsid env -i "$@" sh "$script" "$mark" "$name" </dev/null >>"$out" 2>>"$err" 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
child=$!
born "$child" || exit 1
id=$child.$ticks.$boot
# Before it leads its session and has become the script's shell, a look would not know it.
tries=0
while [ "$tries" -lt 10000 ] && born "$child" && [ "$state" != Z ]; do
    { read -r program <"/proc/$child/comm"; } 2>/dev/null
    [ "$session" = "$child" ] && case $program in setsid | env) false ;; esac && break
    tries=$((tries + 1))
done
echo "$id"
"""
)
_SHOW = r"""
set -- $pids
echo "boot $boot"
for pid in "$@"; do
    born "$pid" && echo "stat $pid $state $session $ticks"
done
for pid in "$@"; do
    shift
    set -- "$@" "/proc/$pid/cmdline"
done
[ $# -eq 0 ] || grep -aHz '' "$@" 2>/dev/null | tr '\0' '\n'
echo end
"""
_LOOK = (
    _BORN
    + r"""
pids=
for id in "$@"; do pids="$pids ${id%%.*}"; done
"""
    + _SHOW
)
# What is looked for comes on standard input: as an argument it would find this shell and grep.
_FIND = (
    _BORN
    + r"""
pids=$(grep -lzxF -f - /proc/[0-9]*/cmdline 2>/dev/null | tr -dc '0-9\n')
"""
    + _SHOW
)
_TELL = (
    _BORN
    + r"""
word=$1 grace_s=$2
shift 2
for id in "$@"; do
    pid=${id%%.*}
    if ! born "$pid" || [ "$pid.$ticks.$boot" != "$id" ] || [ "$state" = Z ]; then
        echo "gone $id"
        continue
    fi
    case $word in
        suspend) kill -STOP "-$pid" ;;
        resume) kill -CONT "-$pid" ;;
        cancel) kill -TERM "-$pid" && kill -CONT "-$pid" ;;
    esac && echo "done $id" || echo "denied $id"
done
[ "$word" = cancel ] || exit 0
"""
)
# The leader is spared: it has to write down how the job ended.
_KILL = r"""
later=$(cat)
setsid sh -c "$later" sh "$grace_s" "$@" </dev/null >/dev/null 2>&1 &
"""
_KILL_LATER = (
    _BORN
    + r"""
sleep "$1"
shift
for id in "$@"; do
    leader=${id%%.*}
    born "$leader" && [ "$leader.$ticks.$boot" = "$id" ] || continue
    for entry in /proc/[0-9]*; do
        pid=${entry#/proc/}
        [ "$pid" != "$leader" ] && born "$pid" && [ "$session" = "$leader" ] && kill -KILL "$pid"
    done
done
"""
)
_DESCRIBE = r"""
uname -n && getconf _NPROCESSORS_ONLN && sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo
"""

_ID = re.compile(r"\d+\.\d+\.[0-9a-f-]{36}")
_STAT = re.compile(r"stat (\d+) (\S) (\d+) (\d+)")
_ARGUMENT = re.compile(r"/proc/(\d+)/cmdline:(.*)")
# A shell that is stopped in the instant of starting a program shows D until it goes on: then it is said to run.
_PHASES = {"T": Phase.SUSPENDED, "t": Phase.SUSPENDED, "Z": Phase.ENDED, "X": Phase.ENDED}
_REMEDY = "a plain host reserves and limits nothing; leave it away, or use a site with a scheduler"


class Shell:
    """The language of a host without a scheduler."""

    name = "shell"
    id_word = (
        "$$.$(read -r stat </proc/$$/stat && set -- ${stat##*') '} && echo ${20})"
        ".$(cat /proc/sys/kernel/random/boot_id)"
    )
    restarts_word = "0"
    index_word = "0"
    directory_variable = ""
    array_cap: int | None = None

    def probe(self) -> tuple[Command, ...]:
        """Nothing depends on the installation."""
        return ()

    def fitted(self, answers: Sequence[Answer]) -> Shell:  # noqa: ARG002 - there are none
        """See Dialect."""
        return self

    def element(self, id_: str, index: int) -> str:
        """There are no arrays here. Raises ValueError."""
        raise ValueError(f"{id_} has no element {index}")

    def array(self, id_: str) -> str:
        """See Dialect."""
        return id_

    def installation(self) -> str:
        """See Dialect."""
        return ""

    def check_options(self, options: Sequence[str]) -> None:
        """See Dialect."""
        if options:
            raise InvalidRequest(
                "resources.directives", "a plain host has no options of its own; leave it away"
            )

    def script(self, order: Order) -> str:
        """Only what the body itself does (modules, setup) can be asked for."""
        for field, value in order.resources.asked().items():
            if field not in {"modules", "setup", "directives"} and value is not False:
                raise InvalidRequest(f"resources.{request.asked_as(field)}", _REMEDY)
        self.check_options((*order.directives, *order.resources.directives))
        if order.is_held:
            raise InvalidRequest("hold", "a plain host starts what it gets; hold the job in jobmgr")
        if order.elements is not None:
            raise InvalidRequest("elements", "a plain host has no arrays; submit the jobs one by one")
        return f"#!/bin/sh\n{order.body}"

    def handed_in(self, path: str, order: Order) -> str:  # noqa: ARG002 - it is the script itself
        """See Dialect."""
        return self.script(order)

    def submit(self, path: str, order: Order) -> Command:
        """Start it, and answer at once."""
        name = quoting.directive(order.name, "name")
        return _command(_SUBMIT, path, name, order.cwd, order.stdout, order.stderr, _MARK, str(_REFUSED))

    def submitted(self, answer: Answer) -> Submission:
        """A process that was started has told its id, unless the way to us broke."""
        id_ = answer.stdout.strip()
        if answer.exit_code == 0 and _ID.fullmatch(id_):
            return Submitted(id_)
        told = words(answer, "the host")
        return Refused(told) if answer.exit_code == _REFUSED and not id_ else Doubtful(told)

    def find(self, names: Sequence[str]) -> tuple[Command, ...]:
        """Only who lives is found."""
        return (_command(_FIND, stdin="".join(f"{name}\n" for name in names)),)

    def found(self, names: Sequence[str], answers: Sequence[Answer]) -> Listing:
        """Complete with regard to the living."""
        listing = _listing(answers[0])
        return Listing(tuple(job for job in listing.jobs if job.name in names), listing.complete, listing.why)

    def look(self, ids: Sequence[str]) -> tuple[Command, ...]:
        """Look at these processes."""
        return (_command(_LOOK, *ids),)

    def seen(self, answers: Sequence[Answer]) -> Listing:
        """Who has ended is missing."""
        return _listing(answers[0])

    def ask(self, wish: Wish, ids: Sequence[str]) -> Command | None:
        """To the whole group of a job; what is left of a cancelled one after 10 s is killed, but not its leader."""
        match wish:
            case Wish.SUSPEND | Wish.RESUME:
                return _command(_TELL, wish.value, "0", *ids)
            case Wish.CANCEL:
                return _command(_TELL + _KILL, wish.value, str(_GRACE_S), *ids, stdin=_KILL_LATER)
            case Wish.HOLD | Wish.RELEASE:
                return None
            case _:
                assert_never(wish)

    def prioritise(self, priority: int, ids: Sequence[str]) -> Command | None:  # noqa: ARG002
        """All of them run already."""
        return None

    def complied(self, answer: Answer) -> Compliance:
        """The worst of what it says about several jobs."""
        said = {line.split(" ", 1)[0] for line in answer.stdout.splitlines()}
        if answer.exit_code != 0 or not said or not said <= {"done", "gone", "denied"}:
            return Compliance.DOUBTFUL
        if "denied" in said:
            return Compliance.REFUSED
        return Compliance.GONE if "gone" in said else Compliance.DONE

    def partitions(self) -> Command:
        """There are none, and nothing is asked."""
        return Command(("true",))

    def read_partitions(self, answer: Answer) -> tuple[Partition, ...]:
        """None, if the host answers."""
        printed(answer, "the host")
        return ()

    def nodes(self) -> Command:
        """The host itself."""
        return _command(_DESCRIBE)

    def read_nodes(self, answer: Answer) -> tuple[Node, ...]:
        """One, which is up because it answers."""
        name, *numbers = printed(answer, "the host").split() or [""]
        counts = [count for text in numbers if (count := number(text)) is not None]
        if not len(counts) == len(numbers) == 2:
            raise NotUnderstood(f"not a name, cores and memory: {answer.stdout[:200]!r}")
        cpus, kibibytes = counts
        node = Node(
            name=name, state="up", is_up=True, cpus=cpus, cpus_used=None,
            memory_bytes=kibibytes * 1024, gpus=None, partitions=(),
        )  # fmt: skip
        return (node,)

    def everything(self) -> Command:
        """List all jobs of all users whose processes can be seen."""
        return _command(_FIND, stdin=f"{_MARK}\n")

    def read_everything(self, answer: Answer) -> Listing:
        """What came of `everything`."""
        return _listing(answer)

    def version(self) -> Command:
        """Ask which system this is."""
        return Command(("uname", "-sr"))

    def read_version(self, answer: Answer) -> str | None:
        """Only Linux shows its processes as this needs it."""
        text = answer.stdout.strip()
        return text if answer.exit_code == 0 and text.startswith("Linux ") else None


def _command(text: str, *arguments: str, stdin: str = "") -> Command:
    return Command(("sh", "-c", text, "sh", *arguments), stdin)


def _listing(answer: Answer) -> Listing:
    lines = answer.stdout.splitlines()
    jobs = tuple(_jobs(lines))
    if answer.exit_code == 0 and lines[:1] != [] and lines[-1] == "end":
        return Listing(jobs, complete=True)
    return Listing(jobs, complete=False, why=why(answer, "the host"))


def _jobs(lines: Sequence[str]) -> Iterator[Standing]:
    """Leaders of sessions that bear the mark; what they have started has their arguments until it becomes itself."""
    boot = next((line.removeprefix("boot ") for line in lines if line.startswith("boot ")), "")
    arguments: dict[str, list[str]] = {}
    for line in lines:
        match = _ARGUMENT.fullmatch(line)
        if match is not None:
            arguments.setdefault(match[1], []).append(match[2])
    for line in lines:
        match = _STAT.fullmatch(line)
        if match is None:
            continue
        pid, state, session, ticks = match.groups()
        shown = arguments.get(pid, [])
        if pid == session and len(shown) >= 2 and shown[-2] == _MARK:
            yield Standing(f"{pid}.{ticks}.{boot}", shown[-1], _PHASES.get(state, Phase.RUNNING), state)
