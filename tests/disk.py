"""A disk of its own that can be filled; only root can mount one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BLOCK = b"\0" * 4096


class SmallDisk:
    """A small file system in memory, mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Take all space that is left, to the last block."""
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(_BLOCK) == len(_BLOCK):
                pass

    def free(self) -> None:
        """Give it back."""
        self._ballast.unlink()


@contextmanager
def mounted(path: Path, size_mb: int) -> Iterator[SmallDisk]:
    """Mount one at `path`; skips the test where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "none", str(path)]
    made = subprocess.run(mount, capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"mount: {made.stderr!r}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
