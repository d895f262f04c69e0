"""What one transaction stores: a contiguous range of offsets per partition and what became of it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from reviews.prediction import Prediction

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
        stage: Where it failed: ``parse``, ``score`` or ``label``.
        reason: A short stable name for counting.
        message: What was wrong, in a sentence that does not quote the input.
        raw: The value as delivered; None for a tombstone.
        key: The key as delivered.
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
