"""Why a foreign queue lets an attempt wait: another service is asked as well, and so is the next one."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("reason", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("attempts", "reason")
