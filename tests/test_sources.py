"""What no line of ours does: let a shell read what a job says, run data, or write values into SQL."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import jobmgr

_PACKAGE = Path(jobmgr.__file__).parent
_NEVER_CALLED = {
    "eval", "exec", "compile", "os.system", "os.popen", "pty.spawn", "subprocess.getoutput", "pickle.load",
    "subprocess.getstatusoutput", "pickle.loads", "marshal.load", "marshal.loads", "asyncio.create_subprocess_shell",
}  # fmt: skip
_TAKES_SQL = {"text", "exec_driver_sql", "literal_column"}
# Names that stand in SQL where no value can be bound; all are constants of ours.
_PASTED = {
    ("integrity.py", "PRAGMA {pragma}({_COMPLAINTS_MAX})"), ("durability.py", "SHOW {setting}"),
    ("server.py", "SHOW {name}"), ("attempts.py", "({PAUSING})"), ("attempts.py", "({UNTOLD})"),
    ("claims.py", "({ASKING})"), ("simulations.py", "'{LOCAL}'"),
    (
        "schema.py",
        (
            "SELECT set_config('lock_timeout', current_setting('statement_timeout'), true), "
            "set_config('statement_timeout', '{int(_UPGRADE_S)}s', true)"
        ),
    ),
}  # fmt: skip


def _calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Every call: the name of its file, what is called, and how."""
    for file in sorted(_PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                yield file.name, ast.unparse(node.func), node


def _pasted(call: ast.Call) -> Iterator[str]:
    for argument in call.args:
        if isinstance(argument, ast.JoinedStr):
            yield ast.unparse(argument)[2:-1]


def test_nothing_is_run_that_somebody_wrote_and_no_value_is_written_into_sql() -> None:
    called, by_shells, pasted = [], [], set()
    for file, name, call in _calls():
        called += [(file, name)] if name in _NEVER_CALLED else []
        by_shells += [(file, name) for keyword in call.keywords if keyword.arg == "shell"]
        if name.rpartition(".")[2] in _TAKES_SQL:
            pasted |= {(file, text) for text in _pasted(call)}

    assert called == []
    assert by_shells == []
    assert pasted == _PASTED
