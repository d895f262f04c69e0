"""The stored position of each stream: one row per Kafka partition, moved only by compare-and-set."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from storage.database import Database
from storage.schema import stream_gap, stream_partition


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
    """

    partition_id: int
    cluster_id: str
    topic: str
    topic_id: str
    partition: int
    start_offset: int
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


_POSITION = (
    stream_partition.c.id,
    stream_partition.c.cluster_id,
    stream_partition.c.topic,
    stream_partition.c.topic_id,
    stream_partition.c.partition,
    stream_partition.c.start_offset,
    stream_partition.c.next_offset,
)


class PartitionStore:
    """Reads and moves stored positions.

    Raises:
        Unavailable: From every method, if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, cluster_id: str, topic_id: str, partition: int) -> StreamPosition | None:
        """The stored position of a partition; None where it was never read."""
        query = select(*_POSITION).where(
            stream_partition.c.cluster_id == cluster_id,
            stream_partition.c.topic_id == topic_id,
            stream_partition.c.partition == partition,
        )
        row = self._database.fetch_one(query)
        return StreamPosition(*row) if row else None

    def next_offsets(self, cluster_id: str, topic_id: str) -> dict[int, int]:
        """The stored offset of every partition of a topic that was ever read, by the partition's number."""
        query = select(stream_partition.c.partition, stream_partition.c.next_offset).where(
            stream_partition.c.cluster_id == cluster_id, stream_partition.c.topic_id == topic_id
        )
        return {row.partition: row.next_offset for row in self._database.fetch(query)}

    def register(
        self, cluster_id: str, topic: str, topic_id: str, partition: int, start_offset: int
    ) -> StreamPosition:
        """The position of a partition that is read for the first time, perhaps by several workers at once."""
        self.register_all(cluster_id, topic, topic_id, {partition: start_offset})
        position = self.find(cluster_id, topic_id, partition)
        if position is None:
            raise RuntimeError(f"The position of {topic}[{partition}] vanished while it was registered.")
        return position

    def register_all(
        self, cluster_id: str, topic: str, topic_id: str, start_offsets: Mapping[int, int]
    ) -> None:
        """Positions of partitions that are read for the first time; those that are there stay as they are.

        Args:
            cluster_id: The Kafka cluster.
            topic: The topic's name.
            topic_id: The topic's id.
            start_offsets: Where reading begins, by partition.
        """
        rows = [
            {
                "cluster_id": cluster_id,
                "topic": topic,
                "topic_id": topic_id,
                "partition": partition,
                "start_offset": start_offset,
                "next_offset": start_offset,
            }
            for partition, start_offset in sorted(start_offsets.items())  # else two at once may deadlock
        ]
        if rows:
            self._database.execute(upsert(stream_partition).values(rows).on_conflict_do_nothing())

    def is_read(self, cluster_id: str, topic_id: str) -> bool:
        """Whether any partition of this topic has a position."""
        found = exists().where(
            stream_partition.c.cluster_id == cluster_id, stream_partition.c.topic_id == topic_id
        )
        return bool(self._database.fetch_value(select(found)))

    def other_streams(self, cluster_id: str, topic: str, topic_id: str) -> list[StreamPosition]:
        """Positions of earlier topics of the same name: the topic was deleted and made again."""
        query = select(*_POSITION).where(
            stream_partition.c.cluster_id == cluster_id,
            stream_partition.c.topic == topic,
            stream_partition.c.topic_id != topic_id,
        )
        return [StreamPosition(*row) for row in self._database.fetch(query)]

    def record_gap(self, partition_id: int, expected: int, available: int, reason: str = "retention") -> bool:
        """Write down that [expected, available) will not be read, and go on behind it (I3).

        Returns:
            Whether the position was still ``expected``; if not, nothing was written.
        """
        with self._database.begin() as connection:
            if not advance(connection, partition_id, expected, available):
                return False
            connection.execute(
                insert(stream_gap).values(
                    stream_partition_id=partition_id,
                    first_offset=expected,
                    next_offset=available,
                    reason=reason,
                )
            )
            return True

    def list_positions(self) -> list[StreamPosition]:
        """Every stored position, by topic and partition."""
        query = select(*_POSITION).order_by(stream_partition.c.topic, stream_partition.c.partition)
        return [StreamPosition(*row) for row in self._database.fetch(query)]

    def list_gaps(self) -> list[StreamGap]:
        """Every gap that was found, newest first."""
        query = (
            select(
                stream_partition.c.topic,
                stream_partition.c.partition,
                stream_gap.c.first_offset,
                stream_gap.c.next_offset,
                stream_gap.c.found_at,
                stream_gap.c.reason,
            )
            .join(stream_partition, stream_partition.c.id == stream_gap.c.stream_partition_id)
            .order_by(stream_gap.c.found_at.desc())
        )
        return [StreamGap(*row) for row in self._database.fetch(query)]


def advance(connection: Connection, partition_id: int, expected: int, next_offset: int) -> bool:
    """Move a position by compare-and-set (I2); False where another worker moved it before."""
    statement = (
        update(stream_partition)
        .where(stream_partition.c.id == partition_id, stream_partition.c.next_offset == expected)
        .values(next_offset=next_offset)
        .returning(stream_partition.c.id)
    )
    return connection.execute(statement).first() is not None
