"""Wiring of the label reader: beside a worker that scores reviews, or alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from broker.topics import TopicChoice
from consumer.label_reader import LabelReader
from consumer.measures import Measures
from consumer.parsing import parse_labels
from consumer.pipeline import LabelPipeline
from consumer.source import Source
from consumer.subscribing import subscribe
from consumer.worker import Totals, Worker
from reviewloop.settings import Settings
from reviewloop.wiring.registry import open_database
from storage.database import Database
from storage.labels.waiting import pin_waiting
from storage.stream.label_writer import LabelWriter
from storage.stream.partitions import PartitionStore

_GROUP_SUFFIX = "-labels"


@contextmanager
def open_label_reader(
    settings: Settings,
    stopping: Event,
    until_idle_seconds: float | None = None,
    *,
    measures: Measures | None = None,
    is_alone: bool = False,
) -> Iterator[LabelReader]:
    """Within the block, the labels topic is read, and labels that waited for their review are pinned.

    Args:
        settings: All settings.
        stopping: Ends the reading.
        until_idle_seconds: The reading ends by itself when nothing has come for so long.
        measures: Where the reading counts what it does.
        is_alone: True for ``reviewloop label consume``: nothing else runs, so the first error ends it.

    Raises:
        ReviewLoopError: The first error, if is_alone.
        Exception: A fault of the program that persists after the block has ended.
    """
    with open_database(settings) as database:
        reader = LabelReader(
            lambda: _read_labels(settings, database, stopping, until_idle_seconds, measures),
            lambda: pin_waiting(
                database,
                settings.consumer.waiting_label_patience,
                forward_dead_letters=settings.consumer.dead_letter_topic is not None,
            ),
            topic=settings.kafka.labels_topic,
            stopping=stopping,
            retry_max_seconds=settings.consumer.retry_max_seconds,
            is_alone=is_alone,
            ends_when_idle=until_idle_seconds is not None,
        )
        reader.start()
        try:
            yield reader
        except BaseException:
            stopping.set()
            raise
        finally:
            ends_by_itself = until_idle_seconds is not None and not stopping.is_set()
            reader.finish(None if ends_by_itself else settings.consumer.shutdown_grace_seconds)


def _read_labels(
    settings: Settings,
    database: Database,
    stopping: Event,
    until_idle_seconds: float | None,
    measures: Measures | None,
) -> Totals | None:
    """Read labels until told to stop, or until idle; None if the topic does not exist.

    Labels have a consumer group of their own, so that a worker that reads both topics can leave one of them.
    """
    options, kafka = settings.consumer, settings.kafka
    labels_kafka = kafka.model_copy(update={"group_id": f"{kafka.group_id}{_GROUP_SUFFIX}"})
    subscription = subscribe(
        labels_kafka, TopicChoice((kafka.labels_topic,)), options, stopping, measures, warns_if_missing=False
    )
    try:
        if subscription.missing_topics():
            return None
        return Worker(
            options,
            Source(options, subscription, PartitionStore(database), parse_labels),
            LabelPipeline(
                options,
                LabelWriter(database, forward_dead_letters=options.dead_letter_topic is not None),
                measures,
            ),
            stopping=stopping,
            measures=measures,
            interruptions=lambda: database.interruptions,
        ).run(until_idle_seconds)
    finally:
        subscription.close()
