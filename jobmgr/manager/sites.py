"""The verbs on sites."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from jobmgr.dialects import registry
from jobmgr.domain.site import LOCAL, Site, Step, Way
from jobmgr.errors import InvalidRequest
from jobmgr.manager.core import Core
from jobmgr.store import sites
from jobmgr.wire.requests import SiteAsked
from jobmgr.wire.submission import check_text, to_resources

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"


class Sites(Core):
    """Foreign queues where jobs may run."""

    async def sites(self) -> Sequence[Site]:
        """All sites by name."""
        return await self.database.read(sites.listing)

    async def put_site(self, name: str, asked: SiteAsked) -> Site:
        """Make a site, or change it to this. Raises InvalidRequest, Conflict."""
        site = _site(name, asked)
        if site.work_dir is None:
            # Written down, because the next service may have another one, and look for its files there.
            site = replace(site, work_dir=str(self.parts.runs.parent.absolute()))
        return await self._write(sites.put, site)

    async def remove_site(self, name: str) -> None:
        """Forget a site that no stored job names. Raises SiteNotFound, Conflict."""
        await self._write(sites.remove, name)

    async def try_site(self, name: str) -> Sequence[Step]:
        """Try the way to a site, its scheduler and its work directory, until something is wrong.

        Raises SiteNotFound, and InvalidRequest for `local`.
        """
        site = await self.database.read(sites.get, name)
        if site.is_local:
            raise InvalidRequest("name", "local is this machine; `jobmgr doctor` checks it")
        return await self.dispatcher.try_site(site)


def _site(name: str, asked: SiteAsked) -> Site:
    if re.fullmatch(_NAME, name) is None:
        raise InvalidRequest(
            "name", f"{name[:100]!r} is not a site name: ASCII letters, digits, _ . - ; at most 64"
        )
    if name == LOCAL:
        raise InvalidRequest("name", "local is this machine, under keepers of the service")
    for field, text in (("host", asked.host), ("work_dir", asked.work_dir)):
        check_text(text or "", field)
    if asked.work_dir is not None and not os.path.isabs(asked.work_dir):  # noqa: PTH117 -- a path of the site
        raise InvalidRequest("work_dir", f"{asked.work_dir!r} is relative; give an absolute path of the site")
    if asked.host is not None and asked.work_dir is None:
        raise InvalidRequest("work_dir", "is needed with a host: where files of jobs lie there")
    try:
        registry.check_options(asked.kind, asked.defaults.directives)
    except InvalidRequest as error:
        raise InvalidRequest("defaults.directives", error.message) from None
    ssh = {key: value for key, value in msgspec.structs.asdict(asked.ssh).items() if value is not None}
    return Site(
        name=name,
        dialect=asked.kind,
        way=Way.LOCAL if asked.host is None else Way.SSH,
        host=asked.host,
        work_dir=asked.work_dir.rstrip("/") or "/" if asked.work_dir else None,
        is_enabled=asked.enabled,
        max_submitted=asked.max_submitted,
        defaults=to_resources(asked.defaults, "defaults."),
        ssh=ssh if asked.host is not None else {},
    )
