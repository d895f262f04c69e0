"""What can be seen of the brokers without taking part in anything."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition

from broker.connections import describe_errors, open_consumer
from broker.settings import KafkaSettings


@dataclass(frozen=True, slots=True)
class BrokerReport:
    """What the brokers say.

    Attributes:
        cluster_id: Of the cluster.
        brokers: How many there are.
        partitions: How many each topic has; 0 where it does not exist.
        has_future_records: Whether a record of the first topic carries a time after the moment asked about.
    """

    cluster_id: str
    brokers: int
    partitions: dict[str, int]
    has_future_records: bool


def look(settings: KafkaSettings, topics: Sequence[str], future_ms: int) -> BrokerReport:
    """Ask the brokers about themselves and these topics.

    Args:
        settings: How to reach them; the group is not joined.
        topics: Their names.
        future_ms: A moment to come, milliseconds since 1970; no record should be from after it.

    Raises:
        Unavailable: If no broker answers.
        ReviewLoopError: If they do not let us in.
    """
    with closing(open_consumer(settings)) as consumer, describe_errors(settings):
        partitions = {topic: consumer.partitions_for_topic(topic) or set() for topic in topics}
        cluster = consumer._client.cluster  # noqa: SLF001  it has no public accessor
        return BrokerReport(
            str(cluster.cluster_id),
            len(cluster.brokers()),
            {topic: len(found) for topic, found in partitions.items()},
            _has_later_records(consumer, topics[0], partitions[topics[0]], future_ms),
        )


def _has_later_records(consumer: KafkaConsumer, topic: str, partitions: set[int], moment_ms: int) -> bool:
    moments = {TopicPartition(topic, number): moment_ms for number in partitions}
    return bool(moments) and any(consumer.offsets_for_times(moments).values())
