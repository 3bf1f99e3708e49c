"""Logs and files over REST: bytes, in pieces, without ever holding much of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.api.conftest import Api, eventually

BYTES = bytes(range(256)) * 4


async def write_log(api: Api, data: bytes, tmp_path: Path) -> str:
    """Run a job that writes `data`; answers the address of its log."""
    source = tmp_path / "source"
    source.write_bytes(data)
    job = await api.run("cat", str(source))
    return f"/api/v1/jobs/{job.job_id}/logs/stdout"


async def test_bytes_come_as_they_were_written(api: Api, tmp_path: Path) -> None:
    log = await write_log(api, BYTES, tmp_path)

    answer = await api.get(log)

    assert (answer.status, answer.body) == (200, BYTES)
    assert answer.headers["Content-Type"] == "text/plain"
    assert (answer.headers["X-Log-Offset"], answer.headers["X-Log-Size"]) == ("0", "1024")


async def test_window_of_a_log(api: Api, tmp_path: Path) -> None:
    log = await write_log(api, BYTES, tmp_path)

    async def window(query: str) -> tuple[bytes, str]:
        answer = await api.get(f"{log}?{query}")
        assert (answer.status, answer.headers["X-Log-Size"]) == (200, "1024")
        return answer.body, answer.headers["X-Log-Offset"]

    assert await window("offset=10&limit=5") == (BYTES[10:15], "10")
    assert await window("offset=1020") == (BYTES[1020:], "1020")
    assert await window("offset=1024") == (b"", "1024")
    assert await window("offset=9999999999999") == (b"", "9999999999999")
    assert await window(f"offset={2**63 - 1}") == (b"", str(2**63 - 1))


async def test_tail_of_a_log(api: Api, tmp_path: Path) -> None:
    log = await write_log(api, b"".join(b"line %d\n" % number for number in range(20_000)), tmp_path)

    answer = await api.get(f"{log}?tail=2")
    many = await api.get(f"{log}?tail=15000")
    capped = await api.get(f"{log}?tail=15000&limit=7")

    assert answer.body == b"line 19998\nline 19999\n"
    assert int(answer.headers["X-Log-Offset"]) == int(answer.headers["X-Log-Size"]) - len(answer.body)
    assert many.body.startswith(b"line 5000\n")
    assert capped.body == b" 19999\n"


async def test_large_window_of_a_log_is_all_there(api: Api, tmp_path: Path) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(400_000))
    log = await write_log(api, lines, tmp_path)

    window = await api.get(f"{log}?offset=7&limit=3000000")
    tail = await api.get(f"{log}?tail=300000&limit=16777216")
    capped = await api.get(f"{log}?tail=300000&limit=2000000")
    part = await api.get(log, headers={"Range": "bytes=-2500000"})
    head = await api.request("HEAD", f"{log}?limit=3000000")

    assert (window.body, window.headers["X-Log-Offset"]) == (lines[7:3000007], "7")
    assert tail.body == lines[lines.index(b"line 100000\n") :]
    assert int(tail.headers["X-Log-Offset"]) == len(lines) - len(tail.body)
    assert capped.body == lines[-2_000_000:]
    assert (part.status, part.body) == (206, lines[-2_500_000:])
    assert part.headers["Content-Range"] == f"bytes {len(lines) - 2_500_000}-{len(lines) - 1}/{len(lines)}"
    assert (head.headers["Content-Length"], head.body) == ("3000000", b"")


@pytest.mark.parametrize(
    ("asked", "expected", "content_range"),
    [
        ("bytes=0-3", BYTES[:4], "bytes 0-3/1024"),
        ("bytes=1000-", BYTES[1000:], "bytes 1000-1023/1024"),
        ("bytes=-24", BYTES[-24:], "bytes 1000-1023/1024"),
        ("bytes=-5000", BYTES, "bytes 0-1023/1024"),
        ("bytes=1000-5000", BYTES[1000:], "bytes 1000-1023/1024"),
    ],
)
async def test_range_of_logs_and_files(
    api: Api, tmp_path: Path, asked: str, expected: bytes, content_range: str
) -> None:
    log = await write_log(api, BYTES, tmp_path)

    for path in (log, log.replace("/logs/", "/files/")):
        answer = await api.get(path, headers={"Range": asked})
        assert (answer.status, answer.body) == (206, expected)
        assert answer.headers["Content-Range"] == content_range


async def test_range_outside_is_refused_and_tells_the_size(api: Api, tmp_path: Path) -> None:
    log = await write_log(api, BYTES, tmp_path)

    for path in (log, log.replace("/logs/", "/files/")):
        for asked in ("bytes=1024-", "bytes=99999-100000", "bytes=-0"):
            answer = await api.get(path, headers={"Range": asked})
            answer.problem(416, "range_outside")
            assert answer.headers["Content-Range"] == "bytes */1024"


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "lines=0-3", "bytes=0-1,4-5", "bytes=", "bytes=-", "bytes=a-b", "x"]
)
async def test_range_that_is_none_is_ignored(api: Api, tmp_path: Path, asked: str) -> None:
    log = await write_log(api, BYTES, tmp_path)

    answer = await api.get(log, headers={"Range": asked})

    assert (answer.status, answer.body) == (200, BYTES)


async def test_huge_log_is_read_in_pieces_of_bounded_size(api: Api) -> None:
    job = await api.run("truncate", "-s", "3G", "big")
    before = psutil.Process().memory_info().rss

    path = f"/api/v1/jobs/{job.job_id}/files/big"
    async with api.session.get(api.url + path) as response:
        assert response.content_length == 3 * 1024**3
        await response.content.readexactly(64 * 1024**2)
        response.close()
    part = await api.get(path, headers={"Range": f"bytes={3 * 1024**3 - 10}-"})

    assert part.body == bytes(10)
    assert psutil.Process().memory_info().rss - before < 100 * 1024**2


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("limit=0", "limit"),
        ("limit=999999999", "limit"),
        ("tail=0", "tail"),
        ("tail=1&offset=0", "tail"),
        ("attempt=0", "attempt"),
        ("attempt=x", "attempt"),
        ("lines=1", "lines"),
    ],
)
async def test_parameter_that_does_not_fit_is_named(api: Api, query: str, field: str) -> None:
    job_id = await api.submit("true", draft=True)

    (await api.get(f"/api/v1/jobs/{job_id}/logs/stdout?{query}")).problem(422, "invalid_request", field)


async def test_log_of_a_job_that_has_not_run_is_missing(api: Api) -> None:
    job_id = await api.submit("true", draft=True)

    (await api.get(f"/api/v1/jobs/{job_id}/logs/stdout")).problem(404, "file_not_found")
    (await api.get(f"/api/v1/jobs/{job_id}/logs/other")).problem(404, "no_such_route")


async def test_log_of_an_attempt_there_was_not_is_missing(api: Api) -> None:
    job = await api.run("true")

    assert (await api.get(f"/api/v1/jobs/{job.job_id}/logs/stdout?attempt=1")).status == 200
    (await api.get(f"/api/v1/jobs/{job.job_id}/logs/stdout?attempt=2")).problem(404, "file_not_found")


async def test_log_grows_while_the_job_runs(api: Api, tmp_path: Path) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    job_id = await api.submit("sh", "-c", f"printf one; cat {go} >/dev/null; printf two")
    path = f"/api/v1/jobs/{job_id}/logs/stdout"

    async def first() -> Any:
        answer = await api.get(path)
        return answer.status == 200 and answer.body == b"one"

    await eventually(first)
    go.write_text("")
    await api.manager.wait(job_id, 20)

    rest = await api.get(f"{path}?offset=3")
    assert (rest.body, rest.headers["X-Log-Size"]) == (b"two", "6")


async def test_files_are_listed_and_downloaded(api: Api) -> None:
    name = 'a b"c\n;é.csv'
    job = await api.run("sh", "-c", 'mkdir -p deep && printf hello > "deep/$1" && printf x > top', "sh", name)

    files = (await api.get(f"/api/v1/jobs/{job.job_id}/files")).json["files"]
    answer = await api.get(f"/api/v1/jobs/{job.job_id}/files/deep/{quote(name)}")

    sizes = {entry["path"]: entry["size_bytes"] for entry in files}
    assert sizes == {f"deep/{name}": 5, "stderr": 0, "stdout": 0, "top": 1}
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{quote(name, safe='')}"


async def test_file_is_not_answered_with_its_compressed_twin(api: Api) -> None:
    job = await api.run("sh", "-c", "printf plain > result.csv; printf other > result.csv.gz")

    answer = await api.get(f"/api/v1/jobs/{job.job_id}/files/result.csv", headers={"Accept-Encoding": "gzip"})

    assert answer.body == b"plain"


async def test_only_regular_files_of_the_run_directory_are_served(api: Api, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    job = await api.run("sh", "-c", f"ln -s {secret} link; ln -s / root; mkfifo pipe; mkdir folder")
    base = f"/api/v1/jobs/{job.job_id}/files"

    for path in ("link", "root/etc/passwd", "pipe", "folder", "nothing", "stdout/x"):
        answer = await api.get(f"{base}/{path}")
        assert answer.status == 404, path
        assert b"secret" not in answer.body.replace(str(secret).encode(), b"")
    for path in ("..%2F..%2Fsecret", "%2Fetc%2Fpasswd", "a%00b", "..%2Fstdout"):
        async with api.session.get(f"{api.url}{base}/{path}") as response:
            assert response.status in (404, 422), path
    listed = (await api.get(base)).json["files"]
    assert {entry["path"] for entry in listed} == {"stdout", "stderr"}


async def test_what_cannot_be_looked_at_is_missing(api: Api) -> None:
    script = "ln -s b a; ln -s a b; mkdir shut; touch shut/in old; touch -d @999999999999 late; chmod 0 shut"
    job = await api.run("sh", "-c", f"{script}; touch -d @-99999999999 old")
    base = f"/api/v1/jobs/{job.job_id}/files"

    for name in ("a", "a/x", "x" * 300, "x/" * 3000 + "x", "stdout/x"):
        (await api.get(f"{base}/{name}")).problem(404, "file_not_found")
    listed = await api.get(base)
    shut = await api.get(f"{base}/shut/in")

    assert listed.status == 200
    # Which dates a file can have differs between file systems.
    assert {"late", "old", "stdout"} <= {entry["path"] for entry in listed.json["files"]}
    # Nothing is shut to root.
    assert shut.status == (200 if os.getuid() == 0 else 404)


async def test_head_of_a_file_tells_its_size(api: Api, tmp_path: Path) -> None:
    log = await write_log(api, BYTES, tmp_path)

    for path in (log, log.replace("/logs/", "/files/")):
        answer = await api.request("HEAD", path)
        assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "1024", b"")
