"""Jobs can be paused: the wish to, and where to look for it. An index that no statement used goes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_LIVE = "status IN ('claimed', 'paused', 'running', 'scheduled')"
_PAUSING = "pause_requested_at IS NOT NULL OR status = 'paused'"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("pause_requested_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_jobs_pausing",
        "jobs",
        ["id"],
        sqlite_where=sa.text(_PAUSING),
        postgresql_where=sa.text(_PAUSING),
    )
    op.drop_index("ix_jobs_live", "jobs")


def downgrade() -> None:
    op.create_index(
        "ix_jobs_live", "jobs", ["id"], sqlite_where=sa.text(_LIVE), postgresql_where=sa.text(_LIVE)
    )
    op.drop_index("ix_jobs_pausing", "jobs")
    op.drop_column("jobs", "pause_requested_at")
