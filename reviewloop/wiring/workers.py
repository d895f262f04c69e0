"""Wiring of the worker that scores reviews."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from broker.forwarding import forward
from classifier.classifier import Classifier
from classifier.ensemble import Ensemble
from classifier.host import Hosts, build_in_background
from consumer.forwarding import Forwarder
from consumer.measures import Measures
from consumer.parsing import ReviewParser
from consumer.pipeline import ReviewPipeline
from consumer.serving import Serving
from consumer.shadows import Shadows
from consumer.source import Source
from consumer.subscribing import subscribe
from consumer.worker import Totals, Worker
from reviewloop.settings import Settings
from reviewloop.wiring.registry import load_registered, open_database, say_what_serves, serving_settings
from reviewloop.wiring.sources import open_mappings
from reviewloop.wiring.topics import review_topics, tasks_of
from reviews.errors import WrongUse
from reviews.stream_records import AcceptedReview
from storage.adapters.registry import AdapterStore
from storage.adapters.shadows import ShadowStore
from storage.database import Database
from storage.stream.dead_letters import DeadLetterStore
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter

# Python's 700 fits scripts. Tens of thousands of reviews are in flight here, none of them in a cycle, and
# looking at each of them again and again took 40 % of the worker's time.
_YOUNG_OBJECTS = 50_000
_FORWARD_POLL_SECONDS = 1.0


@contextmanager
def open_worker(
    settings: Settings,
    stopping: Event,
    on_progress: Callable[[Totals], None] = lambda _: None,
    measures: Measures | None = None,
) -> Iterator[Worker[AcceptedReview]]:
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
    mappings = open_mappings(settings, measures.noting("registry", by="mapping"))
    with open_database(settings) as database:
        store, hosts = AdapterStore(database), Hosts(serving_settings(settings))

        def load(version: str, *, make_way: bool) -> Classifier | Ensemble:
            return say_what_serves(
                build_in_background(
                    lambda: load_registered(settings, store, version, hosts), make_way=make_way
                )
            )

        serving = Serving(store, options.tasks, load, measures)
        shadows = Shadows(ShadowStore(database), options.tasks, load, serving.current, measures)

        def refresh_shadows() -> None:
            database.require_writable()
            shadows.refresh()

        serving.load_first(options.retry_max_seconds, stopping)
        subscription = subscribe(settings.kafka, review_topics(settings), options, stopping, measures)
        try:
            positions, parser = PartitionStore(database), ReviewParser(mappings)
            source = Source(options, subscription, positions, parser, tasks_of=tasks_of(settings))
            writer = ReviewWriter(database, forward_dead_letters=options.dead_letter_topic is not None)
            pipeline = ReviewPipeline(options, serving.current, writer, measures, shadows.current)
            serving.follow(options.adapter_poll_seconds, also=refresh_shadows)
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
    if topic == settings.kafka.labels_topic or topic in review_topics(settings).names:
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
def rare_collections() -> Iterator[None]:
    """Look for cycles only after many more new objects than usual; as before at the end of the block."""
    before = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
