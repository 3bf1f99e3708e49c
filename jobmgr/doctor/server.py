"""Judges a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

from jobmgr.doctor.database import judge_schema
from jobmgr.doctor.facts import Facts, Trouble
from jobmgr.domain.checkup import Check, ok, problem, warning
from jobmgr.store.server import Server

_OLDEST_MAINTAINED = 13


def judge(facts: Facts, server: Server | Trouble) -> Iterator[Check]:
    """All checks on a server and the schema of its database."""
    if isinstance(server, Trouble):
        remedy = "see that the server runs, and that host, name, user and password in the settings are right"
        yield problem("database", f"{facts.configuration.database}: {server.reason}", remedy)
        return
    yield judge_server(facts.configuration.database, server)
    yield judge_schema(facts.schema, is_server=True)
    yield _durability(server)
    yield judge_connections(server, facts.connections_needed, is_served=facts.is_served)


def judge_server(url: str, server: Server) -> Check:
    """Whether it is one that can be used."""
    name = "database"
    found = f"{url}, PostgreSQL {server.version}"
    if server.is_read_only:
        return problem(name, f"{found}: it is read-only", "name the primary server, not a standby")
    if not server.may_write:
        remedy = "use the database user who ran `jobmgr db upgrade`, or GRANT this one what is missing"
        return problem(name, f"{found}: this database user may not write the tables", remedy)
    if server.number < _OLDEST_MAINTAINED * 10_000:
        return warning(name, found, f"use PostgreSQL {_OLDEST_MAINTAINED} or newer")
    return ok(name, found)


def _durability(server: Server) -> Check:
    if server.forgets is not None:
        return problem("durability", server.forgets, "switch it on in postgresql.conf and reload the server")
    return ok("durability", "fsync and synchronous_commit are on")


def judge_connections(server: Server, needed: int, *, is_served: bool) -> Check:
    """Whether a service gets as many as it may need."""
    name = "connections"
    found = f"{server.used_connections} of {server.max_connections} in use, a service takes up to {needed}"
    free = server.max_connections - server.used_connections
    # The connections of a service that runs are among those in use.
    if server.max_connections < needed or (free < needed and not is_served) or free < 1:
        return warning(name, found, "raise max_connections of the server, or end other sessions")
    return ok(name, found)
