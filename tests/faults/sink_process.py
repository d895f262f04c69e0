"""One forwarder under test: the real parts, held at named points between its steps."""

import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from broker.ordered_publisher import OrderedPublisher
from broker.publisher import OutgoingRecord
from broker.settings import KafkaSettings
from consumer.sinks import JsonFormat, SinkForwarder, SinkMeasures
from reviewloop.operations.logs import configure_logging
from reviews.scored_row import ScoredRow
from storage.database import Database
from storage.settings import DatabaseSettings
from storage.stream.sinks import SinkStore
from tests.faults.stop_points import StopPoints

POINTS = ("opened", "connected", "read", "half sent", "sent", "moved")
"""In the order in which a step passes them."""


class StoppingPublisher(OrderedPublisher):
    """The real publisher, with stops; it sends a batch in two halves."""

    points: StopPoints

    def connect(self) -> None:
        super().connect()
        self.points.at("connected")

    def publish(self, records: Sequence[OutgoingRecord], smaller: Callable[[int], OutgoingRecord]) -> None:
        self.points.at("read")
        half = len(records) // 2
        super().publish(records[:half], smaller)
        self.points.at("half sent")
        super().publish(records[half:], lambda place: smaller(place + half))
        self.points.at("sent")


class StoppingSinkStore(SinkStore):
    """The real store of a sink, with stops."""

    points: StopPoints

    def open(self, patience_seconds: float = 30.0) -> None:
        super().open(patience_seconds)
        self.points.at("opened")

    def forward(self, publish: Callable[[Sequence[ScoredRow]], None]) -> int | None:
        rows = super().forward(publish)
        if rows:
            self.points.at("moved")
        return rows


def run(request: dict[str, Any], log: Path, channel: Connection) -> None:
    """Forward until killed.

    Args:
        request: ``bootstrap``, ``url``, ``topic``, and ``stops`` (the visit to hold each point at).
        log: Where the log goes.
        channel: To the test.
    """
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    configure_logging()
    database = Database(DatabaseSettings(url=SecretStr(request["url"])))
    store = StoppingSinkStore(database, request["topic"], "review-labels", "earliest")
    publisher = StoppingPublisher(KafkaSettings(bootstrap_servers=request["bootstrap"]), request["topic"])
    store.points = publisher.points = StopPoints(request["stops"], channel, POINTS)
    SinkForwarder(
        store,
        publisher,
        JsonFormat(),
        lambda _: None,
        threading.Event(),
        retry_max_seconds=0.2,
        measures=SinkMeasures(request["topic"]),
    ).run()
