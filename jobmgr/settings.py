"""One frozen `Settings`: defaults, then `jobmgr.toml`, then JOBMGR_* variables, then command-line flags."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import platformdirs

from jobmgr.errors import InvalidRequest

CONFIG_FILE = "jobmgr.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an installation can set. Each field is also `JOBMGR_<FIELD>` and a key of jobmgr.toml.

    `home` is the state directory; `database` and `work_dir` lie in it unless set. Limits left at None are
    taken from what is stored in the database, and failing that from the machine.
    """

    home: Path
    database: str
    work_dir: Path
    host: str = "127.0.0.1"
    port: int = 8080
    url: str = "http://127.0.0.1:8080"
    token: str | None = None
    max_concurrent_jobs: int | None = None
    max_cpu_percent: float | None = None
    min_memory_gb: float | None = None
    min_disk_gb: float | None = None
    cancel_grace_s: float = 10.0
    poll_s: float = 1.0

    @property
    def token_file(self) -> Path:
        """Where the service keeps the token of its owner, readable by nobody else."""
        return self.home / "token"


def load(
    flags: Mapping[str, object | None], environment: Mapping[str, str], directory: Path | None = None
) -> Settings:
    """Merge all sources; `flags` with value None were not given. Reads `jobmgr.toml` in `directory` (default: cwd).

    Raises InvalidRequest naming the setting and where it came from.
    """
    given: dict[str, object] = {}
    for origin, source in (
        (CONFIG_FILE, _from_file((directory or Path.cwd()) / CONFIG_FILE)),
        ("environment", _from_environment(environment)),
        ("flag", {name: value for name, value in flags.items() if value is not None}),
    ):
        for name, value in source.items():
            given[name] = _typed(name, value, origin)
    home = Path(str(given.pop("home", None) or platformdirs.user_state_dir("jobmgr"))).absolute()
    settings = Settings(home=home, database=f"sqlite:///{home / 'jobs.db'}", work_dir=home / "work")
    settings = replace(settings, **given)  # type: ignore[arg-type]
    if "url" not in given:
        settings = replace(settings, url=f"http://{url_host(settings.host)}:{settings.port}")
    return replace(settings, work_dir=settings.work_dir.absolute())


def origins(environment: Mapping[str, str], directory: Path | None = None) -> dict[str, list[str]]:
    """Which settings come from where: `jobmgr.toml` with its path, then the environment. Names, never values."""
    file = (directory or Path.cwd()) / CONFIG_FILE
    found = {str(file): sorted(_from_file(file))}
    found["environment"] = [f"JOBMGR_{name.upper()}" for name in _from_environment(environment)]
    return {origin: names for origin, names in found.items() if names}


def strangers(environment: Mapping[str, str]) -> list[str]:
    """JOBMGR_* variables that mean nothing to anybody: misspelt, or of another version."""
    known = {f"JOBMGR_{name.upper()}" for name in _PARSERS} | _NO_SETTINGS
    return sorted(name for name in environment if name.startswith("JOBMGR_") and name not in known)


# Set inside jobs, by scripts, or for tests that stop processes at named steps.
_NO_SETTINGS = frozenset(
    f"JOBMGR_{name}"
    for name in ("JOB_ID", "ATTEMPT", "ATTEMPT_TOKEN", "RUN_DIR", "JOB_TOKEN_FILE", "PYTHON", "FAULTS")
)


def url_host(host: str) -> str:
    """`host` as it stands in a URL a client on this machine can use."""
    if host in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


_PARSERS: Mapping[str, type] = {
    "home": Path, "work_dir": Path, "database": str, "host": str, "url": str, "token": str, "port": int,
    "max_concurrent_jobs": int, "max_cpu_percent": float, "min_memory_gb": float, "min_disk_gb": float,
    "cancel_grace_s": float, "poll_s": float,
}  # fmt: skip


def _typed(name: str, value: object, origin: str) -> object:
    if name not in _PARSERS:
        known = ", ".join(field.name for field in fields(Settings))
        raise InvalidRequest(name, f"is not a setting ({origin}); known ones: {known}")
    parser = _PARSERS[name]
    try:
        return parser(value)
    except (TypeError, ValueError):
        raise InvalidRequest(name, f"{value!r} ({origin}) is not of type {parser.__name__}") from None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(CONFIG_FILE, f"{path} is not valid TOML: {error}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    # Only names that are settings: JOBMGR_JOB_ID and its kin are set inside running jobs.
    found = {name: environment.get(f"JOBMGR_{name.upper()}") for name in _PARSERS}
    return {name: value for name, value in found.items() if value}
