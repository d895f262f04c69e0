"""Alembic's entry: runs the migrations over the connection that ``storage.migrate`` hands it."""

from alembic import context
from sqlalchemy import text

from storage.schema import metadata

# Any number of processes may upgrade at once: one works, the others wait and find nothing left to do.
_UPGRADE_LOCK = 0x5265766965774C6F

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UPGRADE_LOCK})
    context.run_migrations()
