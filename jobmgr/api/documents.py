"""The two faces of the API's description: OpenAPI for programs, a page for people."""

from __future__ import annotations

from aiohttp import web

from jobmgr.api.keys import DOCUMENTS


async def openapi(request: web.Request) -> web.Response:
    """The OpenAPI document."""
    return web.Response(body=request.app[DOCUMENTS].openapi, headers={"Content-Type": "application/json"})


async def docs(request: web.Request) -> web.Response:
    """The same as a page."""
    documents = request.app[DOCUMENTS]
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": documents.page_policy}
    return web.Response(body=documents.page, headers=headers)
