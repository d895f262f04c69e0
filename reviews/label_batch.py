"""Labels on their way from their topic into the database."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from reviews.batch import DeadLetter, Replay
from reviews.label import LabelMessage


class DeliveredLabel(NamedTuple):
    """A label in a valid message; whether its task has such a label, the database knows.

    Attributes:
        offset: Its offset in the partition.
        message: What was published.
        labelled_at: When it was said (UTC): by the message, else by Kafka's time of the record.
        received_at: When the consumer had it in hand.
        raw: The value as delivered.
        key: The key as delivered.
        timestamp_ms: Kafka's time of the record, in milliseconds since 1970; below 0 where it had none.
        replay: The dead letter that it is another attempt at; None for a first attempt.
    """

    offset: int
    message: LabelMessage
    labelled_at: datetime
    received_at: datetime
    raw: bytes | None
    key: bytes | None
    timestamp_ms: int = -1
    replay: Replay | None = None

    @property
    def tokens(self) -> int:
        """None: no classifier sees it."""
        return 0

    def refused(self, reason: str, message: str) -> DeadLetter:
        """The dead letter that it becomes."""
        return DeadLetter(
            self.offset,
            "label",
            reason,
            message,
            self.raw,
            self.key,
            self.received_at,
            self.timestamp_ms,
            self.replay,
        )


@dataclass(frozen=True, slots=True)
class LabelRange:
    """The records of one partition of the labels topic in [expected, next), as delivered.

    Attributes:
        partition_id: The stored id of the partition.
        expected: The stored offset that this range continues.
        next: The offset that follows it.
        labels: The valid messages, in order of offset.
        dead_letters: The others, in order of offset.
    """

    partition_id: int
    expected: int
    next: int
    labels: list[DeliveredLabel] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
