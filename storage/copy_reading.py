"""Many rows of fixed width straight from COPY into arrays: no Python object is made for a value.

The format: PostgreSQL's documentation of COPY, "Binary Format". A row is the number of its fields and, for
each, its length and its bytes; without NULLs and with types of fixed length all rows are equally long.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy import Connection

from reviews.errors import ReviewLoopError

BIGINT = np.dtype(">i8")
INTEGER = np.dtype(">i4")
REAL = np.dtype(">f4")
TIMESTAMP = np.dtype(">i8")
"""Microseconds since :data:`EPOCH_2000`."""

EPOCH_2000 = 946_684_800
"""Where PostgreSQL's times begin, in seconds since 1970."""

_HEADER_BYTES = 19  # signature 11, flags 4, length of no extension 4
_TRAILER = b"\xff\xff"
_CHUNK_BYTES = 4 << 20

Columns = dict[str, npt.NDArray[Any]]


def copy_columns(
    connection: Connection, query: str, parameters: Mapping[str, Any], types: Mapping[str, "np.dtype[Any]"]
) -> Columns:
    """The columns of a query, by the names and in the order of ``types``, in this machine's byte order.

    Memory: the arrays twice, and some megabytes.

    Args:
        connection: Inside a transaction.
        query: A SELECT whose columns are of these types and never NULL.
        parameters: Values for ``%(name)s`` in the query.
        types: The columns; ``np.dtype("V768")`` for bytes of that length.

    Raises:
        ReviewLoopError: If a value is NULL or of another length.
    """
    row = np.dtype([("fields", ">i2"), *(pair for name in types for pair in _field(name, types[name]))])
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    chunks, buffer, begun = [_native(b"", row, types)], bytearray(), False
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)", parameters) as copy,
    ):
        for block in copy:
            buffer += block
            if not begun and len(buffer) >= _HEADER_BYTES:
                del buffer[:_HEADER_BYTES]
                begun = True
            if begun and len(buffer) >= _CHUNK_BYTES:
                whole = len(buffer) // row.itemsize * row.itemsize
                chunks.append(_native(bytes(buffer[:whole]), row, types))
                del buffer[:whole]
    if not buffer.endswith(_TRAILER) or (len(buffer) - len(_TRAILER)) % row.itemsize:
        raise ReviewLoopError(_unexpected())
    chunks.append(_native(bytes(buffer[: -len(_TRAILER)]), row, types))
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in types}


def to_seconds(timestamps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64: seconds since 1970 of PostgreSQL's microseconds since 2000."""
    return timestamps // 1_000_000 + EPOCH_2000


def _field(name: str, type_: "np.dtype[Any]") -> tuple[tuple[str, Any], tuple[str, Any]]:
    return (f"bytes of {name}", ">i4"), (name, type_)


def _native(content: bytes, row: "np.dtype[Any]", types: Mapping[str, "np.dtype[Any]"]) -> Columns:
    rows = np.frombuffer(content, row)
    lengths_fit = all((rows[f"bytes of {name}"] == types[name].itemsize).all() for name in types)
    if not lengths_fit or not (rows["fields"] == len(types)).all():
        raise ReviewLoopError(_unexpected())
    return {name: rows[name].astype(types[name].newbyteorder("=")) for name in types}


def _unexpected() -> str:
    return "The database sent other rows than asked for: a stored value is missing or has a wrong length."
