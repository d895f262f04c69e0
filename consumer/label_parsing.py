"""Raw records of the labels topic in, one outcome each out: a valid message or a dead letter."""

from collections.abc import Iterable
from datetime import datetime

from broker.subscription import Record
from reviews.batch import DeadLetter
from reviews.dead_letter import read_replay
from reviews.errors import InvalidMessage
from reviews.label import parse_label
from reviews.label_batch import DeliveredLabel


def parse_labels(
    records: Iterable[Record], received_at: datetime, max_message_bytes: int
) -> list[DeliveredLabel | DeadLetter]:
    """One outcome per record, in order (I4)."""
    return [_parse(record, received_at, max_message_bytes) for record in records]


def _parse(record: Record, received_at: datetime, max_message_bytes: int) -> DeliveredLabel | DeadLetter:
    replay = read_replay(record.headers) if record.headers else None
    try:
        message = parse_label(record.value, max_message_bytes)
    except InvalidMessage as err:
        return DeadLetter(
            record.offset,
            "label",
            err.reason,
            str(err),
            record.value,
            record.key,
            received_at,
            record.timestamp,
            replay,
        )
    return DeliveredLabel(
        record.offset, message, received_at, record.value, record.key, record.timestamp, replay
    )
