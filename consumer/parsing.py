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


def parse_records(
    records: Iterable[Record], received_at: datetime, max_message_bytes: int
) -> list[Accepted | DeadLetter]:
    """One outcome per record, in order (I4)."""
    return [_parse(record, received_at, max_message_bytes) for record in records]


def _parse(record: Record, received_at: datetime, max_message_bytes: int) -> Accepted | DeadLetter:
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
    return Accepted(
        record.offset, message, published_at, received_at, record.value, record.key, timestamp_ms, replay
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
