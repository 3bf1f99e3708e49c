"""Commands under a local executor: what they get, and what is told about their end."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import stat
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from jobmgr.credential import Reference, Source
from jobmgr.errors import ExecutorUnavailable
from jobmgr.executors import gate, process
from jobmgr.executors.links import Link
from jobmgr.executors.protocol import RAN_BEFORE, Launch, Lost, NeverRan, Started
from tests.disk import SmallDisk, mounted

from .conftest import Service, Site, eventually


async def test_exit_code_is_reported(site: Site, service: Service) -> None:
    record = await service.run(site.shell("exit 3"))

    assert (record.exit_code, record.signal, record.error) == (3, None, None)
    assert record.ended_by == "self"
    assert record.leftovers == 0


async def test_death_by_signal_is_reported(site: Site, service: Service) -> None:
    record = await service.run(site.shell("kill -SEGV $$"))

    assert (record.exit_code, record.signal, record.error) == (None, signal.SIGSEGV, None)


async def test_started_comes_before_ended_and_names_the_process(site: Site, service: Service) -> None:
    launch = site.shell("echo $$; exit 0")

    record = await service.run(launch)

    started, ended = service.reports
    assert isinstance(started, Started)
    assert ended.token == launch.token
    pid = int(service.output(launch))
    assert started.handle.startswith(f"{pid}@{process.boot_id()}:")
    assert record.started_at == started.started_at
    assert record.started_at < record.ended_at


async def test_use_of_the_whole_tree_is_measured(site: Site, service: Service) -> None:
    program = "x = bytearray(200_000_000); print(sum(range(3_000_000)))"

    record = await service.run(site.shell(f"python3 -c '{program}'", env={"PATH": os.environ["PATH"]}))

    assert record.cpu_s is not None
    assert record.cpu_s > 0.01
    assert record.peak_memory_bytes is not None
    assert 200_000_000 < record.peak_memory_bytes < 600_000_000


async def test_command_runs_in_its_own_session_with_nothing_but_its_files(
    site: Site, service: Service
) -> None:
    launch = site.shell(
        "read -r line; echo $?; cut -d' ' -f6 /proc/$$/stat; echo $$; ls /proc/self/fd; echo oops >&2"
    )

    await service.run(launch)

    at_end, session, pid, *descriptors = service.output(launch).split()
    assert at_end == b"1"  # stdin is empty
    assert session == pid
    assert descriptors == [b"0", b"1", b"2", b"3"]  # 3 is ls reading the directory
    assert service.output(launch, "stderr") == b"oops\n"


async def test_signals_have_their_defaults(site: Site, service: Service) -> None:
    launch = site.shell("grep -E 'SigIgn|SigBlk' /proc/self/status")

    await service.run(launch)

    # 32 and 33 belong to the C library, which lets nobody change them; they stay as they were inherited.
    masks = [int(line.split()[1], 16) & ~0x1_8000_0000 for line in service.output(launch).splitlines()]
    assert masks == [0, 0]


async def test_run_directory_is_the_default_cwd(site: Site, service: Service) -> None:
    launch = site.shell("pwd; echo x > made")

    await service.run(launch)

    assert Path(os.fsdecode(service.output(launch).strip())) == service.run_dir(launch)
    assert (service.run_dir(launch) / "made").exists()


async def test_given_cwd_is_used(site: Site, service: Service, tmp_path: Path) -> None:
    launch = site.shell("pwd", cwd=str(tmp_path))

    await service.run(launch)

    assert service.output(launch) == os.fsencode(tmp_path) + b"\n"


async def test_environment_is_base_then_job_then_ours(site: Site) -> None:
    base = {"PATH": os.environ["PATH"], "A": "base", "B": "base", "JOBMGR_DATABASE": "x", "PGPASSWORD": "x"}
    service = await site.service(base_env=base, job_env=lambda: {"JOBMGR_URL": "http://here"})
    launch = site.launch_of("env", env={"B": "job", "JOBMGR_JOB_ID": "forged"}, job_id="right", number=7)

    await service.run(launch)

    assert dict(line.split("=", 1) for line in service.output(launch).decode().splitlines()) == {
        "PATH": os.environ["PATH"],
        "A": "base",
        "B": "job",
        "JOBMGR_JOB_ID": "right",
        "JOBMGR_ATTEMPT": "7",
        "JOBMGR_RUN_DIR": str(service.run_dir(launch)),
        "JOBMGR_URL": "http://here",
        "JOBMGR_ATTEMPT_TOKEN": launch.token,
        "PWD": str(service.run_dir(launch)),
    }


async def test_secrets_are_fetched_at_the_start(site: Site, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("of a file\n")
    service = await site.service(base_env={"PATH": os.environ["PATH"], "KEPT": "of the service", "A": "base"})
    env = {
        "A": Reference(Source.FILE, f"{tmp_path}/key"),
        "B": Reference(Source.ENV, "KEPT"),
        "C": "plain",
    }
    launch = site.shell('echo "$A, $B, $C"', env=env)

    await service.run(launch)

    assert service.output(launch) == b"of a file, of the service, plain\n"


async def test_each_attempt_fetches_its_secrets_anew(site: Site, service: Service, tmp_path: Path) -> None:
    key = tmp_path / "key"
    env = {"A": Reference(Source.FILE, str(key))}
    key.write_text("first")
    before = site.shell('echo "$A"', env=env)
    await service.run(before)
    key.write_text("second")
    after = site.shell('echo "$A"', env=env)
    await service.run(after)

    assert (service.output(before), service.output(after)) == (b"first\n", b"second\n")


async def test_attempt_whose_secret_cannot_be_had_never_runs_and_keeps_no_other_back(
    site: Site, service: Service, tmp_path: Path
) -> None:
    env = {"KEY": Reference(Source.FILE, f"{tmp_path}/missing")}
    without, plain = site.shell("true", env=env), site.shell("true")

    await service.executor.launch([without, plain])

    report = await service.final(without)
    assert isinstance(report, NeverRan)
    assert report.error is not None
    assert report.error.code == "secret_unavailable"
    assert report.error.message.startswith(f"env.KEY: the secret file:{tmp_path}/missing cannot be had: ")
    assert (await service.record(plain)).exit_code == 0
    assert gate.void(str(service.control(without)), without.token, "to see")


async def test_secret_of_the_service_itself_is_not_lent(site: Site) -> None:
    service = await site.service(base_env={"PATH": os.environ["PATH"], "PGPASSWORD": "x"})
    launch = site.shell("true", env={"A": Reference(Source.ENV, "PGPASSWORD")})

    await service.executor.launch([launch])

    report = await service.final(launch)
    assert isinstance(report, NeverRan)
    assert report.error is not None
    assert report.error.code == "secret_unavailable"


async def test_command_finds_the_token_of_its_job_and_no_other_user_may_read_it(site: Site) -> None:
    service = await site.service(job_token=lambda launch: f"jmj_{launch.job_id}")
    script = 'cat "$0"; sh -c \'cat "$0"\' "$0"; stat -Lc %a "$0"'.replace("$0", "$JOBMGR_JOB_TOKEN_FILE")
    first, second = (site.shell(f"echo $({script})", job_id=name) for name in ("a-long-name", "b"))

    # One after the other, so by the same keeper.
    await service.run(first)
    await service.run(second)

    assert service.output(first) == b"jmj_a-long-name jmj_a-long-name 400\n"
    assert service.output(second) == b"jmj_b jmj_b 400\n"
    written = [path.read_bytes() for path in site.work.rglob("*") if path.is_file() and path.name != "stdout"]
    assert not any(b"jmj_" in content for content in written)


async def test_another_user_does_not_read_the_token_of_a_job(site: Site) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    service = await site.service(job_token=lambda launch: f"jmj_{launch.job_id}")
    launch = site.shell('echo "$JOBMGR_JOB_TOKEN_FILE"; exec sleep 60')
    await service.executor.launch([launch])
    await service.started(launch)
    path = await eventually(lambda: service.output(launch).decode().strip())

    read = await asyncio.create_subprocess_exec(
        "cat", path, user="nobody", group="nogroup", extra_groups=[], stdout=PIPE, stderr=PIPE
    )
    out, complaint = await read.communicate()

    await service.executor.cancel(launch.token, 1.0)
    await service.final(launch)
    assert (read.returncode, out) == (1, b"")
    assert b"Permission denied" in complaint


async def test_command_without_a_token_is_not_told_of_one(site: Site) -> None:
    service = await site.service()
    launch = site.shell('echo "${JOBMGR_JOB_TOKEN_FILE-unset}"')

    await service.run(launch)

    assert service.output(launch) == b"unset\n"


@pytest.mark.parametrize("base", [{}, {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}])
@pytest.mark.parametrize("env", [{}, {"CUDA_VISIBLE_DEVICES": "7"}])
async def test_gpus_of_an_attempt_win_over_base_and_job(
    site: Site, base: dict[str, str], env: dict[str, str]
) -> None:
    service = await site.service(base_env={"PATH": os.environ["PATH"], **base})
    with_gpus = site.shell('echo "${CUDA_VISIBLE_DEVICES-unset}"', env=env, gpus=("2", "GPU-a"))
    without = site.shell('echo "${CUDA_VISIBLE_DEVICES-unset}"', env=env)

    await service.run(with_gpus)
    await service.run(without)

    untouched = {**base, **env}.get("CUDA_VISIBLE_DEVICES", "unset")
    assert service.output(with_gpus) == b"2,GPU-a\n"
    assert service.output(without).decode() == f"{untouched}\n"


async def test_keepers_carry_no_secrets(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBMGR_DATABASE", "postgresql://user:secret@host/db")
    service = await site.service()

    await service.run(site.shell(":"))

    assert len(site.holders()) == 2
    assert not any("secret" in environment for environment in map(_environment, site.holders()))


def _environment(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


@pytest.mark.parametrize(
    ("command", "code", "hint"),
    [
        (("no-such-program",), "program_not_found", "PATH"),
        (("/no/such/program",), "program_not_found", "/no/such/program"),
        (("./plain",), "not_executable", "chmod +x"),
        (("/tmp",), "not_executable", "directory"),
        (("./no-shebang",), "not_executable", "#!/bin/sh"),
        (("./lost-interpreter",), "program_not_found", "first line"),
        (("",), "program_not_found", "''"),
        ((), "program_not_found", "''"),
        (("/bin/echo", "a\0b"), "spawn_failed", "null"),
        (("/bin/echo", "x" * 200_000), "arguments_too_long", "file"),
        (("/bin/true", *["x" * 100_000] * 100), "arguments_too_long", "file"),
    ],
)
async def test_command_that_cannot_start_ends_with_its_reason(
    site: Site, service: Service, tmp_path: Path, command: tuple[str, ...], code: str, hint: str
) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "no-shebang").write_text("echo hi\n")
    (tmp_path / "no-shebang").chmod(0o755)
    (tmp_path / "lost-interpreter").write_text("#!/no/interpreter\n")
    (tmp_path / "lost-interpreter").chmod(0o755)

    record = await service.run(site.launch_of(*command, cwd=str(tmp_path)))

    assert record.error is not None
    assert record.error.code == code
    assert hint in record.error.message
    assert (record.exit_code, record.signal, record.started_at) == (None, None, None)


@pytest.mark.parametrize("cwd", ["/no/such/directory", "/bin/sh"])
async def test_missing_cwd_ends_the_attempt(site: Site, service: Service, cwd: str) -> None:
    record = await service.run(site.shell(":", cwd=cwd))

    assert record.error is not None
    assert record.error.code == "cwd_not_found"
    assert cwd in record.error.message


async def test_keeper_works_on_after_a_command_that_could_not_start(site: Site, service: Service) -> None:
    await service.run(site.launch_of("no-such-program"))
    record = await service.run(site.shell("exit 4"))

    assert record.exit_code == 4
    assert len(site.holders()) == 2  # the warden and one keeper


async def test_program_is_looked_up_in_the_path_of_the_job(
    site: Site, service: Service, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory, mode in ((first, 0o644), (second, 0o755)):
        directory.mkdir()
        (directory / "tool").write_text(f"#!/bin/sh\necho {directory.name}\n")
        (directory / "tool").chmod(mode)
    launch = site.launch_of("tool", env={"PATH": f"{first}:{second}"})

    await service.run(launch)

    assert service.output(launch) == b"second\n"


async def test_large_environment_and_undecodable_arguments_arrive(site: Site, service: Service) -> None:
    env = {f"V{number}": "x" * 100_000 for number in range(12)}
    launch = site.launch_of(
        "/bin/sh", "-c", 'printf %s "$V3" | wc -c; printf %s "$1"', "sh", "\udcff\udcfe", env=env
    )

    await service.run(launch)

    assert service.output(launch) == b"100000\n\xff\xfe"


async def test_message_of_ten_megabytes_is_understood(site: Site, service: Service) -> None:
    launch = site.launch_of("/bin/true", *["x" * 100_000] * 100)

    record = await service.run(launch)

    assert record.error is not None  # more than Linux takes, but it arrived and was tried
    assert record.error.code == "arguments_too_long"


async def test_message_that_no_keeper_accepts_is_a_clean_not_started(site: Site, service: Service) -> None:
    launch = site.launch_of("/bin/true", "x" * 70_000_000)

    await service.executor.launch([launch])

    report = await service.final(launch)
    assert isinstance(report, NeverRan)
    assert report.error is not None
    assert report.error.code == "arguments_too_long"


async def test_output_is_kept_as_bytes(site: Site, service: Service) -> None:
    launch = site.shell(r"printf '\377\000\n\200'")

    await service.run(launch)

    assert service.output(launch) == b"\xff\x00\n\x80"


async def test_much_output_costs_no_memory(site: Site, service: Service) -> None:
    launch = site.shell("head -c 200000000 /dev/zero; exec sleep 60")
    await service.executor.launch([launch])

    await service.started(launch)
    await eventually(lambda: (service.run_dir(launch) / "stdout").stat().st_size == 200_000_000)

    keeper = service.holder(launch)["pid"]
    assert _peak_memory_bytes(keeper) < 40_000_000
    await service.executor.cancel(launch.token, 1.0)
    await service.record(launch)
    (service.run_dir(launch) / "stdout").unlink()


async def test_control_directory_is_private(site: Site, service: Service) -> None:
    launch = site.shell(":")

    await service.run(launch)

    assert stat.S_IMODE(service.control(launch).stat().st_mode) == 0o700
    assert sorted(path.name for path in service.control(launch).iterdir()) == ["exit", "gate", "token"]


async def test_attempt_of_another_database_is_not_run(site: Site, service: Service) -> None:
    ran = site.shell("echo first", job_id="same")
    await service.run(ran)
    again = site.shell("echo second", job_id="same")

    await service.executor.launch([again])

    assert await service.final(again) == Lost(again.token, RAN_BEFORE)
    assert service.output(ran) == b"first\n"


async def test_launching_twice_runs_once(site: Site, service: Service) -> None:
    launch = site.shell("echo ran")
    await service.run(launch)

    await service.executor.launch([launch])

    await eventually(lambda: len(service.finals()) == 2)
    assert service.finals()[0] == service.finals()[1]
    assert service.output(launch) == b"ran\n"


async def test_work_directory_that_cannot_be_written_starts_nothing(site: Site, service: Service) -> None:
    launch = site.shell(":", job_id="blocked")
    (site.work / "control" / "blocked").write_text("a file where a directory should be")

    await service.executor.launch([launch])

    report = await service.final(launch)
    assert isinstance(report, NeverRan)
    assert report.error is not None
    assert report.error.code == "work_dir_unwritable"


def made(service: Service, launch: Launch) -> Path:
    """The run directory of an attempt that was prepared before: one of another attempt would be put aside."""
    gate.make_with_run(str(service.control(launch)), str(service.run_dir(launch)), launch.token)
    return service.run_dir(launch)


async def test_run_directory_that_cannot_be_written_voids_the_gate(site: Site, service: Service) -> None:
    launch = site.shell(":", job_id="blocked")
    (made(service, launch) / "stdout").mkdir()

    await service.executor.launch([launch])

    report = await service.final(launch)
    assert isinstance(report, NeverRan)
    assert report.error is not None
    assert report.error.code == "work_dir_unwritable"
    decision = gate.read(str(service.control(launch)))
    assert decision is not None
    assert decision["decision"] == "void"


@pytest.mark.parametrize("in_the_way", ["runs/blocked/1/stdout/directory", "runs/blocked"])
async def test_gate_that_somebody_passed_is_not_told_as_never_ran(
    site: Site, service: Service, in_the_way: str
) -> None:
    launch = site.shell(":", job_id="blocked")
    holder = {"host": process.host(), "boot_id": "earlier", "pid_ns": "n", "pid": 1, "start_ticks": 2}
    where = {**holder, "socket": "/s", "warden": {"pid": 3, "start_ticks": 4, "socket": "/w"}}
    gate.make(str(service.control(launch)), launch.token)
    assert gate.pass_gate(str(service.control(launch)), launch.token, "nonce", where)
    (site.work / in_the_way).parent.mkdir(parents=True, exist_ok=True)
    (site.work / in_the_way).write_text("a file where a directory should be")

    await service.executor.launch([launch])

    assert isinstance(await service.final(launch), Lost)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with mounted(tmp_path / "small", size_mb=1) as disk:
        yield disk


@pytest_asyncio.fixture
async def small_site(small_disk: SmallDisk) -> AsyncIterator[Site]:
    site = Site(small_disk.path / "work")
    yield site
    await site.close()


async def test_full_disk_is_a_clean_not_started(small_site: Site, small_disk: SmallDisk) -> None:
    site = small_site
    service = await site.service()
    warm = site.shell(":")
    await service.run(warm)
    small_disk.fill()
    launch = site.shell("echo ran")

    await service.executor.launch([launch])

    report = await service.final(launch)
    assert isinstance(report, NeverRan)
    assert report.error is not None
    assert report.error.code == "disk_full"
    assert not (service.run_dir(launch) / "stdout").exists() or service.output(launch) == b""
    small_disk.free()
    assert (await service.run(site.shell("exit 5"))).exit_code == 5


async def test_disk_that_fills_while_the_command_runs_loses_no_outcome(small_site: Site) -> None:
    service = await small_site.service()

    record = await service.run(small_site.shell("cat /dev/zero > big; exit 6"))

    assert record.exit_code == 6


async def test_long_work_directory_path_works(deep_site: Site) -> None:
    service = await deep_site.service()
    launch = deep_site.shell("exit 8")

    record = await service.run(launch)

    assert record.exit_code == 8
    sockets = Path(service.holder(launch)["socket"]).parent
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700


@pytest_asyncio.fixture
async def deep_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        site = Site(tmp_path / ("d" * 100) / ("e" * 100) / "work")
        yield site
        await site.close()


def _peak_memory_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


@pytest.mark.parametrize("kind", ["fifo", "link"])
async def test_what_is_planted_as_output_is_not_opened(
    site: Site, service: Service, tmp_path: Path, kind: str
) -> None:
    launch = site.shell("echo ran")
    victim = tmp_path / "victim"
    victim.write_text("")
    run = made(service, launch)
    if kind == "fifo":
        os.mkfifo(run / "stdout")
    else:
        (run / "stdout").symlink_to(victim)

    await service.executor.launch([launch])

    report = await service.final(launch)
    assert isinstance(report, NeverRan)
    assert report.error is not None
    assert report.error.code == "work_dir_unwritable"
    assert victim.read_text() == ""


async def test_what_is_planted_as_log_of_the_keepers_is_not_waited_for(site: Site) -> None:
    site.work.mkdir(exist_ok=True)
    os.mkfifo(site.work / "keepers.log")

    async with asyncio.timeout(20):
        with pytest.raises(ExecutorUnavailable, match=r"keepers\.log"):
            await site.service()


async def test_new_warden_does_not_disturb_keepers_at_work(site: Site, service: Service) -> None:
    launch = site.shell("sleep 1; exit 4")
    await service.executor.launch([launch])
    await service.started(launch)
    for path in (site.work / "sockets").iterdir():
        os.utime(path, (1, 1))
    link = service.executor._live[launch.token].link

    await site.service()
    await asyncio.sleep(0.2)  # In which the keeper would hang up.

    assert service.executor._live[launch.token].link is link
    assert (await service.record(launch)).exit_code == 4


async def test_keeper_waits_for_its_first_greeting(site: Site, service: Service) -> None:
    service.executor._crew._greet = functools.partial(_greet_late, service.executor._crew._greet)  # type: ignore[method-assign]

    assert (await service.run(site.shell("exit 2"))).exit_code == 2


async def _greet_late(greet: Callable[[str], Awaitable[Link]], path: str) -> Link:
    await asyncio.sleep(2.5)  # The time that hundreds of others take.
    return await greet(path)
