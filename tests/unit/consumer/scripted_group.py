"""A consumer group of one and stored offsets, which do what a test says, and the steps that tests share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from broker.subscription import AssignmentChange, StartOffset, TopicPartition
from broker.topics import TopicChoice
from consumer.parsing import parse_reviews
from consumer.settings import ConsumerSettings
from consumer.source import Source
from storage.stream.partitions import StreamPosition

P0, P1 = TopicPartition("reviews", 0), TopicPartition("reviews", 1)


@dataclass
class Delivered:
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = b"{}"
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass
class Group:
    """A consumer group of one, as the broker would play it."""

    choice: TopicChoice = field(default_factory=lambda: TopicChoice(("reviews",)))
    id: str = "topic-1"
    group_id: str = "group"
    known: list[str] = field(default_factory=lambda: ["reviews"])
    notes: list[AssignmentChange] = field(default_factory=list)
    places: dict[TopicPartition, int] = field(default_factory=dict)
    paused: set[TopicPartition] = field(default_factory=set)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    answers: list[object] = field(default_factory=list)
    log: dict[TopicPartition, tuple[int, int]] = field(default_factory=dict)
    cluster_id: str = "cluster"
    member: bool = True
    start: str = "earliest"
    partitions: int = 1

    def is_member(self) -> bool:
        return self.member

    def assign(self, *partitions: TopicPartition) -> None:
        self.notes.append(AssignmentChange(assigned=True, partitions=frozenset(partitions)))

    def revoke(self, *partitions: TopicPartition) -> None:
        self.notes.append(AssignmentChange(assigned=False, partitions=frozenset(partitions)))

    def deliver(self, partition: TopicPartition, *offsets: int) -> None:
        self.answers.append({partition: [Delivered(offset) for offset in offsets]})

    def topic_id(self, topic: str) -> str | None:
        return self.id if self.id is None or topic == "reviews" else f"{topic}-id"

    def topics(self) -> list[str]:
        return list(self.known)

    def missing_topics(self) -> list[str]:
        return []

    def refresh(self) -> None:
        pass

    def changes(self) -> list[AssignmentChange]:
        found, self.notes = self.notes, []
        return found

    def poll(self, timeout_seconds: float) -> Mapping[TopicPartition, Sequence[Delivered]]:
        answer = self.answers.pop(0) if self.answers else {}
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def seek(self, partition: TopicPartition, offset: int) -> bool:
        self.places[partition] = offset
        self.paused.discard(partition)
        return True

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self.paused -= set(partitions)

    def position(self, partition: TopicPartition) -> int | None:
        return self.places.get(partition)

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        return self.log.get(partition, (0, 1000))

    def start_offsets(self, topic: str) -> dict[int, StartOffset]:
        return {
            partition.partition: StartOffset(self.bounds(partition)[self.start == "latest"], self.start)
            for partition in self._all()
            if partition.topic == topic
        }

    def end_offsets(self) -> dict[TopicPartition, int]:
        return {partition: self.bounds(partition)[1] for partition in self._all()}

    def _all(self) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for topic in self.known for number in range(self.partitions)]

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.committed.update(offsets)


@dataclass
class Positions:
    """The stored offsets."""

    rows: list[StreamPosition] = field(default_factory=list)
    gaps: list[tuple[int, int, int]] = field(default_factory=list)

    def find(self, cluster_id: str, topic_id: str) -> dict[int, StreamPosition]:
        return {row.partition: row for row in self.rows if row.topic_id == topic_id}

    def next_offsets(self, cluster_id: str, topic_id: str) -> dict[int, int]:
        return {row.partition: row.next_offset for row in self.rows if row.topic_id == topic_id}

    def register(
        self, cluster_id: str, topic: str, topic_id: str, partition: int, start_offset: int
    ) -> StreamPosition:
        made = StreamPosition(
            len(self.rows) + 1, cluster_id, topic, topic_id, partition, start_offset, start_offset
        )
        self.rows.append(made)
        return made

    def register_all(
        self,
        cluster_id: str,
        topic: str,
        topic_id: str,
        start_offsets: Mapping[int, int],
        reasons: Mapping[int, str],
    ) -> None:
        for partition, start_offset in start_offsets.items():
            if partition not in self.find(cluster_id, topic_id):
                made = self.register(cluster_id, topic, topic_id, partition, start_offset)
                self.rows[-1] = replace(made, start_reason=reasons[partition])

    def other_streams(self, cluster_id: str, topic: str, topic_id: str) -> list[StreamPosition]:
        return [row for row in self.rows if row.topic == topic and row.topic_id != topic_id]

    def record_gap(self, partition_id: int, expected: int, available: int) -> bool:
        self.gaps.append((partition_id, expected, available))
        self.move(partition_id, available)
        return True

    def move(self, partition_id: int, offset: int) -> None:
        self.rows = [
            replace(row, next_offset=offset) if row.partition_id == partition_id else row for row in self.rows
        ]


def source_of(group: Group, positions: Positions, **options) -> Source:
    return Source(ConsumerSettings(), group, positions, parse_reviews, **options)


def read(source: Source, group: Group, *offsets: int) -> None:
    group.deliver(P0, *offsets)
    assert source.poll(0) == len(offsets)


def taken(source: Source) -> dict[TopicPartition, tuple[int, int, list[int]]]:
    """What waits, from now on submitted: from where to where, and the records, by partition."""
    batch = source.take_rest()
    return (
        {}
        if batch is None
        else {
            partition: (part.expected, part.next, part.offsets()) for partition, part in batch.ranges.items()
        }
    )


def submit(source: Source, group: Group) -> None:
    read(source, group, 0, 1)
    assert taken(source) == {P0: (0, 2, [0, 1])}
