"""Some of a topic's latest records, read outside every consumer group and in bounded time and memory."""

import time
from contextlib import closing
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition

from broker.connections import describe_errors, open_consumer
from broker.fetching import bound_fetches
from broker.settings import KafkaSettings
from reviews.dead_letter import RecordHeaders
from reviews.errors import WrongUse

MOST_RECORDS = 1_000
MOST_BYTES = 16 * 1024 * 1024
"""Where a sample ends, however few records it has."""

_ANSWER_MS = 10_000
_POLL_MS = 500
_LONGEST_SECONDS = 15.0


class SampledRecord(NamedTuple):
    """One record.

    Attributes:
        topic_id: The id of its topic.
        partition: Its partition.
        offset: Its offset there.
        timestamp: Kafka's time, in milliseconds since 1970; below 0 where it has none.
        key: Raw bytes, cut where they are too long.
        value: The same; None is a tombstone.
        headers: Names and raw values.
    """

    topic_id: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


def sample_topic(
    settings: KafkaSettings, topic: str, limit: int, max_value_bytes: int
) -> list[SampledRecord]:
    """The latest records of each partition, together about as many as asked for, partition by partition.

    No group is joined and no offset committed. Fewer come back where Kafka holds no more, where they are
    large, or where the brokers are slow.

    Args:
        settings: How to reach the brokers.
        topic: Its name.
        limit: At most so many, and at most :data:`MOST_RECORDS`.
        max_value_bytes: Longer keys and values are cut.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If there is no such topic, or no broker is configured.
    """
    wanted = min(limit, MOST_RECORDS)
    with describe_errors(settings), closing(open_consumer(settings)) as consumer:
        allowance = bound_fetches(consumer, max_value_bytes)
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise WrongUse(f"The topic '{topic}' does not exist at {settings.bootstrap_servers}.")
        topic_id = str(consumer._client.cluster.topic_id(topic))  # noqa: SLF001  it has no public accessor
        places = [TopicPartition(topic, number) for number in sorted(numbers)]
        starts, ends = _bounds(consumer, places, wanted)
        places = [place for place in places if starts[place] < ends[place]]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, starts[place])
        found: dict[TopicPartition, list[SampledRecord]] = {place: [] for place in places}
        held, deadline = 0, time.monotonic() + _LONGEST_SECONDS
        while held < MOST_BYTES and time.monotonic() < deadline and _is_unread(consumer, ends, places):
            allowance.renew()
            for place, records in consumer.poll(timeout_ms=_POLL_MS).items():
                for record in records:
                    if record.offset < ends[place]:
                        found[place].append(_sampled(topic_id, place.partition, record))
                        held += len(record.value or b"") + len(record.key or b"")
    return _evenly(list(found.values()), wanted)


def _bounds(
    consumer: KafkaConsumer, places: list[TopicPartition], wanted: int
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Where to begin and where to end in each partition."""
    begins = consumer.beginning_offsets(places, timeout_ms=_ANSWER_MS)
    ends = consumer.end_offsets(places, timeout_ms=_ANSWER_MS)
    return {place: max(begins[place], ends[place] - wanted) for place in places}, ends


def _is_unread(
    consumer: KafkaConsumer, ends: dict[TopicPartition, int], places: list[TopicPartition]
) -> bool:
    return any(consumer.position(place, timeout_ms=_ANSWER_MS) < ends[place] for place in places)


def _sampled(topic_id: str, partition: int, record: Any) -> SampledRecord:
    values = (getattr(record, name) for name in ("offset", "timestamp", "key", "value", "headers"))
    return SampledRecord(topic_id, partition, *values)


def _evenly(partitions: list[list[SampledRecord]], wanted: int) -> list[SampledRecord]:
    """The latest of each partition, as many of each as there is room for."""
    chosen: list[SampledRecord] = []
    waiting = sorted(partitions, key=len)
    for index, records in enumerate(waiting):
        share = -(-(wanted - len(chosen)) // (len(waiting) - index))
        chosen += records[max(0, len(records) - share) :] if share > 0 else []
    return sorted(chosen, key=lambda record: (record.partition, record.offset))
