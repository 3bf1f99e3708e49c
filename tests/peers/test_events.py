"""The original's five Socket.IO events, as a client with python-socketio hears them from our service."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Commands, serving
from tests.peers.conftest import Service, project
from tests.peers.original import Original
from tests.slurm import Slurm

# As its documents have it: connect, and print what comes. It hears until its input ends.
CLIENT = """
import asyncio, json, sys
import socketio

client = socketio.AsyncClient()

def keep(name):
    async def keep(data):
        print(json.dumps([name, data]), flush=True)
    client.on(name, keep)

for name in ("job_queued", "job_started", "job_scheduled", "job_completed", "job_cancelled", "limits_updated"):
    keep(name)

async def main():
    await client.connect(sys.argv[1])
    print(json.dumps(["connected", None]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await client.disconnect()

asyncio.run(main())
"""
RESOURCES = {
    "cpu_percent", "memory_percent", "memory_used_gb", "memory_total_gb", "memory_free_gb", "disk_usage_percent",
    "disk_free_gb", "timestamp",
}  # fmt: skip


class Heard:
    """What the client printed, line by line."""

    def __init__(self, client: subprocess.Popen[str]) -> None:
        self._client = client
        self.events: list[tuple[str, Any]] = []

    async def until(self, name: str) -> Any:
        """What comes with the next event of this name."""
        assert self._client.stdout is not None
        async with asyncio.timeout(60):
            while True:
                line = await asyncio.to_thread(self._client.stdout.readline)
                assert line, "the client ended"
                event, data = json.loads(line)
                self.events.append((event, data))
                if event == name:
                    return data


@contextmanager
def hearing(original: Original, url: str) -> Iterator[Heard]:
    """A client of the service at `url`."""
    with original.start_script(CLIENT, url) as client:
        yield Heard(client)
        assert client.stdin is not None
        client.stdin.close()
        assert client.wait(30) == 0


async def test_a_run_here_and_new_limits_are_told(
    original: Original, service: Service, tmp_path: Path
) -> None:
    file = project(tmp_path / "antenna.aedt", "exit 5")
    with hearing(original, service.url) as heard:
        await heard.until("connected")
        config = {"project_path": str(file), "jobid": "told"}

        await service.ask("POST", "/jobs/submit", json={"config": config, "priority": 2})
        queued = await heard.until("job_queued")
        started = await heard.until("job_started")
        completed = await heard.until("job_completed")
        await service.ask("PUT", "/pool/limits", json={"max_concurrent_jobs": 3})
        limits = await heard.until("limits_updated")
        await service.ask("PUT", "/pool/limits", json={"max_concurrent_jobs": 4})

    assert (queued["job_id"], queued["priority"]) == ("told", 2)
    assert queued["queue_position"] >= 1
    assert (started["job_id"], set(started["resources"])) == ("told", RESOURCES)
    assert started["start_time"] < completed["end_time"]
    assert (completed["job_id"], completed["status"], completed["return_code"]) == ("told", "failed", 5)
    assert limits["old_limits"] == {"max_concurrent_jobs": 4}
    assert limits["new_limits"]["max_concurrent_jobs"] == 3
    assert set(limits["new_limits"]) >= {
        "max_concurrent_jobs",
        "max_cpu_percent",
        "min_memory_gb",
        "min_disk_gb",
    }


async def test_a_job_of_slurm_is_told_as_scheduled_and_completed_once(
    original: Original, slurm: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    file = project(tmp_path / "array.aedt")
    home = tmp_path / "home"
    home.mkdir()
    config = {
        "project_path": str(file),
        "jobid": "cluster_told",
        "scheduler_type": "slurm",
        "scheduler_options": {"queue": "debug", "memory": "100MB", "time": "00:05:00"},
    }
    commands = Commands(home)

    with serving(commands) as url, hearing(original, url) as heard:
        await heard.until("connected")
        await Service(commands, url).ask("POST", "/jobs/submit", json={"config": config})
        scheduled = await heard.until("job_scheduled")
        completed = await heard.until("job_completed")

    assert scheduled["job_id"] == completed["job_id"] == "cluster_told"
    assert str(scheduled["scheduler_job_id"]).isdigit()
    assert (completed["status"], completed["return_code"]) == ("completed", 0)
    assert [name for name, _ in heard.events].count("job_completed") == 1
