from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.service import ROOT


@pytest.mark.timeout(300)  # pip and a service start, on a machine that may be busy
def test_run_writes_its_figures_and_names_a_peer_that_cannot_be_installed(tmp_path: Path) -> None:
    result = tmp_path / "figures.json"
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    options = ["--quick", "--only", "latency", "--peers", "huey", "--json", str(result)]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *options],
        cwd=ROOT,
        env={**os.environ, **nowhere, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    document = json.loads(result.read_text())
    assert [figure["goal"] for figure in document["figures"]] == ["≤ 4", "≤ 20"]
    assert all(figure["ratio"] == figure["value"] / figure["limit"] > 0 for figure in document["figures"])
    assert list(document["skipped"]) == ["huey"]
    assert "huey was skipped: " in done.stdout
    assert "No matching distribution found for huey" in done.stdout
