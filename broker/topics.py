"""Topics: make them, look at them."""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass

from kafka import TopicPartition
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
    with describe_errors(settings), closing(open_consumer(settings)) as consumer:
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


def end_offset(settings: KafkaSettings, topic: str, partition: int) -> int:
    """The offset after the last record of a partition.

    Raises:
        Unavailable: If no broker answers, or none knows the partition.
    """
    place = TopicPartition(topic, partition)
    with describe_errors(settings), closing(open_consumer(settings)) as consumer:
        return int(consumer.end_offsets([place], timeout_ms=_ANSWER_MS)[place])
