"""The composition root: the only file that names concrete classes. `JobManager` embedded, `serve` as a service."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from jobmgr import settings as settings_module
from jobmgr.api import owner_token
from jobmgr.api.guard import own_uid
from jobmgr.api.limits import Limits
from jobmgr.api.server import Server
from jobmgr.client.announcement import announced
from jobmgr.dialects import registry as dialects
from jobmgr.dispatch.admission import Admission
from jobmgr.dispatch.dispatcher import Dispatcher
from jobmgr.dispatch.sites import Serving
from jobmgr.domain.limits import ResourceLimits
from jobmgr.domain.resources import counted
from jobmgr.domain.site import Site, Way
from jobmgr.errors import InvalidRequest, SchemaMissing, StoreError
from jobmgr.executors import process
from jobmgr.executors.batch import BatchExecutor
from jobmgr.executors.local import LocalExecutor
from jobmgr.executors.protocol import Launch, Report
from jobmgr.hfss.program import Programs
from jobmgr.manager.core import Parts
from jobmgr.manager.feed import Feed
from jobmgr.manager.identity import Identity
from jobmgr.manager.job_tokens import JobTokens
from jobmgr.manager.manager import Manager
from jobmgr.monitor import ResourceMonitor, machine
from jobmgr.settings import Settings
from jobmgr.store import dispatchers, durability, queues, schema
from jobmgr.store.engine import Database
from jobmgr.store.lock import FileLock, make_file
from jobmgr.store.queues import LimitsChange
from jobmgr.transports.host import SshHost
from jobmgr.transports.local import LocalTransport
from jobmgr.transports.local_directory import LocalDirectory
from jobmgr.transports.site_directory import SiteDirectories
from jobmgr.transports.transport import Transport

if TYPE_CHECKING:
    from jobmgr.transports.ssh.connection import Connection

logger = logging.getLogger(__name__)

Drain = Literal["leave", "wait"]
_RESTART_S = 1.0

__all__ = ["JobManager", "ResourceLimits", "check_database", "serve", "serving", "upgrade_database"]


class JobManager(Manager):
    """The job database with a dispatcher running it: the verbs of `Manager` between start and stop.

        async with JobManager(ResourceLimits(max_concurrent_jobs=4), database="sqlite:///jobs.db") as manager:
            job_id = await manager.submit(["solver", "model.inp"], priority=5)
            job = await manager.wait(job_id)

    What is left out comes from jobmgr.toml, JOBMGR_* and the defaults. Limits given here are stored, limits left
    at None are those stored before, under `limits_name` or, without one, for this host; `first_limits` are meant as
    long as none are stored. Jobs may have `descriptor_limit` files open, else as many as this process.
    """

    def __init__(
        self,
        limits: ResourceLimits | None = None,
        *,
        database: str | None = None,
        work_dir: Path | str | None = None,
        settings: Settings | None = None,
        drain: Drain = "leave",
        limits_name: str | None = None,
        first_limits: ResourceLimits | None = None,
        descriptor_limit: int | None = None,
    ) -> None:
        flags = {"database": database, "work_dir": work_dir, **(asdict(limits) if limits else {})}
        if settings is None:
            settings = settings_module.load(flags, os.environ)
        self.settings = settings
        self.url: str | None = None
        self._limits_name = limits_name or socket.gethostname()
        self._first_limits = first_limits or ResourceLimits()
        self._descriptor_limit = descriptor_limit
        self._drain = drain
        self._lock: FileLock | None = None
        self._connections: dict[SshHost, Connection] = {}
        self._running = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(self._drain)

    async def start(self, before_claims: Callable[[], None] = lambda: None) -> None:
        """Open the database, take up what an earlier service left, and run what is due.

        `before_claims` is called when the database is ours and nothing is started yet; what it raises is raised. Raises
        DatabaseInUse, SchemaMissing (PostgreSQL), SchemaTooNew, NotADatabase, StoreError, StoreUnavailable.
        """
        async with contextlib.AsyncExitStack() as running:
            await running.enter_async_context(self._run(before_claims))
            self._running = running.pop_all()

    async def stop(self, drain: Drain = "leave") -> None:
        """Stop claiming and let go: running jobs run on under their keepers (`wait`: wait for them first)."""
        self._drain = drain
        await self._running.aclose()

    @contextlib.contextmanager
    def answering(self, url: str) -> Iterator[None]:
        """Tell jobs, and those who find the database taken, where this service answers."""
        self.url = url
        if self._lock is None:
            yield
            return
        self._lock.tell(url)
        try:
            yield
        finally:
            self._lock.tell(None)

    @contextlib.asynccontextmanager
    async def _run(self, before_claims: Callable[[], None]) -> AsyncIterator[None]:
        # In the order of teardown from below: claims stop first, then followers, the database and the lock last.
        settings = self.settings
        runs = settings.work_dir / "runs"
        _make_work_directory(runs)
        database = Database(settings.database, await _password(settings))
        async with contextlib.AsyncExitStack() as stack:
            if database.is_sqlite:
                durability.check_file(database.sqlite_file.resolve())
                self._lock = FileLock(database.sqlite_file)
                self._lock.acquire()
                stack.callback(self._lock.release)
            executor = self._executor()
            await executor.start()
            stack.push_async_callback(executor.stop)
            await database.start()
            stack.push_async_callback(database.close)
            await _prepare_schema(database)
            identity = _identity(settings, executor.work_id)
            limits = await _limits(database, settings, self._limits_name, self._first_limits)
            admission = Admission(machine(), limits)
            monitor = ResourceMonitor(settings.work_dir)
            dispatcher = Dispatcher(
                database, identity, admission, monitor, settings.cancel_grace_s, executor, self._foreign
            )
            feed = Feed(database)
            user = _user_name()
            callers = Identity(database, user)
            here = LocalTransport(settings.lent(os.environ))
            stack.push_async_callback(here.close)
            programs = Programs.of(settings.hfss_programs, own_uid())
            self.parts = Parts(
                database,
                dispatcher,
                feed,
                callers,
                runs,
                identity.host,
                self._limits_name,
                user,
                here,
                self._transport,
                monitor,
                programs,
            )
            stack.push_async_callback(self.parts.recall.close)
            database.on_commit(feed.notice)
            database.on_commit(callers.notice)
            await stack.enter_async_context(
                _background(feed.run, callers.run, lambda: database.notice_others(settings.poll_s))
            )
            before_claims()
            try:
                await dispatcher.start()
                logger.info("started; limits: %s", _said(await self.limits()))
                yield
            finally:
                if self._drain == "wait":
                    await dispatcher.drain()
                await dispatcher.stop()
                logger.info("stopped; %s left to run on", counted(len(dispatcher.roster), "running job"))

    def _report(self, report: Report) -> None:
        self.parts.dispatcher.report(report)

    def _job_env(self) -> Mapping[str, str]:
        return {"JOBMGR_URL": self.url} if self.url else {}

    def _job_token(self, launch: Launch) -> str | None:
        tokens = self.parts.job_tokens
        return (
            None if tokens is None or not self.url else tokens.of(launch.job_id, launch.number, launch.token)
        )

    def _site_env(self) -> Mapping[str, str]:
        # The service's own address is that of this machine, or a guess.
        return {"JOBMGR_URL": self.settings.public_url} if self.url and self.settings.public_url else {}

    def _site_token(self, launch: Launch) -> str | None:
        return self._job_token(launch) if self.settings.public_url else None

    def _executor(self) -> LocalExecutor:
        return LocalExecutor(
            self.settings.work_dir,
            self._report,
            base_env=self.settings.lent(os.environ),
            job_env=self._job_env,
            job_token=self._job_token,
            descriptor_limit=self._descriptor_limit,
        )

    def _foreign(self, site: Site) -> Serving:
        if site.work_dir is None:
            raise InvalidRequest("work_dir", "it has no work directory")
        transport = self._transport(site)
        executor = BatchExecutor(
            site.name,
            dialects.dialect(site.dialect),
            transport,
            site.work_dir,
            self._report,
            job_env=self._site_env,
            job_token=self._site_token,
            work_id=site.work_id,
        )
        is_here = site.way is Way.LOCAL
        return Serving(
            executor, LocalDirectory if is_here else SiteDirectories(site.name, transport).directory
        )

    def _transport(self, site: Site) -> Transport:
        if site.way is Way.LOCAL:
            return LocalTransport(self.settings.lent(os.environ))
        try:
            # Optional.
            from jobmgr.transports.ssh.connection import Connection  # noqa: PLC0415
            from jobmgr.transports.ssh.transport import SshTransport  # noqa: PLC0415
        except ImportError as error:
            raise InvalidRequest(
                "host", f"hosts over SSH need asyncssh ({error}): pip install 'jobmgr[ssh]'"
            ) from error
        host = SshHost(site.host or "", **site.ssh)
        return SshTransport(self._connections.setdefault(host, Connection(host)))


@contextlib.asynccontextmanager
async def _background(*loops: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_forever(loop)) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _forever(loop: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await loop()
        except Exception:  # boundary: without its loops a service is deaf; none ends by an error
            logger.exception("a background loop failed; it starts again in %g s", _RESTART_S)
        await asyncio.sleep(_RESTART_S)


def _make_work_directory(runs: Path) -> None:
    try:
        _make_private(runs)
    except OSError as error:
        raise StoreError(
            f"the work directory cannot be made: {error}; choose another with --work-dir"
        ) from error


def _make_private(directory: Path) -> None:
    """Make a directory that only our user may enter, and so what is missing above it. Raises OSError."""
    for parent in reversed(directory.parents):
        if not parent.exists():
            parent.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)


async def _prepare_schema(database: Database) -> None:
    # An embedded file is upgraded by whoever opens it; a server's database may have other services on it.
    if database.is_sqlite:
        await database.upgrade()
    else:
        await database.read(durability.check_server)
    await database.read(schema.check)


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())  # As containers have it: a user without a name.


def _identity(settings: Settings, work_id: str) -> dispatchers.Identity:
    pid = os.getpid()
    return dispatchers.Identity(
        id=secrets.token_hex(8),
        host=socket.gethostname(),
        boot_id=process.boot_id(),
        pid_namespace=process.pid_namespace(),
        pid=pid,
        start_ticks=process.start_ticks(pid),
        work_dir=str(settings.work_dir),
        work_id=work_id,
        heartbeat_s=settings.heartbeat_s,
    )


async def _limits(
    database: Database, settings: Settings, service: str, first: ResourceLimits
) -> ResourceLimits:
    """What was set for this start, else what is stored, else `first`; the result is stored."""
    stored = await database.read(queues.limits, service)
    known = stored or ResourceLimits()
    asked = {name: getattr(settings, name) for name in asdict(known)}
    given = {name: value for name, value in asked.items() if value is not None}
    if stored is None:
        given = {name: value for name, value in asdict(first).items() if value is not None} | given
    if replace(known, **given) != known:
        return await database.write(queues.set_limits, LimitsChange(service, given))
    return known


def _said(limits: ResourceLimits) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(limits).items() if value is not None)


def serve(
    settings: Settings,
    *,
    on_ready: Callable[[str, ResourceLimits], None],
    drain: Drain = "leave",
    limits_name: str | None = None,
    first_limits: ResourceLimits | None = None,
) -> None:
    """Run the service until SIGTERM or SIGINT; `on_ready` gets its URL once it answers, and the limits that hold.

    With `drain` wait the first signal stops the starting of jobs; the service goes on answering until the running
    ones have ended, or until a second signal.

    The limits are as in `JobManager`. Raises what `JobManager.start` raises, and StoreError if the port is taken.
    """
    run: Callable[..., None] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 -- optional: faster where it exists

        run = uvloop.run
    run(_serve(settings, drain, on_ready, limits_name, first_limits))


async def _serve(
    settings: Settings,
    drain: Drain,
    on_ready: Callable[[str, ResourceLimits], None],
    limits_name: str | None,
    first_limits: ResourceLimits | None,
) -> None:
    stopping = asyncio.Event()
    _on_signal(stopping.set)
    # A connection is a descriptor, and so is a keeper at work; jobs keep the limit that this process was given.
    descriptor_limit = process.descriptor_limit()
    process.raise_descriptor_limit()
    async with serving(
        settings, limits_name=limits_name, first_limits=first_limits, descriptor_limit=descriptor_limit
    ) as manager:
        assert manager.url is not None
        on_ready(manager.url, await manager.limits())
        await stopping.wait()
        if drain == "wait":
            await _drain(manager)


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    *,
    limits_name: str | None = None,
    first_limits: ResourceLimits | None = None,
    descriptor_limit: int | None = None,
) -> AsyncIterator[JobManager]:
    """A service in this loop: it runs jobs, and answers at its `url`, until the context is left.

    Raises what `JobManager.start` raises, UnsafeFile, and AddressUnavailable.
    """
    manager = JobManager(
        settings=settings,
        limits_name=limits_name,
        first_limits=first_limits,
        descriptor_limit=descriptor_limit,
    )
    token = await asyncio.to_thread(_owner_token, settings)
    key = await asyncio.to_thread(_job_key, settings)
    server = Server(
        manager,
        host=settings.host,
        port=settings.port,
        token=token,
        socket_path=settings.socket,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        require_token=settings.require_token,
        limits=Limits(requests_per_s=settings.max_requests_per_s),
    )
    async with contextlib.AsyncExitStack() as stack:

        def take_address() -> None:
            # Nothing is started by a service that nobody could reach; all that is started may say something of itself.
            server.bind(stack)
            manager.url = server.url
            manager.parts.job_tokens = JobTokens(manager.database, key)

        await manager.start(take_address)
        stack.push_async_callback(manager.stop)
        await stack.enter_async_context(server)
        _make_private(settings.home)
        announcement = announced(settings.home, server.url, settings.socket, _doors(settings))
        with manager.answering(server.url), announcement:
            yield manager


def _on_signal(act: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)


async def _drain(manager: JobManager) -> None:
    count = len(manager.dispatcher.roster)
    logger.warning("draining: %d running, nothing new starts; a second signal leaves them to run on", count)
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(manager.dispatcher.drain())
        _on_signal(draining.cancel)


def _owner_token(settings: Settings) -> str:
    given = settings.fetched("token", os.environ)
    origin = "the setting `token` (JOBMGR_TOKEN or jobmgr.toml)" if given else str(settings.token_file)
    token = owner_token.check(given or owner_token.read(settings.token_file), origin)
    logger.info("the owner's token is that of %s", origin)
    return token


def _job_key(settings: Settings) -> bytes:
    return (settings.fetched("job_key", os.environ) or owner_token.read(settings.job_key_file)).encode()


async def _password(settings: Settings) -> str | None:
    return await asyncio.to_thread(settings.fetched, "database_password", os.environ)


def upgrade_database(settings: Settings) -> str:
    """Bring the schema to this version's, in a new file if there is none; answers what was done."""

    async def upgrade(database: Database) -> str:
        if database.is_sqlite:
            _make_private(database.sqlite_file.parent)
            make_file(database.sqlite_file)
        return await database.upgrade()

    return asyncio.run(_with_database(settings, upgrade))


def check_database(settings: Settings) -> str:
    """Say whether the database fits this version. Raises SchemaMissing, SchemaTooNew, NotADatabase."""

    async def check(database: Database) -> str:
        if database.is_sqlite and not database.sqlite_file.exists():
            raise SchemaMissing(f"there is no database {database.sqlite_file}; `jobmgr db upgrade` makes it")
        await database.read(schema.check)
        return f"the schema is at revision {schema.head()}, as this version needs it"

    return asyncio.run(_with_database(settings, check))


async def _with_database(settings: Settings, work: Callable[[Database], Awaitable[str]]) -> str:
    database = Database(settings.database, await _password(settings))
    await database.start()
    try:
        return await work(database)
    finally:
        await database.close()


def _doors(settings: Settings) -> dict[str, str]:
    told = {
        "host": settings.host,
        "require_token": "true" if settings.require_token else "false",
        "allowed_hosts": ", ".join(settings.allowed_hosts),
        "allowed_origins": ", ".join(settings.allowed_origins),
    }
    return {name: text for name, text in told.items() if text}
