"""Publishing: many records, compressed and idempotent, each either acknowledged or reported."""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from kafka.errors import KafkaError, KafkaTimeoutError

from broker.connections import describe_errors, open_producer
from broker.settings import KafkaSettings
from reviews.errors import ReviewLoopError, Unavailable


class OutgoingRecord(NamedTuple):
    """One record to publish; records with the same key keep their order."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] | None = None


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
        ReviewLoopError: If the topic does not exist.
    """
    producer = open_producer(settings)
    failures: list[BaseException] = []
    sent = 0
    try:
        _require_topic(producer, settings, topic)
        started = time.monotonic()
        for record in records:
            with describe_errors(settings):
                # kafka-python takes headers as they are, but not None.
                future = producer.send(topic, record.value, key=record.key, headers=record.headers or [])
            future.add_errback(failures.append)
            sent += 1
            if sent % 256 == 0 or rate:
                on_progress(sent)
            if rate:
                time.sleep(max(0.0, started + sent / rate - time.monotonic()))
            if failures:
                break
        with describe_errors(settings):
            producer.flush(timeout=60)
    finally:
        _close(producer)
    on_progress(sent)
    if failures:
        raise Unavailable(
            f"Kafka refused {len(failures):,} of {sent:,} records ({type(failures[0]).__name__}); the others "
            "are published. Publishing again is harmless: the same ids replace each other."
        )
    return sent


def _require_topic(producer: Any, settings: KafkaSettings, topic: str) -> None:
    try:
        known = producer.partitions_for(topic)
    except KafkaTimeoutError:
        known = None
    except KafkaError as err:
        raise Unavailable(f"The topic '{topic}' cannot be looked up: {type(err).__name__}.") from err
    if not known:
        raise ReviewLoopError(
            f"The topic '{topic}' does not exist at {settings.bootstrap_servers}: make it with "
            "'reviewloop topics create'."
        )


def _close(producer: Any) -> None:
    try:
        producer.close(timeout=5)
    except KafkaError:
        # The brokers are gone; what was not acknowledged has been reported already.
        return
