"""The shell text that holds an attempt at a site: passes its gate, runs its command, records how that ended.

It is the keeper of places where no keeper of ours is: POSIX sh with `ln`, `cat`, `rm`, `date`, `od`, `tr` and
`uname`, and the protocol of docs/exactly-once.md. What the scheduler thinks of the job decides nothing; gate and
record do. A shell cannot tell a command that was killed by signal 9 from one that exited with 137: the record has
the number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources

from jobmgr.dialects import quoting
from jobmgr.domain.environment import Environment

# How the script of a run ends that was not let through the gate, and no other script.
REFUSED = 119
# An element that is not to run: what describes it ends the run that reads it.
WITHDRAWN = f"exit {REFUSED}\n"

_TEXTS = resources.files("jobmgr.dialects")
GATE = _TEXTS.joinpath("gate.sh").read_text()
_HOLDER = _TEXTS.joinpath("holder.sh").read_text()

# A line that looks for what defines `module`, if nothing does yet.
FIND_MODULE = (
    "command -v module >/dev/null 2>&1 ||"
    ' for _jm_init in "${LMOD_PKG-}/init/sh" "${MODULESHOME-}/init/sh" /etc/profile.d/lmod.sh'
    " /etc/profile.d/modules.sh /usr/share/lmod/lmod/init/sh /usr/share/modules/init/sh; do"
    ' if [ -r "$_jm_init" ]; then . "$_jm_init" && break; fi; done'
)


@dataclass(frozen=True, slots=True)
class Element:
    """One attempt as its script knows it. Paths are absolute, of the site."""

    site: str
    control: str
    run: str
    token: str
    command: tuple[str, ...]
    env: Environment = field(default_factory=dict)
    cwd: str | None = None
    modules: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()


def describe(element: Element) -> str:
    """Shell text that says which attempt it is, and how it starts; a script begins with it, or reads it.

    Raises InvalidRequest for an environment that no shell can set.
    """
    values = {
        "site": element.site,
        "control": element.control,
        "run_dir": element.run,
        "token": element.token,
        "cwd": element.cwd or element.run,
    }
    told = "".join(f"_jm_{name}={quoting.word(value)}\n" for name, value in values.items())
    return f"{told}_jm_start() {{\n{_start(element)}}}\n"


def _start(element: Element) -> str:
    parts = []
    if element.modules:
        parts.append(f"    {FIND_MODULE}\n")
        parts.extend(f"    module load {quoting.word(name)} || exit 1\n" for name in element.modules)
    if element.setup:
        # As data of `eval`: a mistake in it is the job's, not the script's. What cannot be read never gets to its end.
        lines = "\n".join([*element.setup, "_jm_is_set_up=1"])
        parts.append(f"    eval {quoting.word(lines)}\n")
        parts.append('    [ -n "${_jm_is_set_up-}" ] || exit 1\n')
    parts.append(quoting.exports(element.env))
    parts.append(f"    _jm_run {quoting.words(element.command)}\n")
    return "".join(parts)


def reading(directory: str, index_word: str) -> str:
    """Shell text that reads which of the elements described in `directory` it is, each in a file with its index."""
    return f'. {quoting.word(directory)}/"{index_word}"\n'


def body(told: str, *, id_word: str, restarts_word: str) -> str:
    """The script of the attempt that `told` describes; the words are how a run knows itself."""
    known = f'_jm_id="{id_word}" _jm_restarts="{restarts_word or 0}" _jm_refused={REFUSED}\n'
    return f"{told}{known}\n{GATE}\n{_HOLDER}"
