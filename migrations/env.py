"""Alembic's entry: runs on the connection it is given, or opens one to `sqlalchemy.url` of alembic.ini."""

import sqlalchemy as sa
from alembic import context

from jobmgr.store.tables import Base


def run(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite alters tables by rebuilding them.
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = context.config.get_main_option("sqlalchemy.url") or ""
    with sa.create_engine(url).begin() as opened:
        run(opened)
