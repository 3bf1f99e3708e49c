"""PyEDB 0.64.0's job manager, unchanged, in an environment of its own: its programs and what is written with it."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.service import ROOT, python

BACKEND = "pyedb.workflows.job_manager.backend"
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Original:
    """Its programs and scripts run in `directory`, with `root` as the installation of ANSYS."""

    interpreter: Path
    directory: Path
    root: Path

    def program(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One of its modules as a program, to its end."""
        return self._run([f"{BACKEND}.{name}", *arguments])

    def script(self, text: str, *arguments: str) -> Any:
        """What a user wrote with it: Python that prints one line of JSON last."""
        file = self.directory / "written_with_the_original.py"
        file.write_text(textwrap.dedent(text))
        done = self._run([file.stem, *arguments], {"PYTHONPATH": f"{ROOT}{os.pathsep}{self.directory}"})
        assert done.returncode == 0, done
        return json.loads(done.stdout.splitlines()[-1])

    def start_script(self, text: str, *arguments: str) -> subprocess.Popen[str]:
        """The same, running; its output and its input are pipes."""
        file = self.directory / "running_with_the_original.py"
        file.write_text(textwrap.dedent(text))
        return subprocess.Popen(
            [str(self.interpreter), str(file), *arguments],
            cwd=self.directory,
            env=self._environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _run(
        self, arguments: list[str], more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            python("benchmarks.peers.pyedb_package", *arguments, interpreter=self.interpreter),
            cwd=self.directory,
            env=self._environment(more or {}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        # Of its own users: nothing of ours, and one installation of ANSYS.
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("JOBMGR_", "ANSYSEM_"))
        }
        return {**kept, "PYTHONPATH": str(ROOT), "ANSYSEM_ROOT252": str(self.root), **more}
