"""COPY of rows in PostgreSQL's binary format, which is the fastest way in."""

import struct
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import Connection

from reviews.prediction import Prediction

PREDICTION_COPY = (
    "COPY prediction (record, task, adapter_id, label, confidence, probabilities, margin, entropy, "
    "truncated, scored_at) FROM STDIN (FORMAT BINARY)"
)
PREDICTION_TYPES = (
    "int8", "text", "int4", "text", "float4", "float4[]", "float4", "float4", "bool", "timestamptz",
)  # fmt: skip

_FLOAT4_OID = 700
_FLOAT4_ARRAY_OID = 1021


def prediction_values(
    record: int, adapter_id: int, answer: Prediction, scored_at: datetime
) -> tuple[Any, ...]:
    """A row for :data:`PREDICTION_COPY`."""
    return (
        record,
        answer.task,
        adapter_id,
        answer.label,
        answer.confidence,
        answer.probabilities,
        answer.margin,
        answer.entropy,
        answer.truncated,
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
