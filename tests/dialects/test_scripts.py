"""Every script that is handed in is one for a shell, whatever a job asks for, and does nothing but what it is to do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jobmgr.dialects import holder
from jobmgr.dialects.dialect import Dialect, Order
from jobmgr.domain.resources import Resources
from jobmgr.errors import InvalidRequest
from jobmgr.executors import gate
from tests.dialects import shell
from tests.dialects.everyone import DIALECTS

_TOKEN = "0123456789abcdef"
ORDER = Order("jm-0123abcd", "echo body\n", "/dev/null", "/dev/null", "/")

_PLAIN: dict[str, Any] = {
    "cpus": 2, "memory_bytes": 2**30, "gpus": 1, "gpu_type": "a100", "walltime_s": 90.0, "nodes": 2, "tasks": 4,
    "partition": "long", "account": "lab", "qos": "high", "memory_per_cpu_bytes": 2**20, "reservation": "booked",
    "constraint": "arch=linux", "exclusive": True, "licenses": ("ansys:2",), "mail_to": "me@x.org",
    "mail_on": ("begin", "end"), "modules": ("ansys/2026",), "setup": ("ulimit -c 0",),
}  # fmt: skip
_NEEDED = {"gpu_type": ("gpus",), "mail_to": ("mail_on",), "gpus": ("nodes",), "memory_bytes": ("nodes",)}
# What a shell, or a reader of directives, could take for something else.
_TRAPS = (
    "x;touch canary", "x\ntouch canary\n", "$(touch canary)", "`touch canary`", "' ; touch canary ; '", "x'y", 'x"y',
    '" ; touch canary ; "', "x\n#SBATCH --wrap=true", "x\n#BSUB -H", "x\n#PBS -h", "|touch canary", "x>canary",
    ">canary", "x&touch canary", "x\rtouch canary", "(", "if", "<<E", "x\\", "a&b|c(d)[e]*", "[x|y]&z", "arch=linux",
    "ncpus>8", "a,b", "héllo", "x y", "-x", "x #y", "x\u2028touch canary", "x\x85y",
)  # fmt: skip
_NASTY = st.sampled_from(_TRAPS) | st.text(
    "ab1 \n\r\t;#$`'\"\\&|<>(){}[]*?!=%,:-_@/~^\x00\x1b\x85\u2028é", max_size=14
)
_ARGUMENTS = _NASTY.map(lambda text: text.replace("\0", ""))
_TEXTS = ("partition", "account", "qos", "reservation", "constraint", "mail_to", "gpu_type")
_DIRECTED = (*_TEXTS, "licenses")
_LISTS = ("licenses", "directives", "modules", "setup")


def _sayable(dialect: Dialect) -> list[str]:
    """What can be asked of this scheduler at all."""
    return [name for name in _PLAIN if _is_said(dialect, _asked([name]))]


def _asked(names: list[str]) -> Resources:
    wanted = {*names, *(needed for name in names for needed in _NEEDED.get(name, ()))}
    return Resources(**{name: _PLAIN[name] for name in wanted})


def _is_said(dialect: Dialect, resources: Resources) -> bool:
    try:
        dialect.script(replace(ORDER, resources=resources))
        dialect.submit("/w/script", replace(ORDER, resources=resources))
    except InvalidRequest:
        return False
    return True


_SAYABLE = {name: _sayable(dialect) for name, dialect in DIALECTS.items()}


@st.composite
def requests(draw: st.DrawFn, name: str) -> Resources:
    """Of what can be said some, and one thing perhaps in a way that nobody should follow."""
    resources = _asked(draw(st.lists(st.sampled_from(_SAYABLE[name]), max_size=4)))
    nasty = draw(st.none() | st.sampled_from([*_TEXTS, *_LISTS]))
    if nasty is None:
        return resources
    value: Any = (
        draw(_NASTY) if nasty in _TEXTS else tuple(draw(st.lists(_ARGUMENTS, min_size=1, max_size=2)))
    )
    return replace(resources, **{nasty: value})


def test_most_can_be_asked_of_every_scheduler() -> None:
    """Else the tests below would try nothing."""
    assert {name: len(sayable) for name, sayable in _SAYABLE.items()} == {
        "slurm": 19, "openpbs": 17, "torque": 12, "ibm": 18, "classic": 15, "windows_hpc": 12, "shell": 2,
    }  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
@settings(deadline=None, max_examples=60)  # each example starts two shells
@given(data=st.data())
def test_shells_can_read_the_whole_script(name: str, data: st.DataObject) -> None:
    """As an executor makes it: directives, gate, holder, and the job's own words."""
    dialect = DIALECTS[name]
    resources = data.draw(requests(name))
    nasty = st.lists(_ARGUMENTS, max_size=3)
    element = holder.Element(
        site="lab",
        control=f"/w/{data.draw(_ARGUMENTS)}",
        run="/w/r",
        token=_TOKEN,
        command=tuple(data.draw(nasty.filter(bool))),
        env={"A": data.draw(_ARGUMENTS), "B_1": data.draw(_ARGUMENTS)},
        cwd=data.draw(st.none() | _ARGUMENTS),
        modules=resources.modules,
        setup=resources.setup,
    )
    words = {"id_word": dialect.id_word, "restarts_word": dialect.restarts_word}
    order = replace(ORDER, body=holder.body(holder.describe(element), **words), resources=resources)
    try:
        script = dialect.script(order)
    except InvalidRequest as refused:
        assert refused.field
        return

    shell.insist_on_syntax(script)


_FILE_NAMES = _ARGUMENTS.filter(lambda text: text.strip(".") != "" and "/" not in text)
# Writes down what it was given; a NUL byte is in no argument.
_SHOW = ("/bin/sh", "-c", 'printf "%s\\0" "$A" "$@" >given')
_MODULE = """module() { printf '%s\\0' "$@" >>'{here}/loaded'; }\n"""


@pytest.mark.parametrize("name", DIALECTS)
# Each example runs an attempt; without shrinking, because what it was made of is printed.
@settings(deadline=None, max_examples=25, phases=[Phase.generate])
@given(data=st.data())
def test_shells_run_the_whole_script_and_nothing_that_is_only_named_in_it(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    here = tmp_path_factory.mktemp("attempt")
    work = here / data.draw(_FILE_NAMES)
    gate.make_with_run(str(work / "control"), str(work / "run"), _TOKEN)
    modules, arguments = (
        data.draw(st.lists(_ARGUMENTS, max_size=2)),
        data.draw(st.lists(_ARGUMENTS, max_size=2)),
    )
    value = data.draw(_ARGUMENTS)
    element = holder.Element(
        site="lab",
        control=str(work / "control"),
        run=str(work / "run"),
        token=_TOKEN,
        command=(*_SHOW, "sh", *arguments),
        env={"A": value},
        modules=tuple(modules),
    )
    script = _whole_script(name, element, here, data)
    if script is None:
        return

    done = _run(data.draw(st.sampled_from(shell.SHELLS)), script, here)

    record = gate.read_exit(str(work / "control"))
    assert record is not None, done
    assert (done.returncode, record["exit_code"], done.stdout, done.stderr) == (0, 0, b"", b"")
    assert _texts(work / "run" / "given") == [value, *arguments]
    assert _texts(here / "loaded") == [text for module in modules for text in ("load", module)]
    assert not [*here.rglob("canary")]


def _whole_script(name: str, element: holder.Element, here: Path, data: st.DataObject) -> str | None:
    """With directives that nobody should follow, if they are not refused; None if the body is."""
    dialect = DIALECTS[name]
    words = {"id_word": dialect.id_word, "restarts_word": dialect.restarts_word}
    body = holder.body(holder.describe(element), **words)
    plain = replace(ORDER, body=body, stdout=str(here / "out"), stderr=str(here / "err"), cwd=str(here))
    nasty = _nasty(name, plain, data)
    for order in (nasty, plain):
        try:
            return dialect.script(order)
        except InvalidRequest as refused:
            assert refused.field
    return None


def _nasty(name: str, order: Order, data: st.DataObject) -> Order:
    """With a text that nobody should follow in one of the places where this scheduler is told of one."""
    field = data.draw(st.sampled_from(["name", *(text for text in _DIRECTED if text in _SAYABLE[name])]))
    # What comes behind the end of its line is no comment for a shell.
    text = data.draw(_NASTY | _NASTY.map("x\n{}".format))
    if field == "name":
        return replace(order, name=text)
    value: Any = (text,) if field in _LISTS else text
    return replace(order, resources=replace(_asked([field]), **{field: value}))


def _run(program: str, script: str, here: Path) -> subprocess.CompletedProcess[bytes]:
    """As a node does, where a file of the site says what `module` is."""
    (here / "init").mkdir()
    (here / "init" / "sh").write_text(_MODULE.replace("{here}", str(here)))
    (here / "script").write_bytes(script.encode())
    environment = {"PATH": os.environ["PATH"], "MODULESHOME": str(here)}
    return subprocess.run(
        [program, str(here / "script")],
        cwd=here,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )


def _texts(file: Path) -> list[str]:
    """What was noted there, each with a NUL byte behind it."""
    return file.read_bytes().decode().split("\0")[:-1] if file.exists() else []


def _trapped(name: str, here: Path) -> Iterator[Order]:
    """Orders that have one trap each, in every place where text can stand."""
    order = replace(ORDER, stdout=str(here / "out"), stderr=str(here / "err"), cwd=str(here))
    for trap in _TRAPS:
        for field in (*_TEXTS, *_LISTS):
            base = _asked([known for known in _NEEDED.get(field, ()) if known in _SAYABLE[name]])
            values = (
                [trap]
                if field in _TEXTS
                else [(trap,), (f"--nice={trap}",), (f"-P {trap}",), (f"/priority:{trap}",)]
            )
            for value in values:
                change: dict[str, Any] = {field: value}
                yield replace(order, resources=replace(base, **change))
        for path in ("stdout", "stderr", "cwd"):
            yield replace(order, **{path: f"{here}/{trap}"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", DIALECTS)
def test_nothing_that_is_asked_for_is_run(name: str, tmp_path: Path) -> None:
    """What a scheduler reads in a script a shell takes for comments: beside the body it does nothing."""
    tried = 0
    for order in _trapped(name, tmp_path):
        try:
            script = DIALECTS[name].script(order)
        except InvalidRequest as refused:
            assert refused.field
            continue

        done = subprocess.run(["sh"], input=script, cwd=tmp_path, text=True, capture_output=True, check=False)
        tried += 1
        # A working directory that is not there is the end of the script.
        assert done.returncode == 0 or order.cwd != str(tmp_path), (order, done)
        assert done.stdout in ("body\n", ""), (order, done)
        assert not (tmp_path / "canary").exists(), order
    assert tried > 50
