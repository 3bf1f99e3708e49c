"""The file with the token of the service's owner: made for nobody else, and not trusted if anybody else may know it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from jobmgr.api import owner_token
from jobmgr.errors import StoreError, UnsafeFile


def readable_by_all(path: Path) -> None:
    path.write_text("s3cret")
    path.chmod(0o644)


def writable_by_the_group(path: Path) -> None:
    path.write_text("s3cret")
    path.chmod(0o620)


def a_link(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_text("s3cret")
    target.chmod(0o600)
    path.symlink_to(target)


def a_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def empty(path: Path) -> None:
    path.touch(mode=0o600)


def two_lines(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_text("s3cret\nmore")


def somebody_elses(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_text("s3cret")
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(path, 12345, 12345)


def test_token_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "home" / "token"
    before = os.umask(0)

    try:
        first = owner_token.read(path)
    finally:
        os.umask(before)

    assert len(first) == 43
    assert owner_token.read(path) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["token"]


def test_services_that_start_at_once_have_one_token(tmp_path: Path) -> None:
    found: list[str] = []
    gate = threading.Barrier(8)

    def start() -> None:
        gate.wait()
        found.append(owner_token.read(tmp_path / "token"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


def test_token_of_ones_own_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("my own token\n")

    assert owner_token.read(path) == "my own token"


@pytest.mark.parametrize(
    "spoil",
    [readable_by_all, writable_by_the_group, a_link, a_fifo, empty, two_lines, somebody_elses],
    ids=lambda spoil: spoil.__name__,
)
def test_token_that_others_may_know_is_refused_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "token"
    spoil(path)
    before = path.lstat()

    with pytest.raises(UnsafeFile) as refused:
        owner_token.read(path)

    assert str(path) in str(refused.value)
    assert "delete it" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    after = path.lstat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (
        before.st_ino,
        before.st_mode,
        before.st_mtime_ns,
    )


def test_token_that_has_no_place_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"the state directory .* cannot be made: .*JOBMGR_HOME"):
        owner_token.read(tmp_path / "file" / "home" / "token")
