"""Several dispatchers: where each keeps its files, how often it beats, and who claimed an attempt first."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("dispatchers", sa.Column("work_dir", sa.Text(), nullable=False, server_default=""))
    op.add_column("dispatchers", sa.Column("work_id", sa.Text(), nullable=False, server_default=""))
    op.add_column("dispatchers", sa.Column("heartbeat_s", sa.Float(), nullable=False, server_default="5.0"))
    op.add_column("attempts", sa.Column("claimed_by", sa.Text(), nullable=True))
    op.execute("UPDATE attempts SET claimed_by = dispatcher")


def downgrade() -> None:
    op.drop_column("attempts", "claimed_by")
    for name in ("heartbeat_s", "work_id", "work_dir"):
        op.drop_column("dispatchers", name)
