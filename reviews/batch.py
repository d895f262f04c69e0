"""What one transaction stores: a contiguous range of offsets per partition and what became of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, NamedTuple

from reviews.prediction import Prediction
from reviews.record_value import cut, full_bytes

OFFSET_BITS = 40
MAX_OFFSET = (1 << OFFSET_BITS) - 1


def record_id(partition_id: int, offset: int) -> int:
    """The one number that names a Kafka record everywhere: ``partition_id << 40 | offset``.

    Raises:
        ValueError: If the offset does not fit into 40 bits (a trillion records in one partition).
    """
    if not 0 <= offset <= MAX_OFFSET:
        raise ValueError(f"Offset {offset} is outside 0 to {MAX_OFFSET}.")
    return partition_id << OFFSET_BITS | offset


PLAIN_TEXT = "It works as it should."
"""A text that every model and every database takes, to tell a broken record from a broken service."""

_SHORTENED_BYTES = 1_000

KeepReason = Literal["audit", "sample", "uncertain", "all"]
"""Why an embedding is kept: the first of these that holds."""


class KeptEmbedding(NamedTuple):
    """What a model saw in one text, kept for choosing what to label and for finding drift.

    Attributes:
        task: The task whose adapter made it.
        adapter_version: That adapter; embeddings of two adapters are not to be compared.
        reason: Why this one is kept.
        vector: float16 (hidden), little-endian bytes.
    """

    task: str
    adapter_version: str
    reason: KeepReason
    vector: bytes


class Replay(NamedTuple):
    """Which dead letter a record is another attempt at.

    Attributes:
        topic_id: The id of the topic that the dead letter came from.
        partition: Its partition there.
        offset: Its offset there.
        timestamp_ms: When it was published first, in milliseconds since 1970; None where nobody knows.
    """

    topic_id: str
    partition: int
    offset: int
    timestamp_ms: int | None = None


class DeadLetter(NamedTuple):
    """One delivered record that cannot become a review.

    Attributes:
        offset: Its offset in the partition.
        stage: Where it failed: ``parse``, ``score``, ``label`` or ``store``.
        reason: A short stable name for counting.
        message: What was wrong, in a sentence that does not quote the input.
        raw: The value as delivered; :class:`~reviews.record_value.CutBytes` where it was too long to be kept,
            None for a tombstone.
        key: The key as delivered, cut like the value.
        received_at: When the consumer had it in hand.
        timestamp_ms: Kafka's time of the record, in milliseconds since 1970; below 0 where it had none.
        replay: The dead letter that it was another attempt at; None for a first attempt.
    """

    offset: int
    stage: str
    reason: str
    message: str
    raw: bytes | None
    key: bytes | None
    received_at: datetime
    timestamp_ms: int = -1
    replay: Replay | None = None

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory it takes."""
        return len(self.raw or b"") + len(self.key or b"")

    def shortened(self) -> "DeadLetter":
        """The same with the beginning of its value alone, where not even the dead letter can be stored."""
        if self.raw is None:
            return self._replace(key=None)
        message = f"{self.message} Of its {full_bytes(self.raw)} bytes the first {_SHORTENED_BYTES} are kept."
        return self._replace(raw=cut(self.raw, _SHORTENED_BYTES), key=None, message=message)

    def plain(self) -> "DeadLetter":
        """One at the same place that nothing can be the matter with."""
        return self._replace(raw=PLAIN_TEXT.encode(), key=None, message=PLAIN_TEXT, replay=None)


class ScoredReview(NamedTuple):
    """One accepted record with one prediction per configured task.

    Attributes:
        stars: From 1 to 5, a whole number or not.
        published_at: When it was published (UTC); never later than Kafka had it.
        kept: Embeddings that are stored with it, at most one per task.
        shadows: What adapters on trial said of it, which nobody is shown.
        timestamp_ms: Kafka's time of it, in milliseconds since 1970, which decides between versions that were
            published at one moment; that of its receipt where Kafka has none; -1 where nobody knows.
        stated_published_at: What the publisher said where that was later than Kafka had it.
        raw: The value as delivered, for the dead letter that it becomes if it cannot be stored.
        key: The key as delivered.
        replay: The dead letter that it is another attempt at; None for a first attempt.
    """

    offset: int
    review_id: str
    text: str
    product: str | None
    source: str | None
    stars: float | None
    published_at: datetime
    received_at: datetime
    predictions: tuple[Prediction, ...]
    kept: tuple[KeptEmbedding, ...] = ()
    shadows: tuple[Prediction, ...] = ()
    timestamp_ms: int = -1
    stated_published_at: datetime | None = None
    raw: bytes | None = None
    key: bytes | None = None
    replay: Replay | None = None

    def refused(self, reason: str, message: str) -> DeadLetter:
        """The dead letter that it becomes where it cannot be stored."""
        return DeadLetter(
            self.offset,
            "store",
            reason,
            message,
            self.raw,
            self.key,
            self.received_at,
            self.timestamp_ms,
            self.replay,
        )

    def plain(self) -> "ScoredReview":
        """The same answers for a record that nothing can be the matter with."""
        return self._replace(
            review_id="plain",
            text=PLAIN_TEXT,
            product=None,
            source=None,
            stars=None,
            published_at=self.received_at,
            stated_published_at=None,
            kept=(),
            shadows=(),
        )


@dataclass(frozen=True, slots=True)
class PartitionRange:
    """The records of one partition in [expected, next), as delivered.

    Attributes:
        partition_id: The stored id of the partition.
        expected: The stored offset that this range continues.
        next: The offset that follows it.
        reviews: What was scored, in order of offset.
        dead_letters: What was refused, in order of offset.
        replays: Which of the reviews are replayed dead letters: (offset, the dead letter).
    """

    partition_id: int
    expected: int
    next: int
    reviews: list[ScoredReview] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    replays: list[tuple[int, Replay]] = field(default_factory=list)

    def offsets(self) -> list[int]:
        """The offsets of its records, ascending."""
        reviews, letters = self.reviews, self.dead_letters
        return sorted([review.offset for review in reviews] + [letter.offset for letter in letters])

    def split_at(self, offset: int) -> "tuple[PartitionRange, PartitionRange]":
        """Everything before this offset, and the rest; stored one after the other they come to the same."""
        return (
            replace(
                self,
                next=offset,
                reviews=[review for review in self.reviews if review.offset < offset],
                dead_letters=[letter for letter in self.dead_letters if letter.offset < offset],
                replays=[replay for replay in self.replays if replay[0] < offset],
            ),
            replace(
                self,
                expected=offset,
                reviews=[review for review in self.reviews if review.offset >= offset],
                dead_letters=[letter for letter in self.dead_letters if letter.offset >= offset],
                replays=[replay for replay in self.replays if replay[0] >= offset],
            ),
        )

    def refused(self, reason: str, message: str) -> "PartitionRange":
        """The same range with dead letters in the place of reviews, and shortened ones of dead letters."""
        letters = [review.refused(reason, message) for review in self.reviews]
        shortened = [letter.shortened() for letter in self.dead_letters]
        return replace(self, reviews=[], dead_letters=in_order(letters, shortened), replays=[])

    def plain(self) -> "PartitionRange":
        """The same range with records that nothing can be the matter with."""
        return replace(
            self,
            reviews=[review.plain() for review in self.reviews],
            dead_letters=[letter.plain() for letter in self.dead_letters],
            replays=[],
        )


def in_order(*groups: Iterable[DeadLetter]) -> list[DeadLetter]:
    """All letters of all groups, by offset."""
    return sorted((letter for group in groups for letter in group), key=lambda letter: letter.offset)
