"""Joining the consumer group, however long the brokers do not answer."""

import threading

import structlog

from broker.settings import KafkaSettings
from broker.subscription import Subscription
from broker.topics import TopicChoice
from consumer.measures import Measures
from consumer.settings import ConsumerSettings
from reviews.retry import Retry

log = structlog.get_logger()


def subscribe(
    kafka: KafkaSettings,
    choice: TopicChoice,
    options: ConsumerSettings,
    stopping: threading.Event,
    measures: Measures | None = None,
    *,
    warns_if_missing: bool = True,
) -> Subscription:
    """A member of the consumer group that reads topics, which need not exist yet.

    Args:
        kafka: How to reach the brokers, and the group.
        choice: The topics.
        options: The longest pause between two attempts, and how long a message may be.
        stopping: Ends the waiting.
        measures: Where failed attempts are counted.
        warns_if_missing: Whether a topic that does not exist is worth a warning.

    Raises:
        Unavailable: If ``stopping`` was set while no broker answered.
        WrongUse: If no broker is configured.
    """
    retry = Retry(
        "kafka_unavailable",
        "kafka_back",
        longest_seconds=options.retry_max_seconds,
        wait=stopping.wait,
        note=(measures or Measures()).noting("kafka", by="subscription"),
        topic=str(choice),
    )
    return retry(lambda: _subscribe(kafka, choice, options.max_message_bytes, warns_if_missing))


def _subscribe(
    kafka: KafkaSettings, choice: TopicChoice, max_message_bytes: int, warns_if_missing: bool
) -> Subscription:
    subscription = Subscription(kafka, choice, max_message_bytes)
    try:
        for missing in subscription.missing_topics() if warns_if_missing else ():
            log.warning("topic_missing", topic=missing, detail="Waiting until it is made.")
    except BaseException:
        subscription.close()
        raise
    return subscription
