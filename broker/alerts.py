"""Alerts onto their topic."""

from broker.publisher import OutgoingRecord, publish
from broker.settings import KafkaSettings


def publish_alert(settings: KafkaSettings, topic: str, alert_id: str, body: bytes) -> None:
    """Publish one alert under its id, and return when the topic has it.

    Raises:
        Unavailable: If the brokers do not answer or did not acknowledge it.
        ReviewLoopError: If the topic does not exist or may not be written.
    """
    publish(settings, topic, [OutgoingRecord(alert_id.encode(), body)])
