"""What schemathesis asks, made harmless: it runs real jobs on a real machine, and shall not find a disk or a network.

And what no schema can say: which queues, sites and jobs there are, and which values go with which.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any

import schemathesis

COMMAND = ["true"]
_GROWTH = ("memory_factor", "memory_max", "walltime_factor", "walltime_max")


@schemathesis.serializer("application/x-ndjson")
def lines(_context: schemathesis.SerializationContext, value: Any) -> bytes:
    """One job is one line."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.hook
def before_call(
    context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]
) -> None:
    """Called with everything that is sent, whatever it was made for; what was changed is judged as it is then."""
    make_harmless(case.body)
    for name in [name for name, value in (case.query or {}).items() if value in ([], {})]:
        # Of it nothing would be sent.
        del case.query[name]
    if case.meta is not None and case.meta.generation.mode.is_positive:
        make_fitting(case)


def make_harmless(body: Any) -> None:
    """No program but `true`, no shell text, no directory but the one that is given, no other machine."""
    if not isinstance(body, dict):
        return
    for job in body["jobs"] if isinstance(body.get("jobs"), list) else [body]:
        if isinstance(job, dict):
            _make_job_harmless(job)
    if "kind" in body:
        _make_site_harmless(body)
    if isinstance(body.get("config"), dict):
        _make_simulation_harmless(body)


def _make_job_harmless(job: dict[str, Any]) -> None:
    command = job.get("command")
    if isinstance(command, list) and command and all(_is_argument(part) for part in command) and command[0]:
        job["command"] = COMMAND
    _elsewhere(job.get("env"))
    _without_shell(job.get("resources"))


def _make_site_harmless(site: dict[str, Any]) -> None:
    if isinstance(site.get("kind"), str):
        # Of the others there is none here; to find that out is not what these requests are for.
        site["kind"] = (
            "shell" if site["kind"] in ("slurm", "pbs", "lsf", "windows_hpc", "auto") else site["kind"]
        )
    if isinstance(site.get("host"), str):
        site["host"] = None
    if isinstance(site.get("work_dir"), str):
        site["work_dir"] = os.environ["GENERATED_SITE"]
    _without_shell(site.get("defaults"))


def _make_simulation_harmless(asked: dict[str, Any]) -> None:
    number = zlib.crc32(json.dumps(asked["config"]).encode()) % 50
    asked["config"] = {
        "ansys_edt_path": os.environ["GENERATED_PROGRAM"],
        "project_path": os.environ["GENERATED_PROJECT"],
        "jobid": f"S{number}",
    }
    for name in ("machine_nodes", "batch_options", "scheduler_type"):
        if asked.get(name):
            asked[name] = None


def _elsewhere(env: Any) -> None:
    """Secrets are nowhere: what lies on this machine is nobody's."""
    for value in env.values() if isinstance(env, dict) else ():
        if isinstance(value, dict) and str(value.get("secret")).startswith("file:/"):
            value["secret"] = "file:/nowhere"


def _without_shell(resources: Any) -> None:
    if isinstance(resources, dict):
        for name in ("setup", "modules", "directives"):
            if isinstance(resources.get(name), list):
                resources[name] = []


def _is_argument(part: Any) -> bool:
    return isinstance(part, str) and "\0" not in part


def make_fitting(case: schemathesis.Case[Any]) -> None:
    """What is right by itself goes together, and names what there is."""
    body, path, query = case.body, case.path_parameters or {}, case.query or {}
    if "name" in path:
        # Of few, because a service looks at all of them all the time; `default` and `local` stay as they are.
        path["name"] = f"n{zlib.crc32(str(path['name']).encode()) % 3}"
    if case.operation.path in ("/api/v1/jobs", "/api/v1/reports/audit"):
        # The one of another listing.
        query.pop("cursor", None)
    if "ids" in query:
        # A thousand of 128 characters, each of up to 12 bytes there, are more than fits into an address.
        query["ids"] = query["ids"][:10]
    if "tail" in query:
        query.pop("offset", None)
    if isinstance(body, dict):
        body = case.body = _whole(body)
        jobs = body.get("jobs", [body])
        for job in jobs:
            _make_job_fitting(job, is_alone=len(jobs) == 1)
        _open_limits(body)
        _make_token_fitting(body)


def _make_job_fitting(job: dict[str, Any], *, is_alone: bool) -> None:
    for name, known in (("site", "local"), ("queue", "default"), ("executor", "local"), ("depends_on", [])):
        if job.get(name) is not None:
            job[name] = known
    for name in _GROWTH:
        job.get("retry", {}).pop(name, None)
    if not is_alone:
        job.pop("key", None)
    if "extended_properties" in job:
        job["extended_properties"] = _storable(job["extended_properties"])


def _make_token_fitting(token: dict[str, Any]) -> None:
    if "expires" in token:
        # Not in the past.
        token["expires"] = "1d"
    if token.get("user") is not None:
        token.pop("scopes", None)


def _storable(value: Any) -> Any:
    """Without NUL characters, which no schema can forbid at every depth."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return value


def _whole(value: Any) -> Any:
    """With whole numbers as such: to JSON Schema 1.0 is an integer, too, to us it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


def _open_limits(body: dict[str, Any]) -> None:
    """So that jobs go on being started."""
    for name, harmless in (("max_cpu_percent", 100), ("min_memory_gb", 0), ("min_disk_gb", 0)):
        if body.get(name) is not None:
            body[name] = harmless
