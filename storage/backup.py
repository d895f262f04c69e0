"""What ``backup`` and ``restore`` ask of a whole database; only its owner does, and nothing waits for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple

from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, text

from reviews.backup import BackedUpAdapter, BackupContent, StoredOffset
from reviews.errors import WrongUse
from storage.database import Database, without_transaction

# As pg_dump itself begins, on a standby too.
_BEGIN = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_WAIT_FOR_DUMP = "SET LOCAL idle_in_transaction_session_timeout = 0"
_SNAPSHOT = text("SELECT pg_export_snapshot(), clock_timestamp()")
_MAJOR = text("SELECT current_setting('server_version_num')::int / 10000")
_SIZE = text("SELECT pg_database_size(current_database())")
_REVISION = text("SELECT version_num FROM alembic_version")
_TABLES = text("""
SELECT c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS quoted
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = current_schema()
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
 ORDER BY c.relname
""")
_ANYTHING = text("""
SELECT c.relname
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
 ORDER BY c.relname LIMIT 1
""")
_POSITIONS = text("""
SELECT cluster_id, topic, topic_id, partition, next_offset FROM stream_partition
 ORDER BY cluster_id, topic, topic_id, partition
""")
_ADAPTERS = text("""
SELECT version, task, content_hash, id IN (SELECT adapter_id FROM active_adapter) AS is_active
  FROM adapter ORDER BY id
""")
# Another server has counted fewer transactions. Labels of the future would never be exported.
_FORGET_TRANSACTIONS = text("""
UPDATE label SET transaction_id = 0
 WHERE transaction_id >= CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint)
""")
_ANALYZE = text("ANALYZE")


class DumpAddress(NamedTuple):
    """How PostgreSQL's own programs reach the server of a connection.

    Attributes:
        conninfo: Of libpq, without a password.
        password: For the environment; empty where none was needed.
        major: PostgreSQL's major version.
    """

    conninfo: str
    password: str
    major: int


class DatabaseSnapshot(NamedTuple):
    """One moment of a database, as long as its transaction is open.

    Attributes:
        connection: In that transaction.
        name: By which other sessions of the same server see the same.
        taken_at: When.
        address: Of the server that has it.
    """

    connection: Connection
    name: str
    taken_at: datetime
    address: DumpAddress

    def content(self) -> BackupContent:
        """What is in the database; it counts all rows."""
        return _content(self.connection, self.address.major)


@contextmanager
def snapshot_of(database: Database) -> Iterator[DatabaseSnapshot]:
    """A snapshot that stays open until the block ends, however long a dump of it takes.

    Raises:
        Unavailable: If the database does not answer.
    """
    with without_transaction(database, waits=True) as connection:
        connection.exec_driver_sql(_BEGIN)
        connection.exec_driver_sql(_WAIT_FOR_DUMP)
        row = connection.execute(_SNAPSHOT).one()
        yield DatabaseSnapshot(connection, row[0], row[1], _address(connection))
        connection.exec_driver_sql("COMMIT")


def address_of_empty(database: Database) -> DumpAddress:
    """How to reach a database that holds nothing.

    Raises:
        WrongUse: If it holds something, which is left as it is.
    """
    with database.begin() as connection:
        found = connection.execute(_ANYTHING).scalar()
        if found is not None:
            raise WrongUse(
                f"The database {database.place} is not empty (it has '{found}'), and nothing was changed: "
                "create a new database and name it in database.url."
            )
        return _address(connection)


def content_of(database: Database) -> BackupContent:
    """What is in the database now; it counts all rows."""
    with without_transaction(database, waits=True) as connection:
        return _content(connection, int(connection.execute(_MAJOR).scalar_one()))


def settle(database: Database) -> None:
    """Make restored rows fit their new server: its count of transactions, and its statistics."""
    with without_transaction(database, waits=True) as connection:
        connection.execute(_FORGET_TRANSACTIONS)
        connection.execute(_ANALYZE)


def _content(connection: Connection, major: int) -> BackupContent:
    rows = {
        table.relname: connection.exec_driver_sql(f"SELECT count(*) FROM {table.quoted}").scalar_one()  # noqa: S608  quoted by the server
        for table in connection.execute(_TABLES).all()
    }
    positions = [StoredOffset(**row) for row in connection.execute(_POSITIONS).mappings()]
    adapters = [BackedUpAdapter(**row) for row in connection.execute(_ADAPTERS).mappings()]
    return BackupContent(
        revision=connection.execute(_REVISION).scalar_one(),
        server=major,
        database_bytes=connection.execute(_SIZE).scalar_one(),
        rows=rows,
        positions=tuple(positions),
        adapters=tuple(adapters),
    )


def _address(connection: Connection) -> DumpAddress:
    """That of the one server which this connection found, whatever hosts its URL names."""
    driver: Any = connection.connection.dbapi_connection
    info = driver.info
    given = {**info.get_parameters(), "host": info.host, "port": info.port}
    given.pop("hostaddr", None)
    return DumpAddress(make_conninfo(**given), info.password, connection.execute(_MAJOR).scalar_one())
