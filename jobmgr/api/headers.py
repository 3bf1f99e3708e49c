"""What every answer says to browsers, whatever it answers."""

from __future__ import annotations

from aiohttp import web

_HARDENING = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def harden(response: web.StreamResponse) -> None:
    """Say it, where the answer does not say more of its own, as a page does of its style."""
    for name, value in _HARDENING.items():
        response.headers.setdefault(name, value)
