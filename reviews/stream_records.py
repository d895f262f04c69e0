"""Records on their way from a topic to the database, accepted, scored or refused, partition by partition."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Generic, Literal, NamedTuple, Protocol, Self, TypeVar

from reviews.dead_letter import DeadLetter, DeadLetterStage, RecordHeaders, Replay, held_bytes
from reviews.label import LabelMessage
from reviews.message import PLAIN_TEXT, ReviewMessage
from reviews.prediction import Prediction
from reviews.withdrawal import Withdrawal

_CHARACTERS_PER_TOKEN = 4
_MAX_TOKENS_PER_TEXT = 512

_Message = TypeVar("_Message", bound=ReviewMessage | LabelMessage | Withdrawal)


class Accepted(NamedTuple, Generic[_Message]):
    """A record with a valid message.

    Its five times:

    ===========  ====================  =============  ==========================================
    name         whose clock           in the future  column
    ===========  ====================  =============  ==========================================
    event_time   publisher's           no             review.published_at, label.labelled_at
    stated_at    publisher's           always         review.stated_published_at
    kafka_ms     Kafka's               possibly       dead_letter.timestamp_ms
    arrived_ms   Kafka's               no             review.timestamp_ms
    received_at  the worker's          no             review.received_at, dead_letter.received_at
    ===========  ====================  =============  ==========================================

    "In the future" is later than the record's arrival by more than the clock tolerance. Kafka's time was set
    by a broker or a producer. A time that the publisher does not give is Kafka's; where Kafka has none, or
    one in the future, ``event_time`` and ``arrived_ms`` are the worker's.

    Attributes:
        offset: Its offset in the partition.
        message: What was published.
        event_time: When the review was published, or the label given (UTC); at most the clock tolerance later
            than the record's plausible Kafka time.
        received_at: When the worker had it in hand (UTC).
        raw: The value as delivered, for the dead letter that it becomes if it cannot be stored.
        key: The key as delivered.
        kafka_ms: Kafka's time of it, in milliseconds since 1970; of the first attempt, where it is a
            replay; below 0 where it had none.
        replay: The dead letter that it is another attempt at; None for a first attempt.
        arrived_ms: ``kafka_ms`` where it is plausible, else the time of receipt. Stored as
            review.timestamp_ms, which orders the versions of a review.
        stated_at: The event time before it was replaced, because it was in the future: from the message, or
            Kafka's time where the message has none. None where nothing was replaced, and for every label.
        attributes: Of a review: further fields that its source names, as UTF-8 JSON; None without any.
        headers: As delivered.
    """

    offset: int
    message: _Message
    event_time: datetime
    received_at: datetime
    raw: bytes | None
    key: bytes | None
    kafka_ms: int = -1
    replay: Replay | None = None
    arrived_ms: int = -1
    stated_at: datetime | None = None
    attributes: bytes | None = None
    headers: RecordHeaders = ()

    def refused(self, stage: DeadLetterStage, reason: str, message: str) -> DeadLetter:
        """The dead letter that it becomes."""
        return DeadLetter(
            offset=self.offset,
            stage=stage,
            reason=reason,
            message=message,
            raw=self.raw,
            key=self.key,
            received_at=self.received_at,
            kafka_ms=self.kafka_ms,
            replay=self.replay,
            headers=self.headers,
        )


class AcceptedReview(Accepted[ReviewMessage]):
    """A valid review."""

    __slots__ = ()

    @property
    def tokens(self) -> int:
        """About how many tokens the text has: a quarter of its characters, at most what a model takes."""
        return min(_MAX_TOKENS_PER_TEXT, len(self.message.text) // _CHARACTERS_PER_TOKEN + 2)

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory it takes."""
        # One character beyond Latin-1 makes a text take two or four bytes a character.
        held = len(self.raw or b"") + len(self.key or b"") + sys.getsizeof(self.message.text)
        if self.attributes or self.headers:  # few have either
            held += len(self.attributes or b"") + held_bytes(self.headers)
        return held

    def stand_in(self) -> Self:
        """A harmless stand-in at the same offset."""
        message = ReviewMessage(id="plain", text=PLAIN_TEXT)
        return self._replace(
            message=message,
            event_time=self.received_at,
            stated_at=None,
            replay=None,
            attributes=None,
            headers=(),
        )


class AcceptedLabel(Accepted[LabelMessage]):
    """A valid label; whether its task has such a label, the database knows."""

    __slots__ = ()

    @property
    def tokens(self) -> int:
        """None: no classifier sees it."""
        return 0

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory it takes."""
        return 2 * len(self.raw or b"") + len(self.key or b"") + held_bytes(self.headers)

    def stand_in(self) -> Self:
        """A harmless stand-in at the same offset, with the same label."""
        message = self.message.model_copy(update={"review_id": "plain", "annotator": "plain"})
        return self._replace(message=message, replay=None, headers=())


class AcceptedWithdrawal(Accepted[Withdrawal]):
    """A valid withdrawal of a review; its event time is Kafka's."""

    __slots__ = ()

    @property
    def held_bytes(self) -> int:
        """About how many bytes of memory it takes."""
        return len(self.raw or b"") + len(self.key or b"") + held_bytes(self.headers)

    def stand_in(self) -> Self:
        """A harmless stand-in at the same offset."""
        return self._replace(message=Withdrawal(id="plain"), replay=None, headers=())


class Origin(NamedTuple):
    """Which partition records come from.

    Attributes:
        topic: The topic's name.
        topic_id: Its id, which a topic made anew under its name does not share.
        partition: The number of the partition.
    """

    topic: str
    topic_id: str
    partition: int


class FilteredOut(NamedTuple):
    """A record that its topic's settings leave out: no row comes of it, and its offset moves on.

    Attributes:
        offset: Its offset in the partition.
    """

    offset: int


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
    """A review with one prediction per configured task.

    Attributes:
        review: The review.
        predictions: Of the active adapters, one per task.
        kept: Embeddings that are stored with it, at most one per task.
        shadows: What adapters in shadow scoring said of it, which nobody is shown.
    """

    review: AcceptedReview
    predictions: tuple[Prediction, ...]
    kept: tuple[KeptEmbedding, ...] = ()
    shadows: tuple[Prediction, ...] = ()

    @property
    def offset(self) -> int:
        """Its offset in the partition."""
        return self.review.offset

    @property
    def replay(self) -> Replay | None:
        """The dead letter that it is another attempt at; None for a first attempt."""
        return self.review.replay

    def refused(self, stage: DeadLetterStage, reason: str, message: str) -> DeadLetter:
        """The dead letter that it becomes."""
        return self.review.refused(stage, reason, message)

    def stand_in(self) -> "ScoredReview":
        """A harmless stand-in at the same offset, with the same predictions."""
        return self._replace(review=self.review.stand_in(), kept=(), shadows=())


class _Storable(Protocol):
    """What a range holds of accepted records, in whatever stage."""

    @property
    def offset(self) -> int: ...
    @property
    def replay(self) -> Replay | None: ...
    def refused(self, stage: DeadLetterStage, reason: str, message: str, /) -> DeadLetter: ...
    def stand_in(self) -> Self: ...


StorableT = TypeVar("StorableT", bound=_Storable)
"""An accepted review or label, or a scored review."""


@dataclass(slots=True)
class PartitionRange(Generic[StorableT]):
    """The records of one partition in [expected, next), as delivered (I3).

    Attributes:
        partition_id: The stored id of the partition.
        expected: The offset that this range continues.
        next: The offset that follows it.
        accepted: The accepted ones, in order of offset.
        dead_letters: Those that were refused, in order of offset.
        withdrawals: Those that take a review back, in order of offset.
    """

    partition_id: int
    expected: int
    next: int
    accepted: list[StorableT] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    withdrawals: list[AcceptedWithdrawal] = field(default_factory=list)

    def offsets(self) -> list[int]:
        """The offsets of its records, ascending."""
        return sorted(
            row.offset for rows in (self.accepted, self.dead_letters, self.withdrawals) for row in rows
        )

    def split_at(self, offset: int) -> "tuple[PartitionRange[StorableT], PartitionRange[StorableT]]":
        """Everything before this offset, and the rest; stored one after the other they come to the same."""
        before = PartitionRange[StorableT](self.partition_id, self.expected, offset)
        after = PartitionRange[StorableT](self.partition_id, offset, self.next)
        for row in self.accepted:
            (before if row.offset < offset else after).accepted.append(row)
        for letter in self.dead_letters:
            (before if letter.offset < offset else after).dead_letters.append(letter)
        for withdrawal in self.withdrawals:
            (before if withdrawal.offset < offset else after).withdrawals.append(withdrawal)
        return before, after

    def joined(self, later: "PartitionRange[StorableT]") -> "PartitionRange[StorableT]":
        """This range and the one that continues it."""
        return PartitionRange(
            self.partition_id,
            self.expected,
            later.next,
            self.accepted + later.accepted,
            self.dead_letters + later.dead_letters,
            self.withdrawals + later.withdrawals,
        )

    def refused(self, reason: str, message: str) -> "PartitionRange[StorableT]":
        """The same range with dead letters in the place of rows, and shortened ones of dead letters."""
        letters = [row.refused("store", reason, message) for row in self.accepted]
        letters += [row.refused("store", reason, message) for row in self.withdrawals]
        shortened = [letter.shortened() for letter in self.dead_letters]
        return replace(self, accepted=[], dead_letters=in_order(letters, shortened), withdrawals=[])

    def stand_in(self) -> "PartitionRange[StorableT]":
        """The same range with a harmless stand-in of each record."""
        return replace(
            self,
            accepted=[row.stand_in() for row in self.accepted],
            dead_letters=[letter.stand_in() for letter in self.dead_letters],
            withdrawals=[withdrawal.stand_in() for withdrawal in self.withdrawals],
        )


def in_order(*groups: Iterable[DeadLetter]) -> list[DeadLetter]:
    """All letters of all groups, by offset."""
    return sorted((letter for group in groups for letter in group), key=lambda letter: letter.offset)
