"""Which projects lie in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_NOT_ENTERED = (".aedb", ".aedtresults")


def find(folder: Path, *, recursive: bool) -> list[Path]:
    """The projects in `folder`, and below it if `recursive`, sorted: files .aedt and directories .aedb.

    Of an .aedb and an .aedt of the same name in the same place the .aedt is meant, which refers to the other. Links to
    folders are not followed, folders that may not be read are passed over.
    """
    return sorted(_below(folder, recursive=recursive))


def _below(folder: Path, *, recursive: bool) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        parent = Path(place)
        designs = [parent / name for name in files if name.lower().endswith(".aedt")]
        layouts = [parent / name for name in folders if name.lower().endswith(".aedb")]
        stems = {design.stem for design in designs}
        yield from designs
        yield from (layout for layout in layouts if layout.stem not in stems)
        folders[:] = [name for name in folders if recursive and not name.lower().endswith(_NOT_ENTERED)]
