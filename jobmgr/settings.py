"""One frozen `Settings`: defaults, then `jobmgr.toml`, then JOBMGR_* variables, then command-line flags."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl

import platformdirs

from jobmgr import credential
from jobmgr.credential import Reference
from jobmgr.errors import InvalidRequest

CONFIG_FILE = "jobmgr.toml"
Secret = Literal["token", "database_password", "job_key"]
_SECRETS: tuple[Secret, ...] = get_args(Secret)
_SECRET_VARIABLES = frozenset({"PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE"})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an installation can set. Each field is also `JOBMGR_<FIELD>` and a key of jobmgr.toml.

    `home` is the state directory; `database` and `work_dir` lie in it unless set. `url` is the service that
    commands talk to; None: the running one of `home`. `public_url` is where jobs at sites reach this service. `token`
    may be a reference to a secret, `database_password` and `job_key` have to be one (jobmgr/credential.py): `fetched`
    has what they refer to. Limits left at None are taken from what is stored in the database, and failing that from
    the machine. `hfss_programs` are paths of programs, or of directories of them, that clients may name as ansysedt,
    with colons between; None: see docs/hfss.md. `socket` is a Unix socket beside the port. `allowed_hosts` are other
    names by which browsers may know the service, `allowed_origins` the sites whose pages may use it; with
    `require_token` nobody is let in without one: see docs/security.md.
    """

    home: Path
    database: str = field(repr=False)
    work_dir: Path
    database_password: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    url: str | None = None
    public_url: str | None = None
    token: str | None = field(default=None, repr=False)
    job_key: str | None = None
    max_concurrent_jobs: int | None = None
    max_cpu_percent: float | None = None
    min_memory_gb: float | None = None
    min_disk_gb: float | None = None
    cancel_grace_s: float = 10.0
    poll_s: float = 1.0
    heartbeat_s: float = 5.0
    hfss_programs: str | None = None
    socket: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    require_token: bool = False
    max_requests_per_s: float = 100.0

    @property
    def token_file(self) -> Path:
        """Where the service keeps the token of its owner, readable by nobody else."""
        return self.home / "token"

    @property
    def job_key_file(self) -> Path:
        """Where the key of jobs' tokens is kept, readable by nobody else, unless `job_key` refers to another one."""
        return self.home / "job-key"

    def fetched(self, name: Secret, environment: Mapping[str, str]) -> str | None:
        """The secret that this setting is or refers to; None if it is not set. Blocks. Raises SecretUnavailable."""
        reference = dict(self.references()).get(name)
        if reference is None:
            return self.token if name == "token" else None
        return credential.fetch(reference, name, environment)

    def lent(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What programs that the service starts see of its environment: nothing that is a secret of its own."""
        own = {
            reference.name for _, reference in self.references() if reference.source is credential.Source.ENV
        }
        return {name: value for name, value in clean_environment(environment).items() if name not in own}

    def references(self) -> Iterator[tuple[Secret, Reference]]:
        """Which settings refer to a secret. Raises InvalidRequest for one that has to and does not."""
        for name in _SECRETS:
            value = getattr(self, name)
            if value is not None and (name != "token" or credential.is_reference(value)):
                yield name, credential.parse(value, name)


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
    _check_options(settings.database)
    _check_secrets(settings)
    socket = settings.socket and settings.socket.absolute()
    return replace(settings, work_dir=settings.work_dir.absolute(), socket=socket)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the service's own settings and secrets, which nothing that it starts may see."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("JOBMGR_") and name not in _SECRET_VARIABLES
    }


def origins(environment: Mapping[str, str], directory: Path | None = None) -> dict[str, list[str]]:
    """Which settings come from where: `jobmgr.toml` with its path, then the environment. Names, never values."""
    file = (directory or Path.cwd()) / CONFIG_FILE
    found = {str(file): sorted(_from_file(file))}
    found["environment"] = [f"JOBMGR_{name.upper()}" for name in _from_environment(environment)]
    return {origin: names for origin, names in found.items() if names}


def strangers(environment: Mapping[str, str]) -> list[str]:
    """JOBMGR_* variables that mean nothing to anybody: misspelt, or of another version."""
    known = {f"JOBMGR_{name.upper()}" for name in _RULES} | _NO_SETTINGS
    return sorted(name for name in environment if name.startswith("JOBMGR_") and name not in known)


def warnings(environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence on each of the `strangers`, with what it may have been meant to be."""
    for name in strangers(environment):
        near = difflib.get_close_matches(
            name, [f"JOBMGR_{known.upper()}" for known in _RULES], n=1, cutoff=0.8
        )
        meant = f"; did you mean {near[0]}?" if near else ""
        yield f"{name} is no setting and does nothing{meant}"


# Set inside jobs and simulations, by scripts, or for tests that stop processes at named steps.
_NO_SETTINGS = frozenset(
    f"JOBMGR_{name}"
    for name in (
        "JOB_ID",
        "ATTEMPT",
        "ATTEMPT_TOKEN",
        "RUN_DIR",
        "JOB_TOKEN_FILE",
        "PROGRAM_TOKEN",
        "PYTHON",
        "FAULTS",
    )
)


def url_host(host: str) -> str:
    """`host` as it stands in a URL a client on this machine can use."""
    if host in ("", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _check_secrets(settings: Settings) -> None:
    dict(settings.references())
    if settings.token is not None and not settings.token.isprintable():
        # It travels in a header, on one line.
        raise InvalidRequest("token", "it holds a line break or another character that cannot be printed")
    if settings.database_password is not None and has_password(settings.database):
        raise InvalidRequest(
            "database_password", "the URL of the database has a password, too; leave one of them out"
        )


def has_password(database: str) -> bool:
    """Whether the URL of a database has a password in it, for everybody to see who sees the URL."""
    rest, _, options = database.partition("?")
    before, at, _ = rest.partition("://")[2].partition("/")[0].rpartition("@")
    return (bool(at) and ":" in before) or any(name == "password" for name, _ in parse_qsl(options))


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a value of a setting has to be, and how that is said."""

    kind: type[str | Path | int | float]
    wanted: str
    least: float = -math.inf
    most: float = math.inf

    def read(self, value: object) -> object:
        """`value` as this setting has it, from text or TOML. Raises TypeError, ValueError."""
        number = self.kind in (int, float)
        # int() would take 80.5 and True for whole numbers.
        if isinstance(value, bool) or not isinstance(value, (str, self.kind, int if number else Path)):
            raise TypeError
        found: Any = self.kind(value)  # type: ignore[arg-type]
        if "\0" in str(found):
            raise ValueError
        if number and not (math.isfinite(found) and self.least <= found <= self.most):
            raise ValueError
        return found


@dataclass(frozen=True, slots=True)
class _Switch:
    """Yes or no; as text in the words of TOML."""

    wanted: str = "true or false"

    def read(self, value: object) -> object:
        """As `_Rule.read`."""
        words = {"true": True, "false": False}
        found = words.get(value.lower()) if isinstance(value, str) else value
        if not isinstance(found, bool):
            raise TypeError
        return found


@dataclass(frozen=True, slots=True)
class _Several:
    """Texts of the form `each`: a list in TOML, with commas between elsewhere. Case says nothing in them."""

    each: re.Pattern[str]
    wanted: str

    def read(self, value: object) -> object:
        """As `_Rule.read`."""
        texts = value.split(",") if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise TypeError
        found = tuple(text.strip().lower() for text in texts if text.strip())
        if not all(self.each.fullmatch(text) for text in found):
            raise ValueError
        return found


# As browsers write them in Host and Origin: the port only where it is not the usual one of the scheme.
_NAME = r"(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
_HOST = re.compile(_NAME)
_ORIGIN = re.compile(rf"(?!http:.*:80$|https:.*:443$)https?://{_NAME}")

# The ranges of the four limits are ResourceLimits': they may also be set while the service runs.
_RULES: Mapping[str, _Rule | _Switch | _Several] = {
    "home": _Rule(Path, "a directory"),
    "database": _Rule(str, "the URL of a database"),
    "database_password": _Rule(str, "a reference to a secret"),
    "work_dir": _Rule(Path, "a directory"),
    "host": _Rule(str, "the name or address of a host"),
    "port": _Rule(int, "a whole number from 0 to 65535", 0, 65535),
    "url": _Rule(str, "the URL of a service"),
    "public_url": _Rule(str, "the URL of a service"),
    "token": _Rule(str, "a text"),
    "job_key": _Rule(str, "a reference to a secret"),
    "max_concurrent_jobs": _Rule(int, "a whole number"),
    "max_cpu_percent": _Rule(float, "a number"),
    "min_memory_gb": _Rule(float, "a number"),
    "min_disk_gb": _Rule(float, "a number"),
    "cancel_grace_s": _Rule(float, "a number of seconds from 0 to 86400", 0, 86400),
    "poll_s": _Rule(float, "a number of seconds from 0.01 to 3600", 0.01, 3600),
    "heartbeat_s": _Rule(float, "a number of seconds from 0.1 to 3600", 0.1, 3600),
    "hfss_programs": _Rule(str, "the paths of programs, with colons between"),
    "socket": _Rule(Path, "the path of a socket"),
    "allowed_hosts": _Several(_HOST, "names of hosts, as jobs.example.org or jobs.example.org:8443"),
    "allowed_origins": _Several(
        _ORIGIN, "sites, as https://site.example or http://localhost:3000; none stands for all"
    ),
    "require_token": _Switch(),
    "max_requests_per_s": _Rule(float, "a number from 0.1 to 1000000", 0.1, 1_000_000),
}


def _typed(name: str, value: object, origin: str) -> object:
    if name not in _RULES:
        known = ", ".join(one.name for one in fields(Settings))
        raise InvalidRequest(name, f"is not a setting ({origin}); known ones: {known}")
    rule = _RULES[name]
    try:
        return rule.read(value)
    except (TypeError, ValueError, OverflowError):
        shown = "the value" if name in _SECRETS else repr(value)
        raise InvalidRequest(name, f"{shown} ({origin}) is not {rule.wanted}") from None


# Options of a database's URL by its scheme; what the drivers do not know they refuse with a TypeError.
_OPTIONS: Mapping[str, frozenset[str]] = {
    "sqlite": frozenset({"timeout"}),
    "postgresql": frozenset(
        {
            "host",
            "port",
            "user",
            "password",
            "passfile",
            "service",
            "servicefile",
            "ssl",
            "sslmode",
            "direct_tls",
        }
        | {"target_session_attrs", "krbsrvname", "gsslib", "prepared_statement_cache_size"}
    ),
}


def _check_options(database: str) -> None:
    # What is wrong is said without the URL, which may hold a password.
    known = _OPTIONS.get(database.partition(":")[0].partition("+")[0])
    if known is None:
        return
    for name, value in parse_qsl(database.partition("?")[2], keep_blank_values=True):
        if name not in known:
            said = ", ".join(sorted(known))
            raise InvalidRequest("database", f"{name!r} is not an option of its URL; known ones: {said}")
        if name == "timeout" and _seconds(value) is None:
            raise InvalidRequest("database", f"timeout={value!r} in its URL is not a number of seconds")


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds <= 86400 else None


def _from_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    # ValueError is also that of bytes that are not UTF-8, and of a number with 5,000 digits.
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(CONFIG_FILE, f"{path} is not valid TOML: {error}") from error
    except OSError as error:
        raise InvalidRequest(CONFIG_FILE, f"{path} cannot be read: {error.strerror}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    # Only names that are settings: JOBMGR_JOB_ID and its kin are set inside running jobs.
    found = {name: environment.get(f"JOBMGR_{name.upper()}") for name in _RULES}
    return {name: value for name, value in found.items() if value}
