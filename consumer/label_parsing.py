"""Raw records of the labels topic in, one outcome each out: a valid message or a dead letter."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from broker.subscription import Record
from consumer.parsing import ArrivalClock
from reviews.batch import DeadLetter
from reviews.dead_letter import read_replay
from reviews.errors import InvalidMessage
from reviews.label import labelled_to_come, parse_label
from reviews.label_batch import DeliveredLabel


def parse_labels(
    records: Iterable[Record], received_at: datetime, max_message_bytes: int, tolerance: timedelta
) -> list[DeliveredLabel | DeadLetter]:
    """One outcome per record, in order (I4).

    Args:
        records: As delivered.
        received_at: When they were (UTC).
        max_message_bytes: Longer ones are dead letters.
        tolerance: By how much clocks may differ: a label that was given later than Kafka had it by more than
            this is a dead letter, since it would outlive every correction until then.
    """
    clock = ArrivalClock(received_at, tolerance)
    return [_parse(record, received_at, max_message_bytes, clock) for record in records]


def _parse(
    record: Record, received_at: datetime, max_message_bytes: int, clock: ArrivalClock
) -> DeliveredLabel | DeadLetter:
    replay = read_replay(record.headers) if record.headers else None
    came_ms = clock.known_ms(record.timestamp)
    try:
        message = parse_label(record.value, max_message_bytes)
        if message.labelled_at is not None and clock.is_to_come(message.labelled_at, came_ms):
            raise labelled_to_come()
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
    # A replay keeps the time of the first attempt: an old answer does not become the latest by it.
    first_ms = None if replay is None else replay.timestamp_ms
    said_at = clock.moment(came_ms if first_ms is None else clock.known_ms(first_ms))
    return DeliveredLabel(
        record.offset,
        message,
        message.labelled_at or said_at,
        received_at,
        record.value,
        record.key,
        record.timestamp,
        replay,
    )
