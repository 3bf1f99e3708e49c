"""Which directory a site's work directory is, whatever lies at its path: the name in it, once a service has read it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("sites", sa.Column("work_id", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("sites", "work_id")
