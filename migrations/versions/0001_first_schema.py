"""The first schema. Holds the columns that later front doors need, so that they rewrite nothing."""

import secrets
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

MOMENT = sa.DateTime(timezone=True)
# SQLite counts only INTEGER PRIMARY KEY columns up by itself.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "dispatchers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("boot_id", sa.Text(), nullable=False),
        sa.Column("pid_namespace", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("start_ticks", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat", sa.BigInteger(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("stopped_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatchers")),
    )
    op.create_table(
        "events",
        sa.Column("seq", KEY, autoincrement=True, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("job", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("v", sa.Integer(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_events")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_job", "events", ["job", "seq"], unique=False)
    op.create_table(
        "installation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("pruned_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "limits",
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("max_concurrent_jobs", sa.Integer(), nullable=True),
        sa.Column("max_cpu_percent", sa.Float(), nullable=True),
        sa.Column("min_memory_gb", sa.Float(), nullable=True),
        sa.Column("min_disk_gb", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("service", name=op.f("pk_limits")),
    )
    op.create_table(
        "queues",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=True),
        sa.Column("pending", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queued", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("live", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cancelled", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_queues")),
    )
    op.create_table(
        "sites",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("executor", sa.Text(), nullable=False),
        sa.Column("dialect", sa.Text(), nullable=True),
        sa.Column("transport", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("configuration", sa.JSON(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sites")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", KEY, autoincrement=True, nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("v", sa.Integer(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("cpus", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("draft", sa.Boolean(), nullable=False),
        sa.Column("held_at", MOMENT, nullable=True),
        sa.Column("due_at", MOMENT, nullable=True),
        sa.Column("deps_left", sa.Integer(), nullable=False),
        sa.Column("cancel_requested_at", MOMENT, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("attempts_counted", sa.Integer(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("queued_at", MOMENT, nullable=True),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("work_dir", sa.Text(), nullable=True),
        sa.Column("extended_properties", sa.JSON(), nullable=False),
        sa.Column("campaign_id", sa.BigInteger(), nullable=True),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("index", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("custom_status", sa.Text(), nullable=True),
        sa.Column("status_message", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(status IN ('cancelled', 'completed', 'failed')) = (finished_at IS NOT NULL)",
            name=op.f("ck_jobs_finished"),
        ),
        sa.CheckConstraint(
            "status IN ('cancelled', 'claimed', 'completed', 'failed', 'paused', 'pending', 'queued', 'running', "
            "'scheduled')",
            name=op.f("ck_jobs_status"),
        ),
        sa.CheckConstraint("deps_left >= 0", name=op.f("ck_jobs_deps_left")),
        sa.ForeignKeyConstraint(["queue"], ["queues.name"], name=op.f("fk_jobs_queue_queues")),
        sa.ForeignKeyConstraint(["site"], ["sites.name"], name=op.f("fk_jobs_site_sites")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("job_id", name=op.f("uq_jobs_job_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_jobs_cancelling",
        "jobs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("cancel_requested_at IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("cancel_requested_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.create_index(
        "ix_jobs_due",
        "jobs",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("status = 'pending' AND due_at IS NOT NULL"),
        postgresql_where=sa.text("status = 'pending' AND due_at IS NOT NULL"),
    )
    asking = sa.text("status = 'queued' AND (cpus > 0 OR memory_bytes > 0 OR gpus > 0)")
    op.create_index(
        "ix_jobs_asking",
        "jobs",
        ["site", sa.literal_column("priority DESC"), "id"],
        unique=False,
        sqlite_where=asking,
        postgresql_where=asking,
    )
    op.create_index(
        "ix_jobs_live",
        "jobs",
        ["id"],
        unique=False,
        sqlite_where=sa.text("status IN ('claimed', 'paused', 'running', 'scheduled')"),
        postgresql_where=sa.text("status IN ('claimed', 'paused', 'running', 'scheduled')"),
    )
    op.create_index("ix_jobs_priority", "jobs", [sa.literal_column("priority DESC"), "id"], unique=False)
    op.create_index("ix_jobs_queue_status", "jobs", ["queue", "status", "id"], unique=False)
    op.create_index(
        "ix_jobs_queued",
        "jobs",
        ["site", "queue", sa.literal_column("priority DESC"), "id"],
        unique=False,
        sqlite_where=sa.text("status = 'queued'"),
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.create_index("ix_jobs_status", "jobs", ["status", "id"], unique=False)
    op.create_index("ix_jobs_user_status", "jobs", ["user", "status", "id"], unique=False)
    op.create_index(
        "uq_jobs_user_key",
        "jobs",
        ["user", "key"],
        unique=True,
        sqlite_where=sa.text("key IS NOT NULL"),
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    op.create_table(
        "attempts",
        sa.Column("job", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("lease", sa.Integer(), nullable=False),
        sa.Column("dispatcher", sa.Text(), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("work_dir", sa.Text(), nullable=True),
        sa.Column("claimed_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("unreachable_at", MOMENT, nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("ended_by", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("cpu_s", sa.Float(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("leftovers", sa.Integer(), nullable=False),
        sa.Column("resources", sa.JSON(), nullable=True),
        sa.Column("allocated_cpus", sa.JSON(), nullable=True),
        sa.Column("allocated_gpus", sa.JSON(), nullable=True),
        sa.CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name=op.f("ck_attempts_outcome")),
        sa.ForeignKeyConstraint(
            ["dispatcher"], ["dispatchers.id"], name=op.f("fk_attempts_dispatcher_dispatchers")
        ),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_attempts_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "number", name=op.f("pk_attempts")),
        sa.UniqueConstraint("token", name=op.f("uq_attempts_token")),
    )
    op.create_index(
        "uq_attempts_live",
        "attempts",
        ["job"],
        unique=True,
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "dependencies",
        sa.Column("child", KEY, nullable=False),
        sa.Column("parent", KEY, nullable=False),
        sa.Column("condition", sa.Text(), nullable=False),
        sa.Column("met", sa.Boolean(), nullable=True),
        sa.CheckConstraint(
            "condition IN ('success', 'failure', 'any')", name=op.f("ck_dependencies_condition")
        ),
        sa.ForeignKeyConstraint(
            ["child"], ["jobs.id"], name=op.f("fk_dependencies_child_jobs"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent"], ["jobs.id"], name=op.f("fk_dependencies_parent_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("child", "parent", name=op.f("pk_dependencies")),
    )
    op.create_index("ix_dependencies_parent", "dependencies", ["parent", "child"], unique=False)
    op.create_table(
        "job_tags",
        sa.Column("job", KEY, nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_job_tags_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "tag", name=op.f("pk_job_tags")),
    )
    op.create_index("ix_job_tags_tag", "job_tags", ["tag", "job"], unique=False)
    op.create_table(
        "specs",
        sa.Column("job", KEY, nullable=False),
        sa.Column("command", sa.JSON(), nullable=False),
        sa.Column("env", sa.JSON(), nullable=False),
        sa.Column("cwd", sa.Text(), nullable=True),
        sa.Column("walltime_s", sa.Float(), nullable=True),
        sa.Column("resources", sa.JSON(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("backoff_s", sa.Float(), nullable=False),
        sa.Column("retry_on", sa.JSON(), nullable=False),
        sa.Column("on_lost", sa.Text(), nullable=False),
        sa.Column("exit_codes", sa.JSON(), nullable=False),
        sa.Column("required_files", sa.JSON(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name=op.f("fk_specs_job_jobs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_specs")),
    )
    _insert_what_always_exists()


def _insert_what_always_exists() -> None:
    table = sa.table("sites", sa.column("name"), sa.column("executor"))
    op.bulk_insert(table, [{"name": "local", "executor": "local"}])
    op.bulk_insert(sa.table("queues", sa.column("name")), [{"name": "default"}])
    installation = sa.table(
        "installation", sa.column("id"), sa.column("epoch"), sa.column("created_at", MOMENT)
    )
    now = datetime.now(UTC)
    if op.get_bind().dialect.name == "sqlite":  # stores UTC without a zone
        now = now.replace(tzinfo=None)
    op.bulk_insert(installation, [{"id": 1, "epoch": secrets.token_hex(8), "created_at": now}])


def downgrade() -> None:

    op.drop_table("specs")
    op.drop_index("ix_job_tags_tag", table_name="job_tags")
    op.drop_table("job_tags")
    op.drop_index("ix_dependencies_parent", table_name="dependencies")
    op.drop_table("dependencies")
    op.drop_index(
        "uq_attempts_live",
        table_name="attempts",
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.drop_table("attempts")
    op.drop_index(
        "uq_jobs_user_key",
        table_name="jobs",
        sqlite_where=sa.text("key IS NOT NULL"),
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    op.drop_index("ix_jobs_user_status", table_name="jobs")
    op.drop_index("ix_jobs_status", table_name="jobs")
    op.drop_index(
        "ix_jobs_queued",
        table_name="jobs",
        sqlite_where=sa.text("status = 'queued'"),
        postgresql_where=sa.text("status = 'queued'"),
    )
    op.drop_index("ix_jobs_queue_status", table_name="jobs")
    op.drop_index("ix_jobs_priority", table_name="jobs")
    op.drop_index(
        "ix_jobs_live",
        table_name="jobs",
        sqlite_where=sa.text("status IN ('claimed', 'paused', 'running', 'scheduled')"),
        postgresql_where=sa.text("status IN ('claimed', 'paused', 'running', 'scheduled')"),
    )
    op.drop_index(
        "ix_jobs_due",
        table_name="jobs",
        sqlite_where=sa.text("status = 'pending' AND due_at IS NOT NULL"),
        postgresql_where=sa.text("status = 'pending' AND due_at IS NOT NULL"),
    )
    op.drop_index(
        "ix_jobs_cancelling",
        table_name="jobs",
        sqlite_where=sa.text("cancel_requested_at IS NOT NULL AND finished_at IS NULL"),
        postgresql_where=sa.text("cancel_requested_at IS NOT NULL AND finished_at IS NULL"),
    )
    op.drop_table("jobs")
    op.drop_table("sites")
    op.drop_table("queues")
    op.drop_table("limits")
    op.drop_table("installation")
    op.drop_index("ix_events_job", table_name="events")
    op.drop_table("events")
    op.drop_table("dispatchers")
