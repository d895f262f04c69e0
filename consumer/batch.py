"""How the stream is cut into batches.

A batch closes at about a number of tokens, records or bytes, or when its oldest record has waited long
enough. Texts are counted by their characters here; the classifier tokenises and cuts the exact budget inside.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from broker.subscription import TopicPartition
from consumer.settings import ConsumerSettings
from reviews.dead_letter import DeadLetter
from reviews.stream_records import (
    AcceptedLabel,
    AcceptedReview,
    AcceptedWithdrawal,
    FilteredOut,
    PartitionRange,
)

AcceptedT = TypeVar("AcceptedT", bound=AcceptedReview | AcceptedLabel)
"""What a topic's valid records become."""
Outcome: TypeAlias = AcceptedT | DeadLetter | AcceptedWithdrawal | FilteredOut
"""What one record becomes."""
Tasks = frozenset[str] | None
"""What reviews are scored for; None: every task of the worker."""


@dataclass(slots=True)
class Batch(Generic[AcceptedT]):
    """What goes through the stages of a pipeline together.

    Attributes:
        opened_at: When its first record came, in seconds of a monotonic clock.
        ranges: At most one per partition.
        tokens: About how many tokens the texts have.
        records: How many records it holds.
        held_bytes: About how many bytes of memory they take.
        tasks: What its reviews are scored for.
    """

    opened_at: float
    ranges: dict[TopicPartition, PartitionRange[AcceptedT]] = field(default_factory=dict)
    tokens: int = 0
    records: int = 0
    held_bytes: int = 0
    tasks: Tasks = None

    def accepted(self) -> Iterator[AcceptedT]:
        """Every valid record, range by range."""
        for part in self.ranges.values():
            yield from part.accepted

    def texts(self: "Batch[AcceptedReview]") -> list[str]:
        """The texts of :meth:`accepted`, in the same order."""
        return [review.message.text for review in self.accepted()]


class Batcher(Generic[AcceptedT]):
    """Collects records and hands out batches; time is an argument, in seconds of a monotonic clock.

    Args:
        settings: The limits of a batch.
        tasks: What the reviews of its batches are scored for.

    Attributes:
        filtered_out: How many records their sources left out.
    """

    def __init__(self, settings: ConsumerSettings, tasks: Tasks = None) -> None:
        self._settings = settings
        self._tasks = tasks
        self._closed: deque[Batch[AcceptedT]] = deque()
        self._open: Batch[AcceptedT] | None = None
        self.filtered_out = 0

    def add(
        self,
        partition: TopicPartition,
        partition_id: int,
        expected: int,
        outcomes: Iterable[Outcome[AcceptedT]],
        now: float,
    ) -> int:
        """Take the outcomes of one partition's records, in order, from ``expected`` on.

        Args:
            partition: Where they come from.
            partition_id: The stored id of that stream.
            expected: The offset that the first outcome continues.
            outcomes: One per record.
            now: The time.

        Returns:
            The offset that continues the last outcome.
        """
        for outcome in outcomes:
            batch = self._batch_with_room(now)
            part = batch.ranges.get(partition)
            if part is None:
                part = batch.ranges[partition] = PartitionRange(partition_id, expected, expected)
            part.next = expected = outcome.offset + 1
            batch.records += 1
            if isinstance(outcome, FilteredOut):
                self.filtered_out += 1
                continue
            batch.held_bytes += outcome.held_bytes
            if isinstance(outcome, DeadLetter):
                part.dead_letters.append(outcome)
            elif isinstance(outcome, AcceptedWithdrawal):
                part.withdrawals.append(outcome)
            else:
                part.accepted.append(outcome)
                batch.tokens += outcome.tokens
        return expected

    def skip(
        self, partition: TopicPartition, partition_id: int, expected: int, position: int, now: float
    ) -> None:
        """Take it that Kafka delivers nothing in [expected, position): markers or compacted records."""
        batch = self._batch_with_room(now)
        part = batch.ranges.setdefault(partition, PartitionRange(partition_id, expected, expected))
        part.next = position

    def take(self, now: float) -> Batch[AcceptedT] | None:
        """The oldest batch that is full or has waited long enough; None: not yet."""
        if self._closed:
            return self._closed.popleft()
        return None if self._open is None or self._has_time(self._open, now) else self.take_rest()

    def take_rest(self) -> Batch[AcceptedT] | None:
        """The oldest batch, full or not; None: nothing is left."""
        if self._closed:
            return self._closed.popleft()
        batch, self._open = self._open, None
        return batch

    def drop(self, partition: TopicPartition) -> None:
        """Forget what waits here of a partition; it will be delivered again, to the worker that owns it."""
        waiting = [batch for batch in (*self._closed, self._open) if batch is not None]
        for batch in waiting:
            batch.ranges.pop(partition, None)

    def seconds_left(self, now: float) -> float:
        """How long until the open batch has to go; the full waiting time where there is none."""
        if self._closed:
            return 0.0
        if self._open is None:
            return self._settings.max_wait_seconds
        if not self._has_time(self._open, now):
            return 0.0
        return self._open.opened_at + self._settings.max_wait_seconds - now

    def _batch_with_room(self, now: float) -> Batch[AcceptedT]:
        batch = self._open
        if batch is not None and self._is_full(batch):
            self._closed.append(batch)
            batch = None
        if batch is None:
            batch = self._open = Batch(opened_at=now, tasks=self._tasks)
        return batch

    def _has_time(self, batch: Batch[AcceptedT], now: float) -> bool:
        return not self._is_full(batch) and now - batch.opened_at < self._settings.max_wait_seconds

    def _is_full(self, batch: Batch[AcceptedT]) -> bool:
        return (
            batch.tokens >= self._settings.max_batch_tokens
            or batch.records >= self._settings.max_batch_reviews
            or batch.held_bytes >= self._settings.max_batch_bytes
        )
