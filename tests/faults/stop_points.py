"""Named points between the steps of the main job, where a worker under test can be held.

The product knows nothing of them: they sit in wrappers around its parts, put together by
`tests.faults.worker`. The points inside the database's transaction are in `tests.faults.postgres_proxy`.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from broker.subscription import AssignmentChange, Record, Subscription, TopicPartition
from consumer.serving import ServingClassifier
from reviews.prediction import Prediction
from reviews.stream_records import PartitionRange, ScoredReview
from storage.database import Database
from storage.stream.partitions import PartitionStore, StreamPosition
from storage.stream.review_writer import ReviewWriter
from storage.stream.stream_writer import Written

POINTS = (
    "assigned",
    "position read",
    "placed",
    "polled",
    "captured",
    "encoded",
    "scored",
    "stored",
    "settled",
    "committed to kafka",
)
"""In the order in which one batch passes them."""


class StopPoints:
    """Holds the thread that reaches a point for the n-th time until the test sends something.

    Args:
        stops: For each point to stop at, the number of the visit that is held.
        channel: To the test.
        known: Names of the points.
    """

    def __init__(self, stops: Mapping[str, int], channel: Connection, known: Sequence[str] = POINTS) -> None:
        unknown = set(stops) - set(known)
        if unknown:
            raise ValueError(f"There are no stop points {sorted(unknown)}.")
        self._left = dict(stops)
        self._channel = channel
        self._lock = threading.Lock()

    def at(self, point: str) -> None:
        with self._lock:
            if point not in self._left:
                return
            self._left[point] -= 1
            if self._left[point] > 0:
                return
            del self._left[point]
        self._channel.send(f"at {point}")
        self._channel.recv()


class StoppingSubscription:
    """A real subscription, with stops; whatever is not named here goes straight through."""

    def __init__(self, inner: Subscription, points: StopPoints) -> None:
        self._inner = inner
        self._points = points

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def changes(self) -> list[AssignmentChange]:
        found = self._inner.changes()
        if any(change.assigned and change.partitions for change in found):
            self._points.at("assigned")
        return found

    def seek(self, partition: TopicPartition, offset: int) -> bool:
        done = self._inner.seek(partition, offset)
        self._points.at("placed")
        return done

    def poll(self, timeout_seconds: float) -> Mapping[TopicPartition, Sequence[Record]]:
        delivered = self._inner.poll(timeout_seconds)
        if delivered:
            self._points.at("polled")
        return delivered

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._points.at("settled")
        self._inner.commit(offsets)
        if offsets:
            self._points.at("committed to kafka")


class StoppingPositions(PartitionStore):
    """The real store of positions, with stops."""

    def __init__(self, database: Database, points: StopPoints) -> None:
        super().__init__(database)
        self._points = points

    def find(self, cluster_id: str, topic_id: str) -> dict[int, StreamPosition]:
        found = super().find(cluster_id, topic_id)
        self._points.at("position read")
        return found


class StoppingWriter:
    """A real writer, with stops."""

    def __init__(self, inner: ReviewWriter, points: StopPoints) -> None:
        self._inner = inner
        self._points = points

    def write(self, ranges: Sequence[PartitionRange[ScoredReview]]) -> Written[ScoredReview]:
        written = self._inner.write(ranges)
        self._points.at("stored")
        return written

    def rehearse(self, ranges: Sequence[PartitionRange[ScoredReview]]) -> None:
        self._inner.rehearse(ranges)


class StoppingClassifier:
    """Any classifier, with stops."""

    def __init__(self, inner: ServingClassifier, points: StopPoints) -> None:
        self._inner = inner
        self._points = points
        self.task = inner.task
        self.adapter_version = inner.adapter_version

    def encode(self, texts: Sequence[str]) -> object:
        encoded = self._inner.encode(texts)
        self._points.at("encoded")
        return encoded

    def score(self, encoded: object) -> list[Prediction]:
        answers = self._inner.score(encoded)
        self._points.at("scored")
        return answers


def stopping_at_capture(
    current: Callable[[], Sequence[ServingClassifier]], points: StopPoints
) -> Callable[[], Sequence[ServingClassifier]]:
    """Asks for the classifiers of a batch, then stops."""

    def capture() -> Sequence[ServingClassifier]:
        found = current()
        points.at("captured")
        return found

    return capture
