"""A batch on its way through the stages: contiguous slices of partitions, record by record."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, NamedTuple, Protocol

from typing_extensions import TypeVar

from broker.subscription import TopicPartition
from reviews.batch import DeadLetter, Replay
from reviews.message import ReviewMessage

_CHARACTERS_PER_TOKEN = 4
_MAX_TOKENS_PER_TEXT = 512


class Deliverable(Protocol):
    """A valid record that waits to be stored, whatever its topic holds."""

    @property
    def offset(self) -> int:
        """Its offset in the partition."""

    @property
    def tokens(self) -> int:
        """About how many tokens it brings to the classifier."""

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory it takes."""


class Accepted(NamedTuple):
    """A valid review that waits for its scores.

    Attributes:
        offset: Its offset in the partition.
        message: What was published.
        published_at: When (UTC); never later than Kafka had it, but for what clocks may differ by.
        received_at: When the worker had it in hand (UTC).
        raw: The value as delivered.
        key: The key as delivered.
        timestamp_ms: Kafka's time of it, in milliseconds since 1970; of the first attempt, where it is a
            replay; below 0 where it had none.
        replay: The dead letter that it is another attempt at; None for a first attempt.
        known_ms: The same time, and that of receipt where Kafka's is none, or to come.
        stated_at: When it was published as the publisher has it, where that is to come.
    """

    offset: int
    message: ReviewMessage
    published_at: datetime
    received_at: datetime
    raw: bytes | None
    key: bytes | None
    timestamp_ms: int = -1
    replay: Replay | None = None
    known_ms: int = -1
    stated_at: datetime | None = None

    @property
    def tokens(self) -> int:
        """About how many tokens the text has."""
        return estimate_tokens(self.message.text)

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory it takes."""
        # One character beyond Latin-1 makes a text take two or four bytes a character.
        return len(self.raw or b"") + len(self.key or b"") + sys.getsizeof(self.message.text)


Item = TypeVar("Item", bound=Deliverable, default=Accepted)
"""What a topic's valid records become; reviews, where nothing else is said."""


@dataclass(slots=True)
class Slice(Generic[Item]):
    """The records of one partition in [expected, next), as delivered (I3).

    Attributes:
        partition: Where they come from.
        partition_id: The stored id of that stream.
        expected: The offset that the slice continues.
        next: The offset behind its last record.
        accepted: The valid ones, in order of offset.
        dead_letters: The others, in order of offset.
    """

    partition: TopicPartition
    partition_id: int
    expected: int
    next: int
    accepted: list[Item] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


@dataclass(slots=True)
class Batch(Generic[Item]):
    """What goes through the stages together.

    Attributes:
        slices: At most one per partition.
        tokens: About how many tokens the texts have.
        records: How many records it holds.
        held_bytes: About how many bytes of memory they take.
        opened_at: When its first record came, in seconds of a monotonic clock.
    """

    opened_at: float
    slices: dict[TopicPartition, Slice[Item]] = field(default_factory=dict)
    tokens: int = 0
    records: int = 0
    held_bytes: int = 0

    def accepted(self) -> Iterator[Item]:
        """Every valid record, slice by slice."""
        for part in self.slices.values():
            yield from part.accepted

    def texts(self: "Batch[Accepted]") -> list[str]:
        """The texts of :meth:`accepted`, in the same order."""
        return [review.message.text for review in self.accepted()]


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: a quarter of its characters, and no more than a model takes."""
    return min(_MAX_TOKENS_PER_TEXT, len(text) // _CHARACTERS_PER_TOKEN + 2)
