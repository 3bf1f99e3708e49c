"""Jobs that wait in foreign queues can be held there: what such a queue was not told yet, and where to look for it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_UNTOLD = "hold_untold IS NOT NULL OR priority_untold IS NOT NULL"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("hold_untold", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("priority_untold", sa.Integer(), nullable=True))
    op.create_index(
        "ix_jobs_untold",
        "jobs",
        ["id"],
        sqlite_where=sa.text(_UNTOLD),
        postgresql_where=sa.text(_UNTOLD),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_untold", "jobs")
    op.drop_column("jobs", "priority_untold")
    op.drop_column("jobs", "hold_untold")
