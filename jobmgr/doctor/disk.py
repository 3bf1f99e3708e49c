"""Judges the disks that database and work directory lie on."""

from __future__ import annotations

from jobmgr.doctor.amount import in_bytes
from jobmgr.doctor.facts import Place, Trouble
from jobmgr.domain.checkup import Check, ok, problem, unchecked, warning
from jobmgr.monitor import GB, Space

# Below the first nothing can be relied on to be written; below the second it soon may be so.
_FULL_BYTES, _SCARCE_BYTES = GB // 20, GB
_FULL_INODES, _SCARCE_INODES = 1_000, 20_000


def judge_space(name: str, space: Space | Trouble) -> Check:
    """Whether there is room for what is going to be written."""
    if isinstance(space, Trouble):
        return unchecked(name, space.reason)
    found = f"{in_bytes(space.free_bytes)} of {in_bytes(space.total_bytes)} free"
    if space.inodes_free is not None:
        found += f", {space.inodes_free} files more"
    remedy = "delete what is not needed, or move to a larger disk"
    if space.free_bytes < _FULL_BYTES or _is_below(space, _FULL_INODES):
        return problem(name, found, remedy)
    if space.free_bytes < _SCARCE_BYTES or _is_below(space, _SCARCE_INODES):
        return warning(name, found, remedy)
    return ok(name, found)


def _is_below(space: Space, inodes: int) -> bool:
    return space.inodes_free is not None and space.inodes_free < inodes


def judge_work(path: str, place: Place | Trouble) -> Check:
    """Whether attempts can run there."""
    name = "work directory"
    other = "make it writable for this user, or choose another with --work-dir"
    if isinstance(place, Trouble):
        return problem(name, f"{path} cannot be looked at: {place.reason}", other)
    if isinstance(place.decides_once, Trouble):
        return problem(name, f"{path} cannot be used: {place.decides_once.reason}", other)
    local = "choose one on a local disk with --work-dir"
    if not place.decides_once:
        return problem(name, f"{path}: its file system links a second file over the first", local)
    if place.is_network:
        return problem(name, f"{path} lies on a network file system ({place.file_system})", local)
    if not place.exists:
        return warning(name, f"{path} is not there yet", "run `jobmgr serve`, which makes it")
    return ok(name, f"{path} on {place.file_system or 'a file system of unknown type'}")
