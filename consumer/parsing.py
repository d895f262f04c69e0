"""Raw records in, one outcome each out: a valid review or a dead letter, never nothing."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from broker.subscription import Record
from consumer.batch import Accepted
from reviews.batch import DeadLetter
from reviews.dead_letter import read_replay
from reviews.errors import InvalidMessage
from reviews.message import parse_review

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class ArrivalClock:
    """Kafka's times of records, held against the clock of the worker that has them in hand.

    Producers write these times as a rule, and they may be none, or to come.

    Args:
        received_at: When the worker had the records in hand (UTC).
        tolerance: By how much clocks may differ.
    """

    def __init__(self, received_at: datetime, tolerance: timedelta) -> None:
        self._received_at = received_at
        self._received_ms = (received_at - _EPOCH) // _MILLISECOND
        self._tolerance_ms = tolerance // _MILLISECOND

    def known_ms(self, timestamp_ms: int) -> int:
        """When a record was there, in milliseconds since 1970; at its receipt, where Kafka cannot tell."""
        if 0 <= timestamp_ms <= self._received_ms + self._tolerance_ms:
            return timestamp_ms
        return self._received_ms

    def moment(self, known_ms: int) -> datetime:
        """That time as a moment (UTC)."""
        return self._received_at if known_ms == self._received_ms else _EPOCH + known_ms * _MILLISECOND

    def is_to_come(self, moment: datetime, known_ms: int) -> bool:
        """Whether a moment is later than a record was there, by more than clocks may differ."""
        return moment.timestamp() * 1000 > known_ms + self._tolerance_ms


def parse_records(
    records: Iterable[Record], received_at: datetime, max_message_bytes: int, tolerance: timedelta
) -> list[Accepted | DeadLetter]:
    """One outcome per record, in order (I4).

    Args:
        records: As delivered.
        received_at: When they were (UTC).
        max_message_bytes: Longer ones are dead letters.
        tolerance: By how much clocks may differ: a review that was published later than Kafka had it by more
            than this gets Kafka's time.
    """
    clock = ArrivalClock(received_at, tolerance)
    return [_parse(record, received_at, max_message_bytes, clock) for record in records]


def _parse(
    record: Record, received_at: datetime, max_message_bytes: int, clock: ArrivalClock
) -> Accepted | DeadLetter:
    timestamp_ms, replay = record.timestamp, None
    if record.headers and (replay := read_replay(record.headers)) and replay.timestamp_ms is not None:
        # A replay keeps the time of the first attempt: an old message does not become the newest by it.
        timestamp_ms = replay.timestamp_ms
    try:
        message = parse_review(record.value, max_message_bytes)
        published_at = message.published_at or kafka_time(timestamp_ms, received_at)
    except InvalidMessage as err:
        return DeadLetter(
            record.offset,
            "parse",
            err.reason,
            str(err),
            record.value,
            record.key,
            received_at,
            timestamp_ms,
            replay,
        )
    came_ms, stated_at = clock.known_ms(record.timestamp), None
    known_ms = came_ms if replay is None else clock.known_ms(timestamp_ms)
    if clock.is_to_come(published_at, came_ms):
        stated_at, published_at = published_at, clock.moment(known_ms)
    return Accepted(
        record.offset,
        message,
        published_at,
        received_at,
        record.value,
        record.key,
        timestamp_ms,
        replay,
        known_ms,
        stated_at,
    )


def kafka_time(timestamp_ms: int, received_at: datetime) -> datetime:
    """The moment of a record's timestamp; the time of receipt where it has none.

    Raises:
        InvalidMessage: If the timestamp is beyond the year 9999.
    """
    if timestamp_ms < 0:
        return received_at
    try:
        return _EPOCH + timedelta(milliseconds=timestamp_ms)
    except OverflowError:
        raise InvalidMessage(
            "bad_timestamp", "The record's Kafka timestamp is beyond the year 9999 (it counts milliseconds)."
        ) from None
