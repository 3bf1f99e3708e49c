"""What jobs leave in their run directories leads nowhere else, and blocks nobody."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from yarl import URL

from jobmgr.errors import FileMissing, InvalidRequest
from jobmgr.transports.local_directory import LocalDirectory
from tests.api.conftest import Api
from tests.security.guards import CHECKED_PATH, CONFINED, LOOKED_AT, OPENED, REGULAR, rests_on

SECRET = "the secret of the house"


async def raw(api: Api, path: str) -> tuple[int, bytes]:
    """GET `path` exactly as it is written."""
    async with api.session.get(URL(api.url + path, encoded=True)) as response:
        return response.status, await response.read()


@rests_on(CHECKED_PATH, CONFINED)
async def test_a_path_does_not_climb_out(api: Api, tmp_path: Path) -> None:
    job = await api.run("mkdir", "x")
    (api.manager.parts.runs / job.job_id / "secret").write_text(SECRET)
    (tmp_path / "secret").write_text(SECRET)
    climbing = [f"{dots}secret" for dots in ("..%2F", "%2e%2e%2f", "%2E%2E/", ".%2e%2F", "x%2F..%2F..%2F")]
    absolute = [f"{slash}{str(tmp_path)[1:]}/secret" for slash in ("%2F", "%2F%2F", ".%2F%2F")]

    for path in (*climbing, *absolute):
        status, body = await raw(api, f"/api/v1/jobs/{job.job_id}/files/{path}")

        assert SECRET.encode() not in body, path
        assert status in (404, 422), path


@rests_on(CONFINED)
async def test_a_link_leads_nowhere_else(api: Api, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    script = (
        f"ln -s {secret} direct; ln -s {tmp_path} tree; ln -s direct chain; ln -s ../../../../../../..{secret} up; "
        f"ln -s /proc/self/cwd cwd; ln -s /proc/self/root{secret} magic; mkdir in; ln -s ../tree in/deep"
    )
    job = await api.run("sh", "-c", script)
    paths = ("direct", "tree/secret", "chain", "up", "magic", "in/deep/secret")

    for path in paths:
        status, body = await raw(api, f"/api/v1/jobs/{job.job_id}/files/{path}")
        assert SECRET.encode() not in body, path
        assert status == 404, path


@rests_on(CONFINED)
async def test_a_run_directory_that_became_a_link_is_not_followed(api: Api, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "stdout").write_text(SECRET)
    job = await api.run(
        "sh", "-c", f'mv "$JOBMGR_RUN_DIR" {tmp_path}/gone; ln -s {elsewhere} "$JOBMGR_RUN_DIR"'
    )

    for path in ("logs/stdout", "files/stdout"):
        status, body = await raw(api, f"/api/v1/jobs/{job.job_id}/{path}")
        assert SECRET.encode() not in body
        assert status == 404


@rests_on(CONFINED)
async def test_names_of_somebody_elses_files_are_not_listed(api: Api) -> None:
    anns = await api.run("touch", "her-files", job_id="anns")
    runs = api.manager.parts.runs
    zoes = await api.run("sh", "-c", f"mv {runs}/zoes {runs}/gone; ln -s anns {runs}/zoes", job_id="zoes")

    status, body = await raw(api, f"/api/v1/jobs/{zoes.job_id}/files")

    assert b"her-files" in (await raw(api, f"/api/v1/jobs/{anns.job_id}/files"))[1]
    assert b"her-files" not in body
    assert status == 404


@rests_on(OPENED)
async def test_a_directory_that_becomes_a_link_while_it_is_opened_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, outside = tmp_path / "runs" / "job" / "1", tmp_path / "outside"
    for folder, text in ((run / "folder", "harmless"), (outside, SECRET)):
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)
    is_file = Path.is_file

    def look_and_swap(path: Path) -> bool:
        # The worst moment: what was looked at is harmless, and is opened next.
        found = is_file(path)
        (run / "folder").rename(run / "kept")
        (run / "folder").symlink_to(outside)
        return found

    monkeypatch.setattr(Path, "is_file", look_and_swap)
    with pytest.raises(FileMissing, match="leads out of the run directory"):
        await (await LocalDirectory(str(run)).open("folder/file")).aclose()


@rests_on(CHECKED_PATH)
async def test_a_path_does_not_end_before_its_end(tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("harmless")
    try:
        await (await LocalDirectory(str(tmp_path)).open("seen\0unseen")).aclose()
    except InvalidRequest as refused:
        assert refused.field == "path"
    except ValueError as error:
        pytest.fail(f"{error}: this would be a bug of the service")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
        path.open("rb").close()
    except PermissionError:
        pytest.skip("only root makes devices, and not everywhere")


SPECIAL = pytest.mark.parametrize("make", [make_pipe, make_device])


@rests_on(LOOKED_AT, REGULAR)
@SPECIAL
async def test_what_is_no_file_is_not_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "special")

    with pytest.raises(FileMissing):
        await (await LocalDirectory(str(tmp_path)).open("special")).aclose()


@rests_on(REGULAR)
@SPECIAL
async def test_a_file_that_becomes_none_while_it_is_opened_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "special")
    # The worst moment: a file was looked at, which is none when it is opened.
    monkeypatch.setattr(Path, "is_file", lambda _path: True)

    with pytest.raises(FileMissing, match="is not a regular file"):
        await (await LocalDirectory(str(tmp_path)).open("special")).aclose()


@rests_on(REGULAR)
@SPECIAL
async def test_what_is_no_file_is_not_listed(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "special")

    assert await LocalDirectory(str(tmp_path)).listing() == []
