"""Where measurements keep their files."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path


def new_directory() -> Path:
    """An empty directory that is there until the whole run ends.

    Nothing is removed earlier: ext4 does not reuse inodes for up to five minutes after they were freed, and
    looks for a free one past all of these meanwhile, which makes each new file up to ten times as expensive.
    """
    directory = Path(tempfile.mkdtemp(prefix="jobmgr-benchmark-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
