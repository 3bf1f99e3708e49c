"""Sites: where jobs may run."""

from __future__ import annotations

from aiohttp import web

from jobmgr.api.idempotency import manager_of
from jobmgr.api.reply import reply
from jobmgr.wire.answers import SitesAnswer
from jobmgr.wire.requests import SiteAsked, SiteChange
from jobmgr.wire.translation import site_answer, trial_answer


async def sites(request: web.Request) -> web.Response:
    """All sites."""
    manager = manager_of(request)
    sites = await manager.sites()
    return reply(SitesAnswer([site_answer(site, manager.site_trouble(site)) for site in sites]))


async def put(request: web.Request, body: SiteAsked) -> web.Response:
    """Make a site, or change it."""
    manager = manager_of(request)
    site = await manager.put_site(request.match_info["name"], body)
    return reply(site_answer(site, manager.site_trouble(site)))


async def change(request: web.Request, body: SiteChange) -> web.Response:
    """Disable a site, or enable it."""
    manager = manager_of(request)
    site = await manager.enable_site(request.match_info["name"], enabled=body.enabled)
    return reply(site_answer(site, manager.site_trouble(site)))


async def remove(request: web.Request) -> web.Response:
    """Forget a site."""
    await manager_of(request).remove_site(request.match_info["name"])
    return web.Response(status=204)


async def trial(request: web.Request) -> web.Response:
    """Try a site."""
    name = request.match_info["name"]
    return reply(trial_answer(name, await manager_of(request).try_site(name)))
