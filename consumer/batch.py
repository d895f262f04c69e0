"""A batch on its way through the stages: contiguous slices of partitions, record by record."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, NamedTuple, Protocol

from typing_extensions import TypeVar

from broker.subscription import TopicPartition
from consumer.settings import ConsumerSettings
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


class Batcher(Generic[Item]):
    """Collects records and hands out batches; time is an argument."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._closed: deque[Batch[Item]] = deque()
        self._open: Batch[Item] | None = None

    def add(
        self,
        partition: TopicPartition,
        partition_id: int,
        expected: int,
        outcomes: Iterable[Item | DeadLetter],
        now: float,
    ) -> int:
        """Take the outcomes of one partition's records, in order, from ``expected`` on.

        Args:
            partition: Where they come from.
            partition_id: The stored id of that stream.
            expected: The offset that the first outcome continues.
            outcomes: One per record.
            now: Seconds of a monotonic clock.

        Returns:
            The offset that continues the last outcome.
        """
        for outcome in outcomes:
            batch = self._room(now)
            part = batch.slices.get(partition)
            if part is None:
                part = batch.slices[partition] = Slice(partition, partition_id, expected, expected)
            if isinstance(outcome, DeadLetter):
                part.dead_letters.append(outcome)
            else:
                part.accepted.append(outcome)
                batch.tokens += outcome.tokens
            part.next = expected = outcome.offset + 1
            batch.records += 1
            batch.held_bytes += outcome.held_bytes
        return expected

    def pass_over(
        self, partition: TopicPartition, partition_id: int, expected: int, position: int, now: float
    ) -> None:
        """Take it that Kafka delivers nothing in [expected, position): markers or compacted records."""
        batch = self._room(now)
        part = batch.slices.setdefault(partition, Slice(partition, partition_id, expected, expected))
        part.next = position

    def take(self, now: float) -> Batch[Item] | None:
        """The oldest batch that is full or has waited long enough; None: not yet."""
        if self._closed:
            return self._closed.popleft()
        return None if self._open is None or self._has_time(self._open, now) else self.take_rest()

    def take_rest(self) -> Batch[Item] | None:
        """The oldest batch, full or not; None: nothing is left."""
        if self._closed:
            return self._closed.popleft()
        batch, self._open = self._open, None
        return batch

    def drop(self, partition: TopicPartition) -> None:
        """Forget what waits here of a partition; it will be delivered again, to whoever owns it."""
        waiting = [batch for batch in (*self._closed, self._open) if batch is not None]
        for batch in waiting:
            batch.slices.pop(partition, None)

    def seconds_left(self, now: float) -> float:
        """How long until the open batch has to go; the full waiting time where there is none."""
        if self._closed:
            return 0.0
        if self._open is None:
            return self._settings.max_wait_seconds
        if not self._has_time(self._open, now):
            return 0.0
        return self._open.opened_at + self._settings.max_wait_seconds - now

    def _room(self, now: float) -> Batch[Item]:
        batch = self._open
        if batch is not None and self._is_full(batch):
            self._closed.append(batch)
            batch = None
        if batch is None:
            batch = self._open = Batch(opened_at=now)
        return batch

    def _has_time(self, batch: Batch[Item], now: float) -> bool:
        return not self._is_full(batch) and now - batch.opened_at < self._settings.max_wait_seconds

    def _is_full(self, batch: Batch[Item]) -> bool:
        return (
            batch.tokens >= self._settings.max_batch_tokens
            or batch.records >= self._settings.max_batch_reviews
            or batch.held_bytes >= self._settings.max_batch_bytes
        )
