"""Creates topics and reads their offsets, without joining a consumer group."""

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import TopicAlreadyExistsError

from broker.connections import describe_errors, open_admin, open_consumer
from broker.settings import KafkaSettings, topic_name
from reviews.errors import WrongUse

_ANSWER_MS = 10_000


def create_topics(
    settings: KafkaSettings, names: list[str], *, partitions: int, replication_factor: int
) -> dict[str, bool]:
    """Make topics that are not there yet; those that are stay as they are.

    Returns:
        For each name whether it was made now.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If Kafka would not take a name.
    """
    for name in names:
        try:
            topic_name(name)
        except ValueError as err:
            raise WrongUse(f"'{name}' {err}.") from None
    made: dict[str, bool] = {}
    with describe_errors(settings), closing(open_admin(settings)) as admin:
        for name in names:
            try:
                options = {"num_partitions": partitions, "replication_factor": replication_factor}
                admin.create_topics({name: options}, wait_for_metadata=True)
                made[name] = True
            except TopicAlreadyExistsError:
                made[name] = False
    return made


@dataclass(frozen=True, slots=True)
class TopicEnds:
    """How far a topic goes.

    Attributes:
        cluster_id: The cluster that it is in.
        topic_id: Its id, which a topic made anew under its name does not share.
        offsets: The offset after the last readable record, by partition.
    """

    cluster_id: str
    topic_id: str
    offsets: dict[int, int]


def topic_ends(settings: KafkaSettings, topics: Collection[str]) -> dict[str, TopicEnds]:
    """How far each of these topics goes; those that do not exist are left out.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If no broker is configured.
    """
    with closing(TopicEndsReader(settings)) as reader:
        return reader.read(topics)


class TopicEndsReader:
    """Reads again and again how far topics go, over one connection.

    Args:
        settings: How to reach the brokers.

    Raises:
        Unavailable: If no broker answers.
        WrongUse: If no broker is configured.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        with describe_errors(settings):
            self._consumer = open_consumer(settings)

    def read(self, topics: Collection[str]) -> dict[str, TopicEnds]:
        """How far each of these topics goes now; those that do not exist are left out.

        Raises:
            Unavailable: If no broker answers.
        """
        consumer = self._consumer
        with describe_errors(self._settings):
            places = [
                TopicPartition(topic, number)
                for topic in topics
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            ends = consumer.end_offsets(places, timeout_ms=_ANSWER_MS) if places else {}
        cluster = consumer._client.cluster  # noqa: SLF001  it has no public accessor
        found: dict[str, TopicEnds] = {}
        for place, offset in ends.items():
            topic_id = str(cluster.topic_id(place.topic))
            known = found.setdefault(place.topic, TopicEnds(str(cluster.cluster_id), topic_id, {}))
            known.offsets[place.partition] = offset
        return found

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def end_offset(settings: KafkaSettings, topic: str, partition: int) -> int:
    """The offset after the last record of a partition.

    Raises:
        Unavailable: If no broker answers, or none knows the partition.
    """
    place = TopicPartition(topic, partition)
    with describe_errors(settings), closing(open_consumer(settings)) as consumer:
        return int(consumer.end_offsets([place], timeout_ms=_ANSWER_MS)[place])


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
        future_ms: A moment in the future, milliseconds since 1970; no record should be later.

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
