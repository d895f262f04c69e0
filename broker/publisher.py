"""Publishing of many records, compressed and idempotent; each one is acknowledged or reported."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

from broker.connections import describe_errors, open_admin, open_producer
from broker.settings import KafkaSettings
from reviews.dead_letter import RecordHeaders
from reviews.errors import ReviewLoopError, Unavailable, WrongUse

_FLUSH_SECONDS = 60
_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)


class OutgoingRecord(NamedTuple):
    """One record to publish; records with the same key keep their order.

    Attributes:
        key: Raw bytes.
        value: Raw bytes; None is a tombstone.
        headers: Names and raw values.
        timestamp_ms: Milliseconds since 1970; None: now.
    """

    key: bytes | None
    value: bytes | None
    headers: RecordHeaders | None = None
    timestamp_ms: int | None = None


def publish(
    settings: KafkaSettings,
    topic: str,
    records: Iterable[OutgoingRecord],
    *,
    rate: float | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Send records and wait until all of them are acknowledged by every in-sync replica.

    Args:
        settings: How to reach the brokers.
        topic: Where to.
        records: What to send, in order.
        rate: At most so many per second; None: as fast as the brokers take them.
        on_progress: Called now and then with the number sent so far.

    Returns:
        How many were sent.

    Raises:
        Unavailable: If the brokers do not answer, or did not acknowledge every record.
        ReviewLoopError: If the topic does not exist, or takes no record of such a size.
    """
    require_topic(settings, topic)
    producer = open_producer(settings)
    failures: list[BaseException] = []
    sent = 0
    try:
        started = time.monotonic()
        with describe_errors(settings), _naming_the_limit(topic):
            for record in records:
                start_sending(producer, topic, record).add_errback(failures.append)
                sent += 1
                if sent % 256 == 0 or rate:
                    on_progress(sent)
                if rate:
                    time.sleep(max(0.0, started + sent / rate - time.monotonic()))
                if failures:
                    break
            _flush(producer, failures)
            if failures and isinstance(failures[0], _TOO_LARGE):
                raise failures[0]
    finally:
        close_producer(producer)
    on_progress(sent)
    if failures:
        raise Unavailable(
            f"Kafka refused {len(failures):,} of {sent:,} records ({type(failures[0]).__name__}); the others "
            "are published. Publishing again is harmless: the same ids replace each other."
        )
    return sent


def _flush(producer: Any, failures: list[BaseException]) -> None:
    """Wait for the acknowledgements, or for a failure: an idempotent producer sends nothing after it."""
    deadline = time.monotonic() + _FLUSH_SECONDS
    while not failures:
        try:
            producer.flush(timeout=1)
        except KafkaError:
            if time.monotonic() > deadline and not failures:
                raise
        else:
            return


@contextmanager
def _naming_the_limit(topic: str) -> Iterator[None]:
    try:
        yield
    except _TOO_LARGE as err:
        raise ReviewLoopError(
            f"A record is larger than the topic '{topic}' takes: shorten the text or raise the topic's "
            "max.message.bytes, then publish again (the same ids replace each other)."
        ) from err


def start_sending(producer: Any, topic: str, record: OutgoingRecord) -> Any:
    """Hand a record to kafka-python and return its future."""
    # kafka-python refuses what has neither key nor value; others publish such tombstones.
    key = b"" if record.key is None and record.value is None else _plain(record.key)
    # Nor does it take a header without a value; an empty one is the nearest.
    headers = [(name, _plain(value) or b"") for name, value in record.headers or ()]
    return producer.send(
        topic, _plain(record.value), key=key, headers=headers, timestamp_ms=record.timestamp_ms
    )


def _plain(value: bytes | None) -> bytes | None:
    """Bytes as kafka-python takes them: it refuses classes of their kind."""
    return None if value is None else bytes(value)


def require_topic(settings: KafkaSettings, topic: str) -> None:
    """Nothing, where the topic exists; a producer alone would wait for one that does not.

    Raises:
        Unavailable: If the brokers do not say.
        WrongUse: If it does not exist.
    """
    with describe_errors(settings), closing(open_admin(settings)) as admin:
        is_known = topic in admin.list_topics()
    if not is_known:
        raise WrongUse(
            f"The topic '{topic}' does not exist at {settings.bootstrap_servers}: check its name, or make it "
            "with 'reviewloop topics create'."
        )


def close_producer(producer: Any) -> None:
    """Let go of a producer, also one whose brokers are gone."""
    try:
        producer.close(timeout=5)
    except KafkaError:
        # The brokers are gone; what was not acknowledged has been reported already.
        return


def publish_alert(settings: KafkaSettings, topic: str, alert_id: str, body: bytes) -> None:
    """Publish one alert under its id, and return when the topic has it.

    Raises:
        Unavailable: If the brokers do not answer or did not acknowledge it.
        ReviewLoopError: If the topic does not exist or may not be written.
    """
    publish(settings, topic, [OutgoingRecord(alert_id.encode(), body)])
