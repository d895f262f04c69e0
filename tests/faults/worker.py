"""One worker under test: the real parts around a fake classifier, held at stop points, without torch.

Over its channel it says ``ready`` when it polls, ``at POINT`` where it is held (anything sent lets it go
on) and ``done`` at the end; its log is a file.
"""

import faulthandler
import logging
import os
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from broker.topics import TopicChoice
from consumer.parsing import parse_reviews
from consumer.pipeline import ReviewPipeline
from consumer.serving import Serving
from consumer.source import Source
from consumer.subscribing import subscribe
from consumer.worker import Worker
from reviewloop.operations.logs import configure_logging
from reviewloop.settings import Settings
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.stream.review_writer import ReviewWriter
from tests.faults.fake_classifier import FakeClassifier
from tests.faults.stop_points import (
    StoppingClassifier,
    StoppingPositions,
    StoppingSubscription,
    StoppingWriter,
    StopPoints,
    stopping_at_capture,
)


def run(request: dict[str, Any], log: Path, channel: Connection) -> None:
    """Be a worker.

    Args:
        request: ``settings`` by section, ``stops`` (the visit to hold each point at), ``score_seconds``.
        log: Where the log goes.
        channel: To the test.
    """
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os.chdir(log.parent)
    faulthandler.register(signal.SIGUSR1)  # says where every thread is
    configure_logging()
    if "KAFKA_LOG" in os.environ:
        logging.basicConfig(level=os.environ["KAFKA_LOG"], format="%(asctime)s %(name)s %(message)s")
        logging.getLogger("kafka").setLevel(os.environ["KAFKA_LOG"])
    settings = Settings(**request["settings"])
    points = StopPoints(request["stops"], channel)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    options = settings.consumer
    database = Database(settings.database)
    seconds = request["score_seconds"]
    serving = Serving(
        AdapterStore(database),
        options.tasks,
        lambda version, **_: StoppingClassifier(FakeClassifier(version, seconds), points),
    )
    serving.load_first(options.retry_max_seconds, stopping)
    serving.follow(options.adapter_poll_seconds)
    subscription = subscribe(settings.kafka, TopicChoice((settings.kafka.reviews_topic,)), options, stopping)
    positions = StoppingPositions(database, points)
    writer = StoppingWriter(ReviewWriter(database), points)
    source = Source(options, StoppingSubscription(subscription, points), positions, parse_reviews)
    pipeline = ReviewPipeline(options, stopping_at_capture(serving.current, points), writer)
    channel.send("ready")
    try:
        Worker(
            options,
            source,
            pipeline,
            stopping=stopping,
            interruptions=lambda: database.interruptions,
        ).run()
    finally:
        serving.stop()
        subscription.close()
        database.close()
    channel.send("done")
