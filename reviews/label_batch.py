"""Labels on their way from their topic into the database."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple

from reviews.batch import DeadLetter, Replay, in_order
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

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory it takes."""
        return 2 * len(self.raw or b"") + len(self.key or b"")

    def refused(self, reason: str, message: str, stage: str = "label") -> DeadLetter:
        """The dead letter that it becomes."""
        return DeadLetter(
            self.offset,
            stage,
            reason,
            message,
            self.raw,
            self.key,
            self.received_at,
            self.timestamp_ms,
            self.replay,
        )

    def plain(self) -> "DeliveredLabel":
        """The same answer about a review that nothing can be the matter with."""
        message = self.message.model_copy(update={"review_id": "plain", "annotator": "plain"})
        return self._replace(message=message, replay=None)


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

    def offsets(self) -> list[int]:
        """The offsets of its records, ascending."""
        labels, letters = self.labels, self.dead_letters
        return sorted([label.offset for label in labels] + [letter.offset for letter in letters])

    def split_at(self, offset: int) -> "tuple[LabelRange, LabelRange]":
        """Everything before this offset, and the rest; stored one after the other they come to the same."""
        return (
            replace(
                self,
                next=offset,
                labels=[label for label in self.labels if label.offset < offset],
                dead_letters=[letter for letter in self.dead_letters if letter.offset < offset],
            ),
            replace(
                self,
                expected=offset,
                labels=[label for label in self.labels if label.offset >= offset],
                dead_letters=[letter for letter in self.dead_letters if letter.offset >= offset],
            ),
        )

    def refused(self, reason: str, message: str) -> "LabelRange":
        """The same range with dead letters in the place of labels, and shortened ones of dead letters."""
        letters = [label.refused(reason, message, stage="store") for label in self.labels]
        shortened = [letter.shortened() for letter in self.dead_letters]
        return replace(self, labels=[], dead_letters=in_order(letters, shortened))

    def plain(self) -> "LabelRange":
        """The same range with records that nothing can be the matter with."""
        return replace(
            self,
            labels=[label.plain() for label in self.labels],
            dead_letters=[letter.plain() for letter in self.dead_letters],
        )
