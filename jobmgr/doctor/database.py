"""Judges an SQLite file and, for both databases, the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from jobmgr.doctor.amount import in_bytes
from jobmgr.doctor.facts import SqliteFile, Trouble
from jobmgr.domain.checkup import Check, ok, problem, unchecked, warning
from jobmgr.store.file import Content, File
from jobmgr.store.integrity import Integrity
from jobmgr.store.schema import Standing

_ROOT = 0
# The service keeps it at a sixteenth of this, except while somebody reads.
_MUCH_LOG_BYTES = 10**9


def judge_file(facts: SqliteFile, schema: Standing | Trouble, uid: int) -> Iterator[Check]:
    """All checks on an SQLite file, the schema's among them."""
    file = facts.file
    if isinstance(file, Trouble):
        remedy = "run this as the user whom the jobs belong to, or name another database with --database"
        yield problem("database", f"it cannot be looked at: {file.reason}", remedy)
        return
    yield _reachable(file, facts, schema)
    if file.is_database:
        yield judge_schema(schema, is_server=False)
        yield _integrity(facts.integrity)
        yield _journal(file)
        yield _access(file, uid)
    yield _file_system(facts)
    yield _locking(facts, file)


def _reachable(file: File, facts: SqliteFile, schema: Standing | Trouble) -> Check:
    name = "database"
    if file.is_lost:
        found = f"there is none at {file.path}, but {file.rescued} holds what a service saved of it"
        remedy = f"stop the service, `rm -f {file.path}-wal {file.path}-shm`, `mv {file.rescued} {file.path}`, start it"
        return problem(name, found, remedy)
    match file.content:
        case Content.MISSING | Content.EMPTY:
            return warning(name, f"there is none yet at {file.path}", "run `jobmgr serve`, which makes it")
        case Content.OTHER:
            remedy = "name another with --database, or put the right file in its place"
            return problem(name, f"{file.path} is not an SQLite database", remedy)
        case Content.UNREADABLE:
            return problem(
                name, f"{file.path} may not be read by this user", f"run this as user {file.owner}"
            )
        case Content.WAL | Content.ROLLBACK:
            return _readable(file, facts, schema)
    assert_never(file.content)


def _readable(file: File, facts: SqliteFile, schema: Standing | Trouble) -> Check:
    name = "database"
    if isinstance(schema, Trouble) and facts.occupant is not None:
        found = f"{file.path} is locked by process {facts.occupant}, nobody else can use it"
        return problem(name, found, f"look at it with `ps -fp {facts.occupant}` and let it finish or end it")
    if isinstance(schema, Trouble):
        remedy = "keep a copy of the file as it is, then put a backup in its place or name another database"
        return problem(name, f"{file.path} cannot be read: {schema.reason}", remedy)
    if facts.writer is not None:
        found = f"process {facts.writer} holds the write lock of {file.path}, nothing can be stored"
        return problem(name, found, f"look at it with `ps -fp {facts.writer}` and let it finish or end it")
    return ok(name, f"{file.path}, {in_bytes(file.size_bytes)}")


def judge_schema(schema: Standing | Trouble, *, is_server: bool) -> Check:
    """Whether the tables are those of this version. A file is upgraded by the next service, a server's is not."""
    name = "schema"
    upgrade = "run `jobmgr db upgrade` with the same database"
    if isinstance(schema, Trouble):
        return unchecked(name, schema.reason)
    if schema.is_current:
        return ok(name, f"revision {schema.revision}, as this version needs it")
    if not schema.is_known:
        found = f"revision {schema.revision} was written by a newer jobmgr"
        return problem(name, found, "install that version of jobmgr, or name another database")
    if schema.revision is None:
        found = "the database has no tables of jobmgr"
    else:
        found = f"revision {schema.revision} is older than {schema.head}, which this version needs"
    if is_server:
        return problem(name, found, upgrade)
    return warning(name, found, f"start `jobmgr serve`, which upgrades it, or {upgrade}")


def _integrity(facts: Integrity | Trouble) -> Check:
    name = "integrity"
    if isinstance(facts, Trouble):
        return unchecked(name, facts.reason)
    if facts.complaints:
        remedy = "stop the service, keep a copy, and put a backup in its place"
        return problem(name, f"SQLite found damage: {'; '.join(facts.complaints)}", remedy)
    if not facts.is_complete:
        return ok(name, "nothing found in the time a quick check may take; --full reads all")
    return ok(name, "SQLite found no damage")


def _journal(file: File) -> Check:
    if file.content is Content.WAL and file.log_bytes > _MUCH_LOG_BYTES:
        found = (
            f"the write-ahead log has grown to {in_bytes(file.log_bytes)}, as it does while somebody reads"
        )
        remedy = (
            f"find who reads without a pause with `fuser -v {file.path}` and let it end: the service cuts the log back "
            "at its next write; never remove the log"
        )
        return warning("journal", found, remedy)
    if file.content is Content.WAL:
        return ok("journal", f"write-ahead log, {in_bytes(file.log_bytes)}")
    remedy = "nothing, if no service was started on it yet; else start `jobmgr serve`, which switches it back"
    return warning("journal", "not in WAL mode, so readers and the writer wait for each other", remedy)


def _access(file: File, uid: int) -> Check:
    name = "access"
    owner = f"owner {file.owner}, mode {file.mode:o}"
    if not file.may_write:
        found = f"{owner}: this user may not write it, or not beside it"
        return problem(name, found, f"run jobmgr as user {file.owner}, or name another database")
    if uid == _ROOT != file.owner:
        found = f"{owner}: what root writes here its owner may not be able to change"
        return warning(name, found, f"run jobmgr as user {file.owner}")
    if file.mode & 0o077:
        found = f"{owner}: other users may read what jobs are started with"
        return warning(name, found, f"`chmod 600 {file.path}`")
    return ok(name, owner)


def _file_system(facts: SqliteFile) -> Check:
    name = "file system"
    if facts.is_network:
        found = f"the database lies on a network file system ({facts.file_system}), where SQLite is not safe"
        return problem(name, found, "put it on a local disk with --database, or use PostgreSQL")
    return ok(name, f"the database lies on {facts.file_system or 'a file system of unknown type'}")


def _locking(facts: SqliteFile, file: File) -> Check:
    name = "locking"
    failures = facts.lock_failures
    local = "put the database on a local disk with --database, or use PostgreSQL"
    if isinstance(failures, Trouble):
        if file.is_database and not file.may_write:
            return unchecked(name, failures.reason)
        return problem(name, f"no lock could be tried beside the database: {failures.reason}", local)
    if failures:
        return problem(name, f"locks do not keep others out there ({', '.join(failures)})", local)
    return ok(name, "a second process is kept out")
