"""How a service is: whether it lives, whether it can serve, which version it is, and how its sites are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec import Struct

from jobmgr.client.address import Address
from jobmgr.client.connection import Connection
from jobmgr.errors import JobmgrError
from jobmgr.wire.answers import HealthAnswer, SiteAnswer, SitesAnswer


@dataclass(frozen=True, slots=True)
class Health:
    """What the service at `url` answered; `trouble` is why the rest could not be asked."""

    url: str
    lives: bool = False
    is_ready: bool = False
    version: str | None = None
    trouble: str = ""
    sites: Sequence[SiteAnswer] = ()


class _Info(Struct):
    version: str


class _Document(Struct):
    info: _Info


async def ask(address: Address, timeout_s: float) -> Health:
    """Ask one thing after the other, each for at most `timeout_s`, until something fails."""
    health = Health(address.url)
    connection = await Connection(lambda: address, timeout_s).open()
    try:
        await connection.read("/healthz", HealthAnswer)
        health = replace(health, lives=True)
        # Before readiness, because it is known also while the database is away.
        document = await connection.read("/openapi.json", _Document)
        health = replace(health, version=document.info.version)
        await connection.read("/readyz", HealthAnswer)
        health = replace(health, is_ready=True)
        return replace(health, sites=(await connection.read("/api/v1/sites", SitesAnswer)).sites)
    except JobmgrError as error:
        return replace(health, trouble=str(error))
    finally:
        await connection.close()
