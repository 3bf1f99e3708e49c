"""The installed package: it brings its migrations along."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_UPGRADE = """
import asyncio, jobmgr
from jobmgr.store import schema
from jobmgr.store.engine import Database

async def upgrade():
    database = Database("sqlite:///jobs.db")
    print(await database.upgrade())
    await database.read(schema.check)
    await database.close()

print(jobmgr.__file__)
print(schema.migrations_directory())
asyncio.run(upgrade())
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with what the wheel installs; this package has no code that runs at installation."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("jobmgr-*.whl")
    folder = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_installed_wheel_upgrades_a_database_in_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", _UPGRADE],
        cwd=empty,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    package, migrations, said = done.stdout.splitlines()
    assert Path(package).parent == installed / "jobmgr"
    assert Path(migrations) == installed / "jobmgr" / "migrations"
    assert said.startswith("the schema is at revision")
    assert (empty / "jobs.db").exists()
