"""What the source needs of Kafka and of the database: narrow protocols, so that fakes test the logic."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from broker.subscription import AssignmentChange, Record, TopicPartition
from storage.stream.partitions import StreamPosition


class Subscription(Protocol):
    """What the source needs of ``broker.subscription.Subscription``, which says what each part does."""

    @property
    def topic(self) -> str:
        """The name of the topic."""

    @property
    def cluster_id(self) -> str:
        """The id of the Kafka cluster."""

    def topic_id(self) -> str | None:
        """The id of the topic."""

    def is_reachable(self) -> bool:
        """Whether a broker answered lately."""

    def refresh(self) -> None:
        """Learn the topic's id anew."""

    def changes(self) -> list[AssignmentChange]:
        """What came and went."""

    def poll(self, timeout_seconds: float) -> Mapping[TopicPartition, Sequence[Record]]:
        """What was delivered."""

    def place(self, partition: TopicPartition, offset: int) -> bool:
        """Deliver from this offset on."""

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver nothing for now."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Deliver again."""

    def position(self, partition: TopicPartition) -> int | None:
        """The next offset to be delivered."""

    def bounds(self, partition: TopicPartition) -> tuple[int, int]:
        """The first offset that Kafka holds and the one after the last."""

    def end_offsets(self) -> Mapping[int, int]:
        """The offset after the last record of every partition of the topic; empty where there is none."""

    def start_offsets(self) -> Mapping[int, int]:
        """Where each partition begins of a topic that was never read."""

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell Kafka's lag tools where we are."""

    def is_member(self) -> bool:
        """Whether it has joined the group."""

    def end_offset(self, partition: TopicPartition) -> int | None:
        """The offset after the last record, as far as is known without asking."""


class Positions(Protocol):
    """What the source needs of ``PartitionStore`` (``storage.stream``), which says what each part does."""

    def find(self, cluster_id: str, topic_id: str, partition: int) -> StreamPosition | None:
        """The stored position."""

    def next_offsets(self, cluster_id: str, topic_id: str) -> Mapping[int, int]:
        """The stored offset of every partition of the topic that was ever read."""

    def register(
        self, cluster_id: str, topic: str, topic_id: str, partition: int, start_offset: int
    ) -> StreamPosition:
        """The position of a partition that is read for the first time."""

    def register_all(
        self, cluster_id: str, topic: str, topic_id: str, start_offsets: Mapping[int, int]
    ) -> None:
        """Positions of all partitions of a topic that is read for the first time."""

    def is_read(self, cluster_id: str, topic_id: str) -> bool:
        """Whether any partition of the topic has a position."""

    def other_streams(self, cluster_id: str, topic: str, topic_id: str) -> list[StreamPosition]:
        """Positions of earlier topics of the same name."""

    def record_gap(self, partition_id: int, expected: int, available: int) -> bool:
        """Write a loss down and go on behind it."""
