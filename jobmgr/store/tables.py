"""The schema at one look. These classes may be imported for queries of one's own; only the store writes.

`jobs` is narrow and changes often, `specs` is wide and never changes. Names of the public id and of the
integer key: `jobs.job_id` is what users see, `jobs.id` is the order of submission; other tables refer to the
latter as `job`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobmgr.domain.status import TERMINAL, Status


# As SQLAlchemy's own type writes and reads them, at a fifth of the cost. The rows and events of one transaction have
# mostly one time, which is written once.
@functools.lru_cache(maxsize=16)
def _utc_text(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


def _of_utc_text(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text + "+00:00")


def _in_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware UTC time with microseconds: timestamptz on PostgreSQL, fixed-width UTC text on SQLite."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], Any] | None:
        """Only aware times go in; SQLite has no zones, so what it stores is UTC."""
        return _utc_text if dialect.name == "sqlite" else None

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002
        """Only aware UTC times come out."""
        return _of_utc_text if dialect.name == "sqlite" else _in_utc


class Base(DeclarativeBase):
    """Constraint names are fixed, so that migrations can refer to them on both databases."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


# SQLite counts only INTEGER PRIMARY KEY columns up by itself.
_Key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
# In the order of a language, texts that begin alike need not stand together. SQLite compares by byte anyway.
_ByByte = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


_JsonOrNull = sa.JSON(none_as_null=True)


def _one_of(column: str, values: frozenset[Status] | type[Status]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in sorted(values))})"


class Job(Base):
    """One job: the row that changes. `v` grows by one with every change anybody can see."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(_Key, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(_ByByte)
    status: Mapped[str] = mapped_column(sa.Text)
    v: Mapped[int] = mapped_column(sa.Integer, default=1)
    queue: Mapped[str] = mapped_column(sa.ForeignKey("queues.name"))
    site: Mapped[str] = mapped_column(sa.ForeignKey("sites.name"))
    priority: Mapped[int] = mapped_column(sa.Integer)
    user: Mapped[str] = mapped_column(sa.Text)
    name: Mapped[str] = mapped_column(sa.Text)
    description: Mapped[str] = mapped_column(sa.Text)
    # What a claim compares with the room there is; 0 means not asked for.
    cpus: Mapped[int] = mapped_column(sa.Integer)
    memory_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    gpus: Mapped[int] = mapped_column(sa.Integer)
    # Why a job is pending: any of these four.
    draft: Mapped[bool] = mapped_column(sa.Boolean)
    held_at: Mapped[datetime | None] = mapped_column(Moment)
    due_at: Mapped[datetime | None] = mapped_column(Moment)
    deps_left: Mapped[int] = mapped_column(sa.Integer)
    cancel_requested_at: Mapped[datetime | None] = mapped_column(Moment)
    pause_requested_at: Mapped[datetime | None] = mapped_column(Moment)
    # What the foreign queue of its attempt was not told yet: the versions that changed whether it is held, its
    # priority, and that it is to go on. Null: nothing.
    hold_untold: Mapped[int | None] = mapped_column(sa.Integer)
    priority_untold: Mapped[int | None] = mapped_column(sa.Integer)
    resume_untold: Mapped[int | None] = mapped_column(sa.Integer)
    # What the next attempt asks for instead of what its spec says, because one before had too little.
    grown: Mapped[dict[str, Any] | None] = mapped_column(_JsonOrNull)
    attempt: Mapped[int] = mapped_column(sa.Integer, default=0)
    attempts_counted: Mapped[int] = mapped_column(sa.Integer, default=0)
    exit_code: Mapped[int | None] = mapped_column(sa.Integer)
    error_code: Mapped[str | None] = mapped_column(sa.Text)
    error_message: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    queued_at: Mapped[datetime | None] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    handle: Mapped[str | None] = mapped_column(sa.Text)
    work_dir: Mapped[str | None] = mapped_column(sa.Text)
    extended_properties: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    # For the front doors that come later; they rewrite nothing.
    campaign_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    parent_id: Mapped[int | None] = mapped_column(sa.BigInteger)
    index: Mapped[int | None] = mapped_column(sa.Integer)
    kind: Mapped[str | None] = mapped_column(sa.Text)
    label: Mapped[str | None] = mapped_column(sa.Text)
    key: Mapped[str | None] = mapped_column(sa.Text)
    custom_status: Mapped[str | None] = mapped_column(sa.Text)
    status_message: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (
        sa.CheckConstraint(_one_of("status", Status), name="status"),
        sa.CheckConstraint("deps_left >= 0", name="deps_left"),
        sa.CheckConstraint(f"({_one_of('status', TERMINAL)}) = (finished_at IS NOT NULL)", name="finished"),
        sa.UniqueConstraint("job_id"),
        sa.Index(
            "uq_jobs_user_key",
            "user",
            "key",
            unique=True,
            sqlite_where=sa.text("key IS NOT NULL"),
            postgresql_where=sa.text("key IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},  # keys of pruned jobs must not come back as other jobs
    )


def _partial(name: str, *columns: Any, where: str) -> sa.Index:
    return sa.Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


# The order of claims, per queue. Holds only what is queued, so its size is the backlog, not the history.
_partial("ix_jobs_queued", Job.site, Job.queue, Job.priority.desc(), Job.id, where="status = 'queued'")
# What asks for more than a slot: where to look for a large job that smaller ones keep out.
ASKING = "cpus > 0 OR memory_bytes > 0 OR gpus > 0"
_partial("ix_jobs_asking", Job.site, Job.priority.desc(), Job.id, where=f"status = 'queued' AND ({ASKING})")
_partial("ix_jobs_due", Job.due_at, where="status = 'pending' AND due_at IS NOT NULL")
_partial("ix_jobs_cancelling", Job.id, where="cancel_requested_at IS NOT NULL AND finished_at IS NULL")
# Whom somebody wants paused or resumed, or who is paused: the few whose wish and status may differ.
PAUSING = "pause_requested_at IS NOT NULL OR status = 'paused' OR resume_untold IS NOT NULL"
_partial("ix_jobs_pausing", Job.id, where=PAUSING)
UNTOLD = "hold_untold IS NOT NULL OR priority_untold IS NOT NULL"
_partial("ix_jobs_untold", Job.id, where=UNTOLD)
sa.Index("ix_jobs_status", Job.status, Job.id)
sa.Index("ix_jobs_user_status", Job.user, Job.status, Job.id)
sa.Index("ix_jobs_queue_status", Job.queue, Job.status, Job.id)
sa.Index("ix_jobs_priority", Job.priority.desc(), Job.id)


class Spec(Base):
    """What is to run; written once."""

    __tablename__ = "specs"

    job: Mapped[int] = mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    command: Mapped[list[str]] = mapped_column(sa.JSON)
    env: Mapped[dict[str, str]] = mapped_column(sa.JSON)
    cwd: Mapped[str | None] = mapped_column(sa.Text)
    walltime_s: Mapped[float | None] = mapped_column(sa.Float)
    resources: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    max_attempts: Mapped[int] = mapped_column(sa.Integer)
    backoff_s: Mapped[float] = mapped_column(sa.Float)
    retry_on: Mapped[list[str]] = mapped_column(sa.JSON)
    growth: Mapped[dict[str, Any] | None] = mapped_column(_JsonOrNull)
    on_lost: Mapped[str] = mapped_column(sa.Text)
    exit_codes: Mapped[list[int]] = mapped_column(sa.JSON)
    required_files: Mapped[list[str]] = mapped_column(sa.JSON)
    # What a job of a kind (`jobs.kind`) was made of.
    payload: Mapped[Any | None] = mapped_column(_JsonOrNull)
    # Of a job with a key: what was submitted, to tell a repetition from another job.
    fingerprint: Mapped[str | None] = mapped_column(sa.Text)


class Attempt(Base):
    """One try. Live while `finished_at` is null; `token` names it everywhere, `lease` is the right to write."""

    __tablename__ = "attempts"

    job: Mapped[int] = mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    token: Mapped[str] = mapped_column(sa.Text)
    lease: Mapped[int] = mapped_column(sa.Integer)
    dispatcher: Mapped[str] = mapped_column(sa.ForeignKey("dispatchers.id"))
    # Adoption changes `dispatcher`; where the files lie and in which boot it was claimed is known of this one.
    claimed_by: Mapped[str | None] = mapped_column(sa.Text)
    counted: Mapped[bool] = mapped_column(sa.Boolean)
    outcome: Mapped[str | None] = mapped_column(sa.Text)
    handle: Mapped[str | None] = mapped_column(sa.Text)
    # Why a foreign queue let it wait, or suspended it, when it last said another one.
    reason: Mapped[str | None] = mapped_column(sa.Text)
    work_dir: Mapped[str | None] = mapped_column(sa.Text)
    claimed_at: Mapped[datetime] = mapped_column(Moment)
    started_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    unreachable_at: Mapped[datetime | None] = mapped_column(Moment)
    exit_code: Mapped[int | None] = mapped_column(sa.Integer)
    signal: Mapped[int | None] = mapped_column(sa.Integer)
    ended_by: Mapped[str | None] = mapped_column(sa.Text)
    error_code: Mapped[str | None] = mapped_column(sa.Text)
    error_message: Mapped[str | None] = mapped_column(sa.Text)
    cpu_s: Mapped[float | None] = mapped_column(sa.Float)
    peak_memory_bytes: Mapped[int | None] = mapped_column(sa.BigInteger)
    leftovers: Mapped[int] = mapped_column(sa.Integer, default=0)
    # What this try asked for instead of what its spec says, and what it was given of the host.
    resources: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON)
    allocated_cpus: Mapped[list[int] | None] = mapped_column(sa.JSON)
    allocated_gpus: Mapped[list[str] | None] = mapped_column(sa.JSON)

    __table_args__ = (
        sa.UniqueConstraint("token"),
        sa.CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name="outcome"),
        # Per job at most one attempt is live: the database itself refuses a second one.
        sa.Index(
            "uq_attempts_live",
            "job",
            unique=True,
            sqlite_where=sa.text("finished_at IS NULL"),
            postgresql_where=sa.text("finished_at IS NULL"),
        ),
    )


class Dependency(Base):
    """`child` waits for `parent` to end as `condition` says. `met` is null until the parent has ended."""

    __tablename__ = "dependencies"

    child: Mapped[int] = mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    parent: Mapped[int] = mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    condition: Mapped[str] = mapped_column(sa.Text)
    met: Mapped[bool | None] = mapped_column(sa.Boolean)

    __table_args__ = (
        sa.CheckConstraint("condition IN ('success', 'failure', 'any')", name="condition"),
        sa.Index("ix_dependencies_parent", "parent", "child"),
    )


class JobTag(Base):
    """A tag of a job."""

    __tablename__ = "job_tags"

    job: Mapped[int] = mapped_column(sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(sa.Text, primary_key=True)

    __table_args__ = (sa.Index("ix_job_tags_tag", "tag", "job"),)


class Event(Base):
    """One committed fact. Numbers grow in the order of commits; gaps mean nothing."""

    __tablename__ = "events"

    seq: Mapped[int] = mapped_column(_Key, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(Moment)
    kind: Mapped[str] = mapped_column(sa.Text)
    # Not a foreign key: what happened to a job stays known after the job was deleted.
    job: Mapped[int | None] = mapped_column(sa.BigInteger)
    job_id: Mapped[str | None] = mapped_column(sa.Text)
    user: Mapped[str] = mapped_column(sa.Text)
    v: Mapped[int] = mapped_column(sa.Integer)
    data: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    # Who did it, and from where; null for what the service did by itself.
    actor: Mapped[str | None] = mapped_column(sa.Text)
    origin: Mapped[str | None] = mapped_column(sa.Text)

    __table_args__ = (
        sa.Index("ix_events_job", "job", "seq"),
        {"sqlite_autoincrement": True},
    )


# The audit in its order. What a page of it is filtered by stands in the index, so that it need not look at each event.
_partial("ix_events_audit", Event.at, Event.seq, Event.actor, Event.kind, where="actor IS NOT NULL")


class Queue(Base):
    """A queue with its limit and its tallies, which every change of a job's status moves along."""

    __tablename__ = "queues"

    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    paused: Mapped[bool] = mapped_column(sa.Boolean, default=False, server_default=sa.false())
    max_running: Mapped[int | None] = mapped_column(sa.Integer)
    pending: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")
    queued: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")
    live: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")
    completed: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")
    failed: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")
    cancelled: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")


class Site(Base):
    """One configured place to run; `local` always exists."""

    __tablename__ = "sites"

    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    executor: Mapped[str] = mapped_column(sa.Text)
    dialect: Mapped[str | None] = mapped_column(sa.Text)
    transport: Mapped[str | None] = mapped_column(sa.Text)
    host: Mapped[str | None] = mapped_column(sa.Text)
    configuration: Mapped[dict[str, Any]] = mapped_column(sa.JSON, server_default="{}")
    work_id: Mapped[str] = mapped_column(sa.Text, server_default="")


class Limit(Base):
    """The resource limits of one service, by the name of its host or one of its own. Null: not limited."""

    __tablename__ = "limits"

    service: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    max_concurrent_jobs: Mapped[int | None] = mapped_column(sa.Integer)
    max_cpu_percent: Mapped[float | None] = mapped_column(sa.Float)
    min_memory_gb: Mapped[float | None] = mapped_column(sa.Float)
    min_disk_gb: Mapped[float | None] = mapped_column(sa.Float)


class Dispatcher(Base):
    """A service process that claims. `heartbeat` is a counter, not a time: no clock is trusted."""

    __tablename__ = "dispatchers"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    host: Mapped[str] = mapped_column(sa.Text)
    boot_id: Mapped[str] = mapped_column(sa.Text)
    pid_namespace: Mapped[str] = mapped_column(sa.Text)
    pid: Mapped[int] = mapped_column(sa.Integer)
    start_ticks: Mapped[int] = mapped_column(sa.BigInteger)
    work_dir: Mapped[str] = mapped_column(sa.Text, server_default="")
    work_id: Mapped[str] = mapped_column(sa.Text, server_default="")
    heartbeat_s: Mapped[float] = mapped_column(sa.Float, server_default="5.0")
    heartbeat: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    started_at: Mapped[datetime] = mapped_column(Moment)
    stopped_at: Mapped[datetime | None] = mapped_column(Moment)


class Idempotency(Base):
    """A change that was made under a key of a request, and what it was answered with."""

    __tablename__ = "idempotency"

    id: Mapped[int] = mapped_column(_Key, primary_key=True, autoincrement=True)
    user: Mapped[str] = mapped_column(sa.Text)
    key: Mapped[str] = mapped_column(sa.Text)
    fingerprint: Mapped[str] = mapped_column(sa.Text)
    answer: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(Moment)

    __table_args__ = (sa.UniqueConstraint("user", "key"), sa.Index(None, "created_at"))


class User(Base):
    """Somebody whom an admin made known, by the name that their jobs carry."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    role: Mapped[str] = mapped_column(sa.Text)
    groups: Mapped[list[str]] = mapped_column(sa.JSON)
    disabled: Mapped[bool] = mapped_column(sa.Boolean)
    created_at: Mapped[datetime] = mapped_column(Moment)


class ApiToken(Base):
    """An API token: `hash` is all that is stored of its secret. The other fields say whose it is, and how long."""

    __tablename__ = "api_tokens"

    id: Mapped[str] = mapped_column(sa.Text, primary_key=True)
    user: Mapped[str] = mapped_column(sa.ForeignKey("users.name", ondelete="CASCADE"))
    hash: Mapped[str] = mapped_column(sa.Text)
    label: Mapped[str] = mapped_column(sa.Text)
    scopes: Mapped[list[str]] = mapped_column(sa.JSON)
    created_at: Mapped[datetime] = mapped_column(Moment)
    created_by: Mapped[str] = mapped_column(sa.Text)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    revoked_at: Mapped[datetime | None] = mapped_column(Moment)
    last_used_at: Mapped[datetime | None] = mapped_column(Moment)

    __table_args__ = (sa.UniqueConstraint("hash"),)


class Installation(Base):
    """One row: the epoch names this database's event numbering, and changes when a copy is promoted."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(sa.Integer, primary_key=True)
    epoch: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = mapped_column(Moment)
    pruned_seq: Mapped[int] = mapped_column(sa.BigInteger, default=0, server_default="0")
