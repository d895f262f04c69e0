"""Topics: make them, look at them."""

from contextlib import closing

from kafka import TopicPartition
from kafka.errors import TopicAlreadyExistsError

from broker.connections import describe_errors, open_admin, open_consumer
from broker.settings import KafkaSettings

_ANSWER_MS = 10_000


def create_topics(
    settings: KafkaSettings, names: list[str], *, partitions: int, replication_factor: int
) -> dict[str, bool]:
    """Make topics that are not there yet; those that are stay as they are.

    Returns:
        For each name whether it was made now.

    Raises:
        Unavailable: If no broker answers.
    """
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


def end_offset(settings: KafkaSettings, topic: str, partition: int) -> int:
    """The offset after the last record of a partition.

    Raises:
        Unavailable: If no broker answers, or none knows the partition.
    """
    place = TopicPartition(topic, partition)
    with describe_errors(settings), closing(open_consumer(settings)) as consumer:
        return int(consumer.end_offsets([place], timeout_ms=_ANSWER_MS)[place])
