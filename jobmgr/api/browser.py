"""What a browser may do here for the page that it shows: a page of this service, of an allowed site, or of another.

A browser adds to requests what no page can change: the name that it looked up (Host), where the page is from (Origin,
Referer), and how the two are related (Sec-Fetch-Site). Programs send nothing of it but Host, and are not judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from jobmgr.api.problems import Refusal

# What pages of allowed sites may send and read beside what every page may (Fetch standard, CORS-safelisted headers).
_SENT = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range"
_READ = (
    "Accept-Ranges, Content-Disposition, Content-Range, Link, Location, Retry-After, WWW-Authenticate, "
    "X-Log-Offset, X-Log-Size, X-Next-Cursor"
)
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_REMEMBERED_S = 600
_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Browsers:
    """Judges what browsers send.

    `hosts` are the names, with port, by which they may know this service; if empty any name will do, which is safe only
    where a token is always asked for. Pages of `origins` (`https://site.example`) may use it as its own pages do.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def check(self, request: web.Request) -> None:
        """Raise Refusal if a browser sends this for a page that may not have it sent."""
        self._check_host(request)
        origins = request.headers.getall("Origin", [])
        for origin in origins:
            if not (origin.lower() in self.origins or _is_own(origin, request)):
                raise _refusal(origin)
        if origins and origins[0].lower() in self.origins:
            return
        if not origins and not _reads(request):
            self._check_referer(request)
        _check_relation(request)

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks whether a page may send something; None if it does not ask that.

        The question comes without a token, whatever will be sent. Raises Refusal.
        """
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return None
        self.check(request)
        headers = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _SENT,
            "Access-Control-Max-Age": str(_REMEMBERED_S),
        }
        return web.Response(status=204, headers=headers)

    def allow(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the page of an allowed site read the answer. Never with credentials: browsers keep none of ours."""
        if not self.origins:
            return
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin", "")
        if origin.lower() in self.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _READ

    def _check_host(self, request: web.Request) -> None:
        # A web page whose name was rebound to our address still sends its own name here.
        for host in request.headers.getall("Host", [""]):
            if self.hosts and host.lower() not in self.hosts:
                names = ", ".join(sorted(self.hosts))
                raise Refusal(
                    421,
                    "wrong_host",
                    f"the Host header {host!r} is not a name of this service ({names}); "
                    "`allowed_hosts` among its settings adds others",
                )

    def _check_referer(self, request: web.Request) -> None:
        # Of what pages post without asking, older browsers say only here where it is from.
        for referer in request.headers.getall("Referer", []):
            origin = "{0.scheme}://{0.netloc}".format(_split(referer))
            if not (origin.lower() in self.origins or _is_own(origin, request)):
                raise _refusal(referer)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def _is_own(origin: str, request: web.Request) -> bool:
    # The name was judged before. A proxy that ends TLS hands it on, so the scheme is its own affair.
    scheme, _, authority = origin.lower().partition("://")
    host = request.headers.get("Host", "").lower()
    return bool(host) and scheme in _SCHEMES and authority == host


def _check_relation(request: web.Request) -> None:
    """Refuse what a page of another site has fetched or embedded; that a user follows its link is fine."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site in ("same-origin", "none"):
        return
    # Fetch Metadata's policy of isolation. Another port of this machine is the same site, but another's page.
    follows = (request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest"))
    if _reads(request) and follows == ("navigate", "document"):
        return
    raise Refusal(403, "wrong_origin", "pages of other sites may only link to this service")


def _reads(request: web.Request) -> bool:
    return request.method in ("GET", "HEAD")


def _refusal(origin: str) -> Refusal:
    return Refusal(
        403,
        "wrong_origin",
        f"pages of {origin!r} may not use this service; `allowed_origins` among its settings lists those that may",
    )
