"""The verbs on sites."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from jobmgr.dialects import registry
from jobmgr.dialects.answers import plain
from jobmgr.dialects.dialect import Command
from jobmgr.domain.site import LOCAL, SITE_NAME, Site, Step, Way
from jobmgr.errors import InvalidRequest, SiteUnreachable
from jobmgr.executors.cluster import installed
from jobmgr.manager.core import Core
from jobmgr.store import sites
from jobmgr.wire.requests import AUTO, SiteAsked
from jobmgr.wire.resources import to_resources
from jobmgr.wire.text import check_text

_ANSWER_S = 10.0


class Sites(Core):
    """Foreign queues where jobs may run."""

    async def sites(self) -> Sequence[Site]:
        """All sites by name."""
        return await self._read(sites.listing)

    def site_trouble(self, site: Site) -> str:
        """Why this service does not serve a site, in a sentence; empty if it does."""
        return "" if site.is_local else self.dispatcher.trouble(site.name)

    async def put_site(self, name: str, asked: SiteAsked) -> Site:
        """Make a site, or change it to this; of the kind `auto` it is what is found there.

        Raises InvalidRequest, Conflict, and SiteUnreachable if it cannot be looked what is there.
        """
        site = _site(name, asked)
        if asked.kind == AUTO:
            site = replace(site, dialect=await self._kind_of(site))
        _check_options(site)
        if site.work_dir is None:
            # Written down, because the next service may have another one, and look for its files there.
            site = replace(site, work_dir=str(self.parts.runs.parent.absolute()))
        return await self._write(sites.put, site)

    async def _kind_of(self, site: Site) -> str:
        """The scheduler that answers where the site's commands are run. Raises InvalidRequest if it is not one."""
        transport = self.parts.way_to(site)
        try:
            answer = await transport.run(Command(("true",)), _ANSWER_S)
            if answer.exit_code != 0:
                raise SiteUnreachable(transport.host, plain(answer.stderr) or "no command is run there")
            found = await installed(map(registry.dialect, registry.schedulers()), transport)
        finally:
            await transport.close()
        if len(found) == 1:
            return next(iter(found))
        said = ", ".join(f"{kind} ({version})" for kind, version in found.items())
        what = (
            f"several schedulers answer on {transport.host}: {said}"
            if found
            else (f"no scheduler answers on {transport.host}: none of {', '.join(registry.schedulers())}")
        )
        raise InvalidRequest("kind", f"{what}; name the one that is meant, or `shell` for none")

    async def enable_site(self, name: str, *, enabled: bool = True) -> Site:
        """Let a site have jobs, or no more of them. Raises SiteNotFound, and Conflict for `local`."""
        return await self._write(sites.switch, sites.Switch(name, enabled))

    async def remove_site(self, name: str) -> None:
        """Forget a site that no stored job names. Raises SiteNotFound, Conflict."""
        await self._write(sites.remove, name)

    async def try_site(self, name: str) -> Sequence[Step]:
        """Try the way to a site, its scheduler and its work directory, until something is wrong.

        Raises SiteNotFound, and InvalidRequest for `local`.
        """
        site = await self._read(sites.get, name)
        if site.is_local:
            raise InvalidRequest("name", "local is this machine; `jobmgr doctor` checks it")
        return await self.dispatcher.try_site(site)


def _check_options(site: Site) -> None:
    try:
        registry.check_options(site.dialect or "", site.defaults.directives)
    except InvalidRequest as error:
        raise InvalidRequest("defaults.directives", error.message) from None


def _site(name: str, asked: SiteAsked) -> Site:
    if re.fullmatch(SITE_NAME, name) is None:
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
    ssh = {key: value for key, value in msgspec.structs.asdict(asked.ssh).items() if value is not None}
    return Site(
        name=name,
        dialect=asked.kind,
        way=Way.LOCAL if asked.host is None else Way.SSH,
        host=asked.host,
        work_dir=asked.work_dir.rstrip("/") or "/" if asked.work_dir else None,
        is_enabled=asked.enabled,
        max_submitted=asked.max_submitted,
        max_running=asked.max_running,
        defaults=to_resources(asked.defaults, "defaults."),
        ssh=ssh if asked.host is not None else {},
    )
