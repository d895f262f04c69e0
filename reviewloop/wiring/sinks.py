"""Wiring of sinks."""

import threading
from collections.abc import Sequence
from functools import partial

from broker.formats.avro_rows import AvroRowFormat
from broker.formats.registry import SchemaRegistry
from broker.ordered_publisher import OrderedPublisher
from consumer.settings import SinkSettings
from consumer.sinks import Headers, JsonFormat, RowFormat, SinkForwarder, SinkMeasures, cloud_event
from reviewloop.settings import Settings
from reviews.errors import WrongUse
from reviews.scored_row import ScoredRow
from storage.database import Database
from storage.stream.sinks import SinkStore


def chosen_sinks(settings: Settings, topics: Sequence[str]) -> list[SinkSettings]:
    """The configured sinks, or those of them that are named.

    Raises:
        WrongUse: If none is configured, one is not, or one is a topic that is read.
    """
    configured = {sink.topic: sink for sink in settings.sinks}
    if not configured:
        raise WrongUse(
            'No sink is configured: add a section [[sinks]] with topic = "scored-reviews" to the settings '
            "file."
        )
    if unknown := [topic for topic in topics if topic not in configured]:
        raise WrongUse(f"There is no sink '{unknown[0]}' in the settings: they name {', '.join(configured)}.")
    return [configured[topic] for topic in topics or configured]


def make_forwarder(
    settings: Settings,
    sink: SinkSettings,
    database: Database,
    stopping: threading.Event,
    measures: SinkMeasures,
) -> SinkForwarder:
    """What forwards one sink.

    Raises:
        WrongUse: If it writes Avro, and no schema registry is configured or fastavro is not installed.
    """
    row_format = _row_format(settings, sink)
    headers = partial(_headers, sink, row_format.content_type)
    return SinkForwarder(
        SinkStore(database, sink.topic, settings.kafka.labels_topic, sink.start),
        OrderedPublisher(settings.kafka, sink.topic),
        row_format,
        headers,
        stopping,
        retry_max_seconds=settings.consumer.retry_max_seconds,
        measures=measures,
    )


def _row_format(settings: Settings, sink: SinkSettings) -> RowFormat:
    if sink.format == "avro":
        return AvroRowFormat(SchemaRegistry(settings.registry), sink.topic)
    return JsonFormat()


def _headers(sink: SinkSettings, content_type: str, row: ScoredRow) -> Headers | None:
    return cloud_event(row, sink.topic, content_type) if sink.cloud_events else None
