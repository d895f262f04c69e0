"""Alembic's entry point: runs the migrations over the connection of ``storage.migrate``."""

from alembic import context
from sqlalchemy import text

from storage.migrate import LOCK_SECONDS, UPGRADE_LOCK
from storage.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    # However long an index takes to build, and however long another process is at work here.
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": UPGRADE_LOCK})
    # A session that waits for a table's lock makes all behind it wait, running workers too: not for long.
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
    context.run_migrations()
