"""Ids of jobs are compared by byte, so that those with a common beginning stand together in their index."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    _compare_by("C")


def downgrade() -> None:
    _compare_by("default")


def _compare_by(collation: str) -> None:
    # SQLite compares by byte unless told otherwise. PostgreSQL makes the index anew, not the table.
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("jobs", "job_id", type_=sa.Text(collation=collation))
