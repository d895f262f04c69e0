"""Withdrawals into rows, in the one transaction of their stream; a view decides which reviews they hide."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from reviews.record_id import MAX_OFFSET, OFFSET_BITS, record_id
from reviews.stream_records import PartitionRange
from storage.copying import copy_rows
from storage.database import Database

MOST_SHOWN = 50

_COPY = "COPY withdrawal (record, review_id, kind, received_at, timestamp_ms) FROM STDIN (FORMAT BINARY)"
_TYPES = ("int8", "text", "text", "timestamptz", "int8")
# The latest first, in the order in which they compare with versions.
_OF_REVIEW = text(f"""
SELECT w.record, w.review_id, w.kind, w.received_at, to_timestamp(w.timestamp_ms / 1000.0),
       s.topic, s.partition, w.record & {MAX_OFFSET}
  FROM withdrawal w JOIN stream_partition s ON s.id = (w.record >> {OFFSET_BITS})::integer
 WHERE w.review_id = :review_id
 ORDER BY w.timestamp_ms DESC, w.received_at DESC, w.record DESC LIMIT {MOST_SHOWN}
""")  # noqa: S608  nothing but the constants above


class StoredWithdrawal(NamedTuple):
    """A stored withdrawal of a review.

    Attributes:
        record: The number that names it in this database.
        review_id: The publisher's id of the review.
        kind: ``delete`` or ``tombstone``.
        received_at: When a worker received it (UTC).
        withdrawn_at: Kafka's time of it (UTC); versions that Kafka had before are withdrawn.
        topic: Kafka's topic.
        partition: Kafka's partition.
        offset: Its offset there.
    """

    record: int
    review_id: str
    kind: str
    received_at: datetime
    withdrawn_at: datetime
    topic: str
    partition: int
    offset: int


def copy_withdrawals(connection: Connection, ranges: Iterable[PartitionRange[Any]]) -> None:
    """Store the withdrawals of ranges, as a part of the connection's transaction."""
    rows = [
        (
            record_id(part.partition_id, withdrawal.offset),
            withdrawal.message.id,
            withdrawal.message.kind,
            withdrawal.received_at,
            withdrawal.arrived_ms,  # the column timestamp_ms
        )
        for part in ranges
        for withdrawal in part.withdrawals
    ]
    if rows:
        copy_rows(connection, _COPY, _TYPES, rows)


def find_withdrawals(database: Database, review_id: str) -> list[StoredWithdrawal]:
    """The withdrawals of a review, the latest first; the latest fifty where there are more."""
    return [StoredWithdrawal(*row) for row in database.fetch(_OF_REVIEW, {"review_id": review_id})]
