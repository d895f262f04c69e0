"""Rows as Arrow record batches, by COPY in binary format and without a Python object for a value.

The driver is Apache Arrow's own for PostgreSQL (ADBC, https://arrow.apache.org/adbc), an extra: it has a
libpq of its own and makes its own connection.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from reviews.errors import WrongUse
from storage.database import Database
from storage.errors import describe_errors

_BATCH_BYTES = 8 << 20
# In the order of the index, however many rows a statement asks for: a sort of texts would go to the disk.
_LIMITS = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL enable_sort = off",
    "SET LOCAL random_page_cost = 1.1",
)


class ArrowReader:
    """One connection that reads record batches.

    Args:
        database: Where from.
        connection: Of the driver.
    """

    def __init__(self, database: Database, connection: Any) -> None:
        self._database = database
        self._connection = connection

    def read(self, query: str) -> Iterator[Any]:
        """The rows of a query as ``pyarrow.RecordBatch`` of some megabytes each, read in one transaction.

        Args:
            query: A SELECT whose values were all written into it by this package, as numbers.

        Raises:
            Unavailable: If the database does not answer or ends the query; trying again may help.
            ReviewLoopError: If the schema does not fit, or the role may not read a table.
        """
        with describe_errors(self._database.url), _errors_of_psycopg(), self._connection.cursor() as cursor:
            for limit in _LIMITS:
                cursor.execute(limit)
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
            cursor.execute(query)
            yield from cursor.fetch_record_batch()
            self._connection.commit()


@contextmanager
def open_arrow(database: Database) -> Iterator[ArrowReader]:
    """A connection to the same database, with the same time-outs against dead peers.

    Raises:
        WrongUse: If the extra is not installed.
        Unavailable: If the database does not answer.
    """
    try:
        from adbc_driver_postgresql import dbapi
    except ImportError as err:
        raise WrongUse("Exports need the driver of Apache Arrow: pip install 'reviewloop[export]'.") from err
    with describe_errors(database.url), _errors_of_psycopg():
        connection = dbapi.connect(make_conninfo(**database.libpq_options))
    with closing(connection):
        yield ArrowReader(database, connection)


@contextmanager
def _errors_of_psycopg() -> Iterator[None]:
    """Turn the driver's errors into psycopg's, which are told apart in one place."""
    from adbc_driver_manager import Error

    try:
        yield
    except Error as err:
        kind = psycopg.errors.lookup(err.sqlstate) if err.sqlstate else psycopg.OperationalError
        raise kind(str(err)) from err
