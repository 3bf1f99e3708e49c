"""Recorded answers of schedulers, as a dialect gets them."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from jobmgr.dialects.dialect import Answer

_DATA = Path(__file__).parent.parent / "data"
_PARTS = re.compile(r"# --+ stdout\n(.*)^# --+ stderr\n?(.*)", re.DOTALL | re.MULTILINE)
_TIMED_OUT = 124  # what `timeout` ends with, which the recordings were made with


def answer(scheduler: str, name: str) -> Answer:
    """What a recorded command answered."""
    text = (_DATA / scheduler / f"{name}.txt").read_text(errors="surrogateescape")
    code = re.search(r"^# rc=(\d+)", text, re.MULTILINE)
    parts = _PARTS.search(text)
    assert code is not None
    assert parts is not None
    stderr = re.sub(r"\n(?:real|user|sys)\t\S+", "", parts[2])
    return Answer(None if int(code[1]) == _TIMED_OUT else int(code[1]), parts[1], stderr.lstrip("\n"))


def slurm_answer(name: str) -> Answer:
    """What a command of SLURM answered, as `record_slurm` wrote it down."""
    kept = json.loads((_DATA / "slurm" / f"{name}.json").read_text())
    return Answer(kept["exit_code"], kept["stdout"], kept["stderr"])


def full_text(name: str) -> Answer:
    """The recorded `qstat -f -F json` as `qstat -f` prints it. A test holds this against both recordings of one job."""
    recorded = answer("pbs", name)
    jobs = json.loads(recorded.stdout, strict=False).get("Jobs", {})
    text = "".join(f"Job Id: {job}\n{_facts(facts)}\n" for job, facts in jobs.items())
    return Answer(recorded.exit_code, text, recorded.stderr)


def _facts(facts: dict[str, Any]) -> str:
    return "".join(_line(key, value) for key, value in facts.items())


def _line(key: str, value: Any) -> str:
    if isinstance(value, dict) and key != "Variable_List":
        return "".join(_line(f"{key}.{part}", each) for part, each in value.items())
    if isinstance(value, dict):
        value = ",".join(f"{name}={each}" for name, each in value.items())
    return "\n\t".join(_folded(f"    {key} = {value}")) + "\n"


def _folded(line: str) -> list[str]:
    """Somewhere, as qstat does, also within words."""
    return (
        textwrap.wrap(line, 78, drop_whitespace=False, break_on_hyphens=False) if len(line) > 79 else [line]
    )
