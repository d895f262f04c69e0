"""The stored position of each stream: one row per Kafka partition, moved only by compare-and-set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from reviews.record_id import MAX_OFFSET
from storage.database import Database


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """The stored position of one partition of one topic of one cluster.

    Attributes:
        partition_id: The stored id; a part of every record's number.
        cluster_id: The Kafka cluster.
        topic: The topic's name.
        topic_id: The topic's id; a topic made anew under the same name has another one.
        partition: The number of the partition.
        start_offset: Where reading began.
        next_offset: The first offset that is not stored yet.
        start_reason: Why it began there: ``earliest``, ``latest``, ``time``; ``group``, where the consumer
            group had committed that offset; ``added``, where the partition or topic came later; None where a
            version of this program wrote the row that did not keep it.
    """

    partition_id: int
    cluster_id: str
    topic: str
    topic_id: str
    partition: int
    start_offset: int
    next_offset: int
    start_reason: str | None = None


class PartitionMove(NamedTuple):
    """A stored position that is to grow.

    Attributes:
        partition_id: The stored id of the partition.
        expected: Where the position has to be.
        next_offset: Where it goes.
    """

    partition_id: int
    expected: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class StreamGap:
    """Offsets that were never read.

    Attributes:
        topic: The topic's name.
        partition: The number of the partition.
        first_offset: The first lost offset.
        next_offset: The offset after the last lost one.
        found_at: When the loss was noticed (UTC).
        reason: ``retention`` where Kafka had deleted them, else what was said when they were skipped by hand.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    found_at: datetime
    reason: str


CHECK_ALWAYS = MAX_OFFSET + 1
"""``erased_until`` of a partition where any record may be of a review that was erased before."""

_POSITION = (
    "SELECT id, cluster_id, topic, topic_id, partition, start_offset, next_offset, start_reason "
    "FROM stream_partition"
)
_OF_TOPIC = "cluster_id = :cluster_id AND topic_id = :topic_id"
_FIND = text(f"{_POSITION} WHERE {_OF_TOPIC}")
_ALL = text(f"{_POSITION} ORDER BY topic, partition")
# Earlier topics of the same name: the topic was deleted and made again.
_OTHER_TOPICS = text(
    f"{_POSITION} WHERE cluster_id = :cluster_id AND topic = :topic AND topic_id <> :topic_id"
)
_NEXT_OFFSETS = text(f"SELECT partition, next_offset FROM stream_partition WHERE {_OF_TOPIC}")  # noqa: S608
# In the order of partitions: else two workers at once may deadlock. A new partition may hold reviews that
# were erased before, such as those of a topic made anew.
_REGISTER = text("""
INSERT INTO stream_partition (cluster_id, topic, topic_id, partition, start_offset, next_offset, start_reason,
                              erased_until)
SELECT :cluster_id, :topic, :topic_id, partition, start, start, reason,
       CASE WHEN EXISTS (SELECT FROM erasure_review) THEN :check_always ELSE 0 END
  FROM unnest(CAST(:partitions AS integer[]), CAST(:starts AS bigint[]), CAST(:reasons AS text[]))
       AS given (partition, start, reason)
 ORDER BY partition
    ON CONFLICT DO NOTHING
""")
# The compare-and-set, of any number of positions. Their rows are locked in the order of their ids, so that
# two workers never wait for each other; one that waited compares with what it finds then.
_ADVANCE = text("""UPDATE stream_partition SET next_offset = held.next
  FROM (SELECT s.id, given.next
          FROM unnest(CAST(:ids AS integer[]), CAST(:expected AS bigint[]), CAST(:next AS bigint[]))
               AS given (id, expected, next)
          JOIN stream_partition s ON s.id = given.id AND s.next_offset = given.expected
         ORDER BY s.id FOR UPDATE OF s) held
 WHERE stream_partition.id = held.id
RETURNING stream_partition.id, stream_partition.erased_until
""")
_RECORD_GAP = text("""
INSERT INTO stream_gap (stream_partition_id, first_offset, next_offset, reason)
VALUES (:id, :expected, :next, :reason)
""")
_GAPS = text("""
SELECT s.topic, s.partition, g.first_offset, g.next_offset, g.found_at, g.reason
  FROM stream_gap g JOIN stream_partition s ON s.id = g.stream_partition_id
 ORDER BY g.found_at DESC LIMIT :most
""")


class PartitionStore:
    """Reads and moves stored positions.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, cluster_id: str, topic_id: str) -> dict[int, StreamPosition]:
        """The stored positions of a topic, by partition; those that were never read are left out."""
        rows = self._database.fetch(_FIND, {"cluster_id": cluster_id, "topic_id": topic_id})
        return {row.partition: StreamPosition(*row) for row in rows}

    def next_offsets(self, cluster_id: str, topic_id: str) -> dict[int, int]:
        """The stored offset of every partition of a topic that was ever read, by the partition's number."""
        rows = self._database.fetch(_NEXT_OFFSETS, {"cluster_id": cluster_id, "topic_id": topic_id})
        return {row.partition: row.next_offset for row in rows}

    def register(
        self, cluster_id: str, topic: str, topic_id: str, partition: int, start_offset: int
    ) -> StreamPosition:
        """The position of a partition that is read for the first time, perhaps by several workers at once."""
        self.register_all(cluster_id, topic, topic_id, {partition: start_offset})
        return self.find(cluster_id, topic_id)[partition]

    def register_all(
        self,
        cluster_id: str,
        topic: str,
        topic_id: str,
        start_offsets: Mapping[int, int],
        reasons: Mapping[int, str] | None = None,
    ) -> None:
        """Positions of partitions that are read for the first time; those that are there stay as they are.

        Args:
            cluster_id: The Kafka cluster.
            topic: The topic's name.
            topic_id: The topic's id.
            start_offsets: Where reading begins, by partition.
            reasons: Why it begins there, by partition.
        """
        given = {
            "cluster_id": cluster_id,
            "topic": topic,
            "topic_id": topic_id,
            "partitions": list(start_offsets),
            "starts": list(start_offsets.values()),
            "check_always": CHECK_ALWAYS,
            "reasons": [(reasons or {}).get(partition) for partition in start_offsets],
        }
        self._database.execute(_REGISTER, given)

    def other_streams(self, cluster_id: str, topic: str, topic_id: str) -> list[StreamPosition]:
        """Positions of earlier topics of the same name: the topic was deleted and made again."""
        given = {"cluster_id": cluster_id, "topic": topic, "topic_id": topic_id}
        return [StreamPosition(*row) for row in self._database.fetch(_OTHER_TOPICS, given)]

    def record_gap(self, partition_id: int, expected: int, available: int, reason: str = "retention") -> bool:
        """Write down that [expected, available) will not be read, and go on behind it (I3).

        Returns:
            Whether the position was still ``expected``; if not, nothing was written.
        """
        gap = {"id": partition_id, "expected": expected, "next": available, "reason": reason}
        with self._database.begin() as connection:
            is_ours = bool(advance(connection, [PartitionMove(partition_id, expected, available)]))
            if is_ours:
                connection.execute(_RECORD_GAP, gap)
        return is_ours

    def list_positions(self) -> list[StreamPosition]:
        """Every stored position, by topic and partition."""
        return [StreamPosition(*row) for row in self._database.fetch(_ALL)]

    def list_gaps(self, most: int = 10_000) -> list[StreamGap]:
        """The gaps that were found last, newest first."""
        return [StreamGap(*row) for row in self._database.fetch(_GAPS, {"most": most})]


def advance(connection: Connection, moves: Sequence[PartitionMove]) -> dict[int, int]:
    """Move positions by compare-and-set (I2), at most one of each partition.

    Returns:
        The ids of those that moved, each with the offset up to which records may be of an erased review; the
        others had been moved by another worker before.
    """
    ids, expected, next_offsets = zip(*moves, strict=True) if moves else ((), (), ())
    given = {"ids": list(ids), "expected": list(expected), "next": list(next_offsets)}
    return {row.id: row.erased_until for row in connection.execute(_ADVANCE, given)}
