from pathlib import Path

import pytest
import sqlalchemy as sa

from jobmgr.errors import StoreError
from jobmgr.store import durability
from jobmgr.store.engine import Database

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb1 /home/ada/scratch xfs rw 0 0
server:/share /mnt/my\\040share cifs rw 0 0
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table of mounts with network file systems in it."""
    file = tmp_path / "mounts"
    file.write_text(MOUNTS)
    return file


@pytest.mark.parametrize("path", ["/home/ada/jobs.db", "/mnt/my share/jobs.db"])
def test_a_database_on_a_network_file_system_is_refused(mounts: Path, path: str) -> None:
    with pytest.raises(StoreError, match="network file system"):
        durability.check_file(Path(path), mounts)


@pytest.mark.parametrize("path", ["/var/jobs.db", "/home/ada/scratch/jobs.db", "/homes/jobs.db"])
def test_a_database_on_a_local_disk_is_fine(mounts: Path, path: str) -> None:
    durability.check_file(Path(path), mounts)


async def test_a_server_that_may_forget_is_refused(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    await database.start()
    try:
        await database.read(durability.check_server)
        with pytest.raises(StoreError, match="synchronous_commit"):
            await database.read(_check_with_commits_off)
    finally:
        await database.close()


def _check_with_commits_off(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
    durability.check_server(connection)
