"""Retries can ask for more: how much, and what the next attempt of a job asks for by now."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("specs", sa.Column("growth", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("grown", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "grown")
    op.drop_column("specs", "growth")
