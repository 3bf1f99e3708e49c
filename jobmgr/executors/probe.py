"""Whether a work directory lets an attempt be decided there: files can be written, and linked once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def decides_once(directory: Path) -> bool:
    """Whether of two links with one name the second is refused, as gates need it; tried on files of our own.

    Raises OSError if nothing can be written there or links are not known at all.
    """
    with tempfile.TemporaryDirectory(dir=directory, prefix=".jobmgr-doctor-") as own:
        first, second, name = (os.path.join(own, part) for part in ("first", "second", "name"))
        for path in (first, second):
            Path(path).write_bytes(b" " * 4096)
        os.link(first, name)
        try:
            os.link(second, name)
        except FileExistsError:
            return Path(name).samefile(first)
        return False
