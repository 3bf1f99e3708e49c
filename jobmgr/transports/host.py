"""How a host over SSH is named in the settings of a site: whatever is secret only by where it lies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SshHost:
    """A host that the user's `ssh` reaches without asking anything.

    `name` is a host name, an address, or an alias of the user's ssh configuration; what is None comes from there.
    `key_file` is a private key without a passphrase; agents and the configuration's keys need none. `sessions` is
    how many commands go over its one connection at once, fewer if the server wants it. After `keepalive_s` of
    silence the other side is asked whether it is there, three times at most.
    """

    name: str
    user: str | None = None
    port: int | None = None
    key_file: str | None = None
    known_hosts_file: str | None = None
    config_file: str | None = None
    sessions: int = 8
    keepalive_s: float = 15.0
    connect_timeout_s: float = 20.0
