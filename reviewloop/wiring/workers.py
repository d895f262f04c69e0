"""Wiring of the workers for reviews and for labels."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import structlog

from broker.forwarding import forward
from classifier.classifier import Classifier
from classifier.ensemble import Ensemble
from classifier.host import Hosts, build_in_background
from consumer.forwarding import Forwarder
from consumer.label_reading import LabelReading
from consumer.measures import Measures
from consumer.parsing import parse_labels, parse_reviews
from consumer.pipeline import LabelPipeline, ReviewPipeline
from consumer.serving import Serving
from consumer.shadows import Shadows
from consumer.source import Source, subscribe
from consumer.worker import Totals, Worker
from reviewloop.settings import Settings
from reviewloop.wiring.registry import load_registered, open_database, say_what_serves
from reviews.batch import AcceptedLabel
from reviews.errors import WrongUse
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore
from storage.database import Database
from storage.labels.store import pin_waiting
from storage.stream.dead_letters import DeadLetterStore
from storage.stream.label_writer import LabelWriter
from storage.stream.partitions import PartitionStore
from storage.stream.writing import ReviewWriter

# Python's 700 fits scripts. Tens of thousands of reviews are in flight here, none of them in a cycle, and
# looking at each of them again and again took 40 % of the worker's time.
_YOUNG_OBJECTS = 50_000
LABELS_GROUP_SUFFIX = "-labels"
LABELS_TOPIC_LOOK_SECONDS = 60.0
_FORWARD_POLL_SECONDS = 1.0


@contextmanager
def open_worker(
    settings: Settings,
    stopping: Event,
    on_progress: Callable[[Totals], None] = lambda _: None,
    measures: Measures | None = None,
) -> Iterator[Worker]:
    """A worker that is ready to run; everything it opened is closed at the end.

    Args:
        settings: All settings.
        stopping: Ends the waiting for unavailable services.
        on_progress: Called with the totals whenever they grew.
        measures: Where the worker counts what it does.

    Raises:
        WrongUse: If a task has no active adapter or a service is not configured.
        AdapterError: If an active adapter cannot be used.
        ModelError: If a base model cannot be loaded.
    """
    options = settings.consumer
    measures = measures or Measures()
    with open_database(settings) as database:
        store, hosts = AdapterStore(database), Hosts(settings.classifier)

        def load(version: str) -> Classifier | Ensemble:
            is_serving = bool(serving.current())
            return say_what_serves(
                build_in_background(
                    lambda: load_registered(settings, store, version, hosts), make_way=is_serving
                )
            )

        serving = Serving(store, options.tasks, load, measures)

        def look_around() -> None:
            database.require_writable()
            shadows.refresh()

        shadows = Shadows(ShadowStore(database), options.tasks, load, serving.current, measures)
        serving.load_first(options.retry_max_seconds, stopping)
        subscription = subscribe(settings.kafka, options, stopping, measures)
        try:
            source = Source(options, subscription, PartitionStore(database), parse_reviews)
            writer = ReviewWriter(database, forward_dead_letters=options.dead_letter_topic is not None)
            pipeline = ReviewPipeline(options, serving.current, writer, measures, shadows.current)
            serving.follow(options.adapter_poll_seconds, also=look_around)
            with forwarding(settings, database), rare_collections():
                yield Worker(
                    options,
                    source,
                    pipeline,
                    stopping=stopping,
                    on_progress=on_progress,
                    measures=measures,
                    interruptions=lambda: database.interruptions,
                )
        finally:
            serving.stop()
            subscription.close()


@contextmanager
def forwarding(settings: Settings, database: Database) -> Iterator[None]:
    """Meanwhile, dead letters go to their Kafka topic as well, where one is configured.

    Raises:
        WrongUse: If that is a topic that reviews or labels are read from.
    """
    topic = settings.consumer.dead_letter_topic
    if topic is None:
        yield
        return
    if topic in {settings.kafka.reviews_topic, settings.kafka.labels_topic}:
        raise WrongUse(f"Dead letters cannot go to '{topic}', which is read: name another topic for them.")
    forwarder = Forwarder(
        DeadLetterStore(database),
        lambda letters: forward(settings.kafka, topic, letters),
        poll_seconds=_FORWARD_POLL_SECONDS,
        retry_max_seconds=settings.consumer.retry_max_seconds,
    )
    forwarder.start()
    try:
        yield
    finally:
        forwarder.stop(timeout_seconds=settings.consumer.shutdown_grace_seconds)


@contextmanager
def open_label_worker(
    settings: Settings,
    database: Database,
    stopping: Event,
    on_progress: Callable[[Totals], None] = lambda _: None,
    measures: Measures | None = None,
) -> Iterator[Worker[AcceptedLabel] | None]:
    """A worker that is ready to read the labels topic; None where no such topic is there.

    Labels have a consumer group of their own, so that who reads both topics can stop reading one of them.

    Args:
        settings: All settings.
        database: Where labels go.
        stopping: Ends the waiting for unavailable services.
        on_progress: Called with the totals whenever they grew.
        measures: Where the worker counts what it does.

    Raises:
        WrongUse: If a service is not configured.
    """
    options, kafka = settings.consumer, settings.kafka
    group = kafka.model_copy(update={"group_id": f"{kafka.group_id}{LABELS_GROUP_SUFFIX}"})
    subscription = subscribe(group, options, stopping, measures, topic=kafka.labels_topic)
    try:
        if not subscription.topic_exists():
            yield None
            return
        source = Source(options, subscription, PartitionStore(database), parse_labels)
        writer = LabelWriter(database, forward_dead_letters=options.dead_letter_topic is not None)
        pipeline = LabelPipeline(options, writer, measures)
        yield Worker(
            options,
            source,
            pipeline,
            stopping=stopping,
            on_progress=on_progress,
            measures=measures,
            interruptions=lambda: database.interruptions,
        )
    finally:
        subscription.close()


@contextmanager
def reading_labels(
    settings: Settings,
    stopping: Event,
    until_idle_seconds: float | None = None,
    *,
    measures: Measures | None = None,
    is_patient: bool = True,
) -> Iterator[LabelReading]:
    """Meanwhile, the labels topic is read, and labels that waited for their review are pinned.

    Args:
        settings: All settings.
        stopping: Ends the reading; set after an error where is_patient is false.
        until_idle_seconds: The reading ends by itself when nothing has come for so long.
        measures: Where the reading counts what it does.
        is_patient: Whether whatever goes wrong is tried again: labels never stop what runs meanwhile.

    Raises:
        ReviewLoopError: What went wrong, where is_patient is false.
        Exception: A fault of the program that is still there after what ran meanwhile has ended.
    """
    with open_database(settings) as database:
        reading = LabelReading(
            lambda: _read_labels(
                settings, database, stopping, until_idle_seconds, measures, is_topic_required=not is_patient
            ),
            lambda: pin_waiting(database),
            stopping=stopping,
            retry_max_seconds=settings.consumer.retry_max_seconds if is_patient else None,
        )
        reading.start()
        try:
            yield reading
        except BaseException:
            stopping.set()
            raise
        finally:
            is_open = until_idle_seconds is not None and not stopping.is_set()
            reading.finish(None if is_open else settings.consumer.shutdown_grace_seconds)


def _read_labels(
    settings: Settings,
    database: Database,
    stopping: Event,
    until_idle_seconds: float | None,
    measures: Measures | None,
    *,
    is_topic_required: bool,
) -> Totals:
    """Read labels until told to stop, or until idle; a topic that is not there is looked for again.

    Raises:
        WrongUse: If a required topic is not there and is to be read until idle.
    """
    is_said = False
    while True:
        with open_label_worker(settings, database, stopping, measures=measures) as worker:
            if worker is not None:
                return worker.run(until_idle_seconds)
        topic = settings.kafka.labels_topic
        if is_topic_required and until_idle_seconds is not None:
            raise WrongUse(
                f"The topic '{topic}' does not exist: check its name, or make it with 'reviewloop topics "
                "create'."
            )
        if not is_said:
            structlog.get_logger().info("labels_topic_missing", topic=topic)
            is_said = True
        if until_idle_seconds is not None or stopping.wait(LABELS_TOPIC_LOOK_SECONDS):
            return Totals()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles only after many more new objects than usual; as before at the end of the block."""
    before = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
