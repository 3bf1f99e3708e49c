"""What a foreign queue suspended goes on when that queue says so, or a user: whether one did, and was not told yet."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_PAUSING = "pause_requested_at IS NOT NULL OR status = 'paused'"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("resume_untold", sa.Integer(), nullable=True))
    op.drop_index("ix_jobs_pausing", "jobs")
    _index(f"{_PAUSING} OR resume_untold IS NOT NULL")


def downgrade() -> None:
    op.drop_index("ix_jobs_pausing", "jobs")
    op.drop_column("jobs", "resume_untold")
    _index(_PAUSING)


def _index(where: str) -> None:
    op.create_index(
        "ix_jobs_pausing", "jobs", ["id"], sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )
