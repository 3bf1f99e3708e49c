from __future__ import annotations

import fcntl
import subprocess
import threading
from pathlib import Path

import pytest

from benchmarks.peers import environment
from benchmarks.skip import Skipped


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_peer_that_cannot_be_installed_is_skipped_with_what_pip_said(cache: Path) -> None:
    with pytest.raises(Skipped, match="no-such-peer"):
        environment.make("peer", [("--no-index", "no-such-peer")])

    # Nothing says that it is there, so the next run tries again.
    assert not list(cache.glob("*/peer/stamp"))


def test_environment_of_a_peer_is_made_once_and_by_one_at_a_time(cache: Path) -> None:
    python = environment.make("peer", [])
    (python.parent / "installed").touch()
    made: list[Path] = []
    other = threading.Thread(target=lambda: made.append(environment.make("peer", [])))

    with python.parents[1].with_name("peer.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        other.start()
        other.join(0.2)
        waits = not made
    other.join(60)

    assert waits
    assert made == [python]
    assert python.is_relative_to(cache)
    assert (python.parent / "installed").exists()
    subprocess.run([str(python), "-c", ""], check=True)
