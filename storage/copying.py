"""COPY in PostgreSQL's binary format: the fastest way in for rows, and out for columns of fixed width.

The format: PostgreSQL's documentation of COPY, "Binary Format". A row is the number of its fields and, for
each, its length and its bytes. Without NULLs and with types of fixed length all rows are equally long, so
that they become arrays and no Python object is made for a value.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import Connection

from reviews.errors import ReviewLoopError
from reviews.prediction import Prediction

_PREDICTION_COLUMNS = (
    "record, task, adapter_id, label, confidence, probabilities, margin, entropy, truncated, scored_at"
)
PREDICTION_COPY = f"COPY prediction ({_PREDICTION_COLUMNS}) FROM STDIN (FORMAT BINARY)"
PREDICTION_TYPES = (
    "int8", "text", "int4", "text", "float4", "float4[]", "float4", "float4", "bool", "timestamptz",
)  # fmt: skip
RESCORED_COPY = f"COPY prediction ({_PREDICTION_COLUMNS}, rescore_job_id) FROM STDIN (FORMAT BINARY)"
RESCORED_TYPES = (*PREDICTION_TYPES, "int4")

JSONB_VERSION = b"\x01"
"""Stands before the JSON of a value of type jsonb; a column of such bytes is copied as ``bytea``."""

_FLOAT4_OID = 700
_FLOAT4_ARRAY_OID = 1021


def prediction_values(
    record: int, adapter_id: int, prediction: Prediction, scored_at: datetime
) -> tuple[Any, ...]:
    """A row for :data:`PREDICTION_COPY`."""
    return (
        record,
        prediction.task,
        adapter_id,
        prediction.label,
        prediction.confidence,
        prediction.probabilities,
        prediction.margin,
        prediction.entropy,
        prediction.truncated,
        scored_at,
    )


def copy_rows(
    connection: Connection, statement: str, types: Sequence[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    """Copy rows as a part of the connection's transaction.

    Args:
        connection: In a transaction.
        statement: A binary COPY from standard input.
        types: PostgreSQL's names of the columns' types.
        rows: Their values.
    """
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment]
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        cursor.adapters.register_dumper(tuple, _RealsDumper)
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


class _RealsDumper(Dumper):
    """Floats as binary real[]; psycopg's own dumper, for lists of any nesting, takes three times as long."""

    format = Format.BINARY
    oid = _FLOAT4_ARRAY_OID

    def dump(self, obj: Sequence[float]) -> bytes:
        # One dimension without NULLs, its length, its lower bound; then each value behind its length of 4.
        lengths_and_values = [item for value in obj for item in (4, value)]
        return _reals(len(obj)).pack(1, 0, _FLOAT4_OID, len(obj), 1, *lengths_and_values)


@cache
def _reals(count: int) -> struct.Struct:
    return struct.Struct("!iiIii" + "if" * count)


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
