"""Joining the consumer group, however long the brokers are away."""

import threading

import structlog

from broker.settings import KafkaSettings
from broker.subscription import Subscription
from consumer.measures import Measures
from consumer.settings import ConsumerSettings
from reviews.retry import Retry

log = structlog.get_logger()


def subscribe_patiently(
    settings: KafkaSettings,
    options: ConsumerSettings,
    stopping: threading.Event,
    measures: Measures | None = None,
    topic: str | None = None,
) -> Subscription:
    """A member of the group that reads the reviews topic, or another one, which need not be there.

    Args:
        settings: How to reach the brokers, and the group.
        options: How patiently to wait, and how long a message may be.
        stopping: Ends the waiting.
        measures: Where failed attempts are counted.
        topic: Another topic than that of the reviews.

    Raises:
        Unavailable: If ``stopping`` was set while no broker answered.
        WrongUse: If no broker is configured.
    """
    topic = topic or settings.reviews_topic
    retry = Retry(
        "kafka_unavailable",
        "kafka_back",
        longest_seconds=options.retry_max_seconds,
        wait=stopping.wait,
        note=(measures or Measures()).noting("kafka", by="subscription"),
        topic=topic,
    )
    return retry(lambda: _subscribe(settings, topic, options.max_message_bytes))


def _subscribe(settings: KafkaSettings, topic: str, max_message_bytes: int) -> Subscription:
    subscription = Subscription(settings, topic, max_message_bytes)
    try:
        if topic == settings.reviews_topic and not subscription.topic_exists():
            log.warning("topic_missing", topic=topic, detail="Waiting until it is made.")
    except BaseException:
        subscription.close()
        raise
    return subscription
