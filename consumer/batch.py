"""A batch on its way through the stages: contiguous slices of partitions, record by record."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from broker.subscription import TopicPartition
from reviews.batch import DeadLetter, Replay
from reviews.message import ReviewMessage


class Accepted(NamedTuple):
    """A valid review that waits for its scores."""

    offset: int
    message: ReviewMessage
    published_at: datetime
    received_at: datetime
    raw: bytes | None
    key: bytes | None
    timestamp_ms: int = -1
    replay: Replay | None = None


@dataclass(slots=True)
class Slice:
    """The records of one partition in [expected, next), as delivered (I3).

    Attributes:
        partition: Where they come from.
        partition_id: The stored id of that stream.
        expected: The offset that the slice continues.
        next: The offset behind its last record.
        accepted: The valid reviews, in order of offset.
        dead_letters: The others, in order of offset.
    """

    partition: TopicPartition
    partition_id: int
    expected: int
    next: int
    accepted: list[Accepted] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


@dataclass(slots=True)
class Batch:
    """What goes through the classifier together.

    Attributes:
        slices: At most one per partition.
        tokens: About how many tokens the texts have.
        records: How many records it holds.
        opened_at: When its first record came, in seconds of a monotonic clock.
    """

    opened_at: float
    slices: dict[TopicPartition, Slice] = field(default_factory=dict)
    tokens: int = 0
    records: int = 0

    def accepted(self) -> Iterator[Accepted]:
        """Every valid review, slice by slice."""
        for part in self.slices.values():
            yield from part.accepted

    def texts(self) -> list[str]:
        """The texts of :meth:`accepted`, in the same order."""
        return [review.message.text for review in self.accepted()]
