"""Joining the consumer group, however long the brokers are away."""

import threading

import structlog

from broker.settings import KafkaSettings
from broker.subscription import Subscription
from consumer.measures import Measures
from consumer.settings import ConsumerSettings
from reviews.errors import Unavailable
from reviews.retry import Outage, backoff_seconds

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
    measures = measures or Measures()
    topic, outage = topic or settings.reviews_topic, Outage()
    for pause in backoff_seconds(options.retry_max_seconds):
        try:
            subscription = _subscribe(settings, topic, options.max_message_bytes)
        except Unavailable as err:
            measures.failed(err.service, by="subscription")
            if outage.failed(str(err)):
                log.warning(
                    "kafka_unavailable", topic=topic, error=str(err), retry_in_seconds=round(pause, 1)
                )
            if stopping.wait(pause):
                raise
            continue
        measures.answered("kafka", by="subscription")
        if (seconds := outage.ended()) is not None:
            log.info("kafka_back", topic=topic, away_seconds=round(seconds, 1))
        return subscription
    raise RuntimeError("The pauses between attempts came to an end.")


def _subscribe(settings: KafkaSettings, topic: str, max_message_bytes: int) -> Subscription:
    subscription = Subscription(settings, topic, max_message_bytes)
    try:
        if topic == settings.reviews_topic and not subscription.topic_exists():
            log.warning("topic_missing", topic=topic, detail="Waiting until it is made.")
    except BaseException:
        subscription.close()
        raise
    return subscription
