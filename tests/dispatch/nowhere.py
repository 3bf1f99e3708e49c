"""For dispatchers that have no foreign queues."""

from __future__ import annotations

from typing import NoReturn

from jobmgr.domain.site import Site


def no_other(site: Site) -> NoReturn:
    """No other site is made."""
    raise AssertionError(f"no executor is expected for {site.name}")
