"""Opening a connection: which host, by which hops, who it says it is, and who we are to it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import asyncssh

from jobmgr.errors import HostKeyRefused, LoginRefused, SiteUnreachable
from jobmgr.transports.host import SshHost

_SSH_PORT = 22
_PORTS = range(1, 2**16)
_GIVEN_UP_AFTER = 3  # questions that were not answered
_CLOSES_WITHIN_S = 2.0
_KNOWN_HOSTS = (
    "~/.ssh/known_hosts",
    "~/.ssh/known_hosts2",
    "/etc/ssh/ssh_known_hosts",
)  # Source: ssh(1), FILES.
# Source: ssh_config(5), ProxyJump. A port that is the name of a service is not known here.
_JUMP = re.compile(r"(?:ssh://)?(?:(.+)@)?(?:\[([^]]+)\]|([^][:/@]+))(?::([0-9]{1,5}))?/?", re.ASCII)


@dataclass(slots=True)
class Login:
    """An open connection, and the one to the host before, through which it goes."""

    connection: asyncssh.SSHClientConnection
    hop: Login | None

    @property
    def is_open(self) -> bool:
        """Whether commands can be sent over it."""
        return not self.connection.is_closed()

    async def close(self) -> None:
        """Say goodbye if anybody listens, and close it."""
        self.connection.close()
        try:
            async with asyncio.timeout(_CLOSES_WITHIN_S):
                await self.connection.wait_closed()
        except TimeoutError:
            self.connection.abort()
            await self.connection.wait_closed()
        if self.hop is not None:
            await self.hop.close()


async def log_in(host: SshHost) -> Login:
    """Raises SiteUnreachable; if a person has to do something first, HostKeyRefused or LoginRefused."""
    try:
        async with asyncio.timeout(host.connect_timeout_s):
            return await _reach(host, host.name, host.user, host.port, set())
    except TimeoutError as error:
        raise SiteUnreachable(host.name, f"no connection within {host.connect_timeout_s:g} s") from error


async def _reach(host: SshHost, name: str, user: str | None, port: int | None, passed: set[str]) -> Login:
    options = await _options(host, name, user, port)
    known = await asyncio.to_thread(_known_hosts, host, name, options.known_hosts)
    hop = await _hop(host, name, options.tunnel, passed | {name})
    try:
        connection = await asyncssh.connect(
            name,
            port or (),
            options=options,
            tunnel=None if hop is None else hop.connection,
            known_hosts=known,
        )
    except (OSError, ValueError, asyncssh.Error) as error:
        await _leave(hop)
        _explain(name, options, known, error)
    except BaseException:
        await _leave(hop)
        raise
    return Login(connection, hop)


async def _leave(hop: Login | None) -> None:
    if hop is not None:
        await hop.close()


async def _hop(host: SshHost, name: str, jumps: object, passed: set[str]) -> Login | None:
    """The connection to the last of ProxyJump's hosts. Each is checked like the host itself: asyncssh would not."""
    if not isinstance(jumps, str) or not jumps:
        return None
    before, _, last = jumps.rpartition(",")
    if before:
        raise SiteUnreachable(
            name,
            f"it has several hosts in its ProxyJump ({jumps}); give each of them its own ProxyJump instead",
        )
    found = _JUMP.fullmatch(last)
    if found is None or int(found[4] or _SSH_PORT) not in _PORTS:
        raise SiteUnreachable(
            name,
            f"its ProxyJump ({last}) is not understood; it has to be [user@]host[:port], with a number as the port "
            f"and an IPv6 address in brackets",
        )
    user, address, jump, port = found.groups()
    jump = jump or address
    if jump in passed:
        raise SiteUnreachable(name, f"its ProxyJump leads back to {jump}; correct the ssh configuration")
    return await _reach(host, jump, user, int(port) if port else None, passed)


async def _options(
    host: SshHost, name: str, user: str | None, port: int | None
) -> asyncssh.SSHClientConnectionOptions:
    # What is secret is proven by keys and agents only; a password would have to lie somewhere.
    try:
        options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
            host=name,
            port=port or (),
            username=user or (),
            config=(host.config_file,) if host.config_file else (),
            client_keys=[host.key_file] if host.key_file else (),
            password=None,
            password_auth=False,
            kbdint_auth=False,
            x509_trusted_certs=None,
            agent_forwarding=False,
            x11_forwarding=False,
            connect_timeout=None,
            login_timeout=host.connect_timeout_s,
            keepalive_interval=host.keepalive_s,
            keepalive_count_max=_GIVEN_UP_AFTER,
        )
    except (OSError, ValueError) as error:
        raise LoginRefused(
            name,
            f"its keys or the ssh configuration cannot be read: {error} (a key with a passphrase belongs into an "
            f"ssh-agent, and is not named then)",
        ) from error
    return options


def _known_hosts(host: SshHost, name: str, configured: object) -> asyncssh.SSHKnownHosts:
    """The keys that are trusted. Raises HostKeyRefused where the check is switched off, or cannot be made."""
    if host.known_hosts_file is not None:
        files = [host.known_hosts_file]
    elif configured is None:
        raise HostKeyRefused(
            name, "UserKnownHostsFile none switches the check of its key off; take that out for this host"
        )
    else:
        files = [str(file) for file in configured] if isinstance(configured, list) else []
    texts = []
    for file in files or _KNOWN_HOSTS:
        with contextlib.suppress(FileNotFoundError):
            texts.append(_read(name, Path(file).expanduser()))
    try:
        return asyncssh.import_known_hosts("\n".join(texts))
    except ValueError as error:
        raise HostKeyRefused(name, f"{' '.join(files or _KNOWN_HOSTS)} cannot be read: {error}") from error


def _read(name: str, file: Path) -> str:
    try:
        return file.read_text(errors="surrogateescape")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise HostKeyRefused(name, f"{file} cannot be read: {error.strerror}") from error


def _explain(
    name: str, options: asyncssh.SSHClientConnectionOptions, known: asyncssh.SSHKnownHosts, error: Exception
) -> NoReturn:
    port = options.port or _SSH_PORT
    shown = options.host_key_alias or options.host
    keys, *_ = asyncssh.match_known_hosts(known, shown, "", port if port != _SSH_PORT else None)
    try_it = f"ssh {'' if port == _SSH_PORT else f'-p {port} '}{options.username}@{options.host}"
    if keys and isinstance(error, asyncssh.HostKeyNotVerifiable | asyncssh.KeyExchangeFailed):
        entry = shown if port == _SSH_PORT else f"[{shown}]:{port}"
        raise HostKeyRefused(
            name,
            f"it shows another key than the known one ({error}): it was set up anew, or somebody else answers; ask "
            f"who runs it, then `ssh-keygen -R '{entry}'` and once `{try_it}`",
        ) from error
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        raise HostKeyRefused(
            name,
            f"its key is not known ({error}); connect once by hand, `{try_it}`, and compare the fingerprint, or "
            f"`ssh-keyscan -p {port} {options.host} >> ~/.ssh/known_hosts`",
        ) from error
    if isinstance(error, asyncssh.PermissionDenied):
        raise LoginRefused(
            name,
            f"it does not let {options.username!r} in with the keys that were offered; `{try_it}` has to work "
            f"without a question",
        ) from error
    if isinstance(error, ValueError):
        raise LoginRefused(name, f"the ssh configuration cannot be used: {error}") from error
    why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    raise SiteUnreachable(name, f"{why}; `{try_it}` has to work without a question") from error
