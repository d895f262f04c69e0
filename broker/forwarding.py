"""Publishes dead letters to their own topic, with Kafka Connect's headers."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from kafka.errors import (
    InvalidRecordError,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from broker.connections import describe_errors, open_producer
from broker.publisher import OutgoingRecord, close_producer, require_topic, start_sending
from broker.settings import KafkaSettings
from reviews.dead_letter import StoredLetter, connect_headers
from reviews.errors import Unavailable
from reviews.record_value import CutBytes

LEFT_OUT_HEADER = "reviewloop.value_left_out"
WHOLE_BYTES_HEADER = "reviewloop.value_bytes"
WHOLE_SHA256_HEADER = "reviewloop.value_sha256"

_WAIT_SECONDS = 15
_FINAL_REFUSALS = (
    InvalidRecordError,  # a compacted topic takes nothing without a key
    InvalidTimestampError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)


def forward(settings: KafkaSettings, topic: str, letters: Sequence[StoredLetter]) -> None:
    """Publish dead letters with their original key, value and time, and return when the topic has them.

    A topic may refuse one of them for good, for its size, for a time too far in the future, or for want of a
    key. It then gets the letter with the present time, then with an empty key if it had none, and if that is
    not enough without its value: the headers name the place, and one more (``reviewloop.value_left_out``)
    says how many bytes the database keeps of it. Where the database keeps only the beginning of the value,
    two say how many bytes the whole has (``reviewloop.value_bytes``) and its hash
    (``reviewloop.value_sha256``).

    Raises:
        Unavailable: If the brokers do not answer or did not acknowledge every letter; some may be there.
        ReviewLoopError: If the topic does not exist or may not be written.
    """
    require_topic(settings, topic)
    # Not idempotent: at least once is promised, and a refused letter must not be the end of the others.
    producer = open_producer(settings, idempotent=False)
    try:
        records = [_to_record(letter) for letter in letters]
        # A batch is refused as a whole: one that is too large takes its neighbours with it the first time.
        for record in _send(producer, settings, topic, records):
            _send_alone(producer, settings, topic, record)
    finally:
        close_producer(producer)


def _to_record(letter: StoredLetter) -> OutgoingRecord:
    is_known = letter.timestamp_ms is not None and letter.timestamp_ms >= 0
    headers = connect_headers(letter)
    if isinstance(letter.raw, CutBytes):
        headers.append((WHOLE_BYTES_HEADER, str(letter.raw.full_bytes).encode()))
        headers.append((WHOLE_SHA256_HEADER, letter.raw.sha256.encode()))
    return OutgoingRecord(letter.key, letter.raw, headers, letter.timestamp_ms if is_known else None)


def _send_alone(producer: Any, settings: KafkaSettings, topic: str, record: OutgoingRecord) -> None:
    for variant in _ever_less(record):
        if not _send(producer, settings, topic, [variant]):
            return
    raise Unavailable(f"The topic '{topic}' refuses even a dead letter without its value.")


def _ever_less(record: OutgoingRecord) -> Iterator[OutgoingRecord]:
    yield record
    yield (timeless := record._replace(timestamp_ms=None))
    if record.key is None:
        yield (timeless := timeless._replace(key=b""))
    note = (LEFT_OUT_HEADER, str(len(record.value or b"")).encode())
    yield (bare := timeless._replace(value=None, headers=[*(record.headers or []), note]))
    yield bare._replace(key=None)


def _send(
    producer: Any, settings: KafkaSettings, topic: str, records: Sequence[OutgoingRecord]
) -> list[OutgoingRecord]:
    """Send and wait; the records that the topic refuses for good."""
    futures = [_start(producer, settings, topic, record) for record in records]
    deadline = time.monotonic() + _WAIT_SECONDS
    refused = []
    for record, future in zip(records, futures, strict=True):
        # Each by itself: kafka-python's flush() fails when it had to split a batch that was too large.
        with describe_errors(settings):
            try:
                if future is not None:
                    future.get(timeout=max(0.0, deadline - time.monotonic()))
                    continue
            except KafkaError as err:
                if not _is_final(err):
                    raise
        refused.append(record)
    return refused


def _start(producer: Any, settings: KafkaSettings, topic: str, record: OutgoingRecord) -> Any:
    """The future of a record; None where the producer itself finds it too large."""
    with describe_errors(settings):
        try:
            return start_sending(producer, topic, record)
        except _FINAL_REFUSALS:
            return None


def _is_final(err: KafkaError) -> bool:
    # What stood in one batch with a record that was refused fails by an error of no kind.
    return isinstance(err, _FINAL_REFUSALS) or type(err) is KafkaError
