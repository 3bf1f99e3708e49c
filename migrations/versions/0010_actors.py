"""Events say who asked for what happened, and from where; those before, and what a service does by itself, do not."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("events", sa.Column("actor", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("origin", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("events", "origin")
    op.drop_column("events", "actor")
