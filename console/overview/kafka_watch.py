"""How far Kafka's topics go beyond what is stored, looked up beside the pages.

Only Kafka knows the ends of its partitions, and where no broker answers it takes many seconds to find out. A
thread of its own therefore asks, as long as somebody looks at a page that shows the answer, and pages show
what it found last, or that Kafka does not answer.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from broker.topics import TopicChoice, TopicEnds
from reviews.errors import ReviewLoopError
from storage.stream.partitions import StreamPosition

_ASK_SECONDS = 5.0
_KEEPS_UP_SECONDS = 30
_INTEREST_SECONDS = 60.0
_REMEMBERED = 13  # a minute
_LEAST_SECONDS = 4.0
_CLOSE_SECONDS = 10.0


class EndsReader(Protocol):
    """An open connection that reads how far topics go."""

    def read(self, choice: TopicChoice) -> dict[str, TopicEnds]:
        """How far each of these topics goes now."""

    def close(self) -> None:
        """Close the connection."""


@dataclass(frozen=True, slots=True)
class KafkaLag:
    """What Kafka has and the database does not have yet.

    Attributes:
        records: How many; None while Kafka does not answer, or was not asked yet.
        published_per_second: Of late; None while that is not known.
        stored_per_second: Of late; None while that is not known.
        problem: Why Kafka does not answer; empty where it does.
        is_known: Whether Kafka was asked at all.
    """

    records: int | None = None
    published_per_second: float | None = None
    stored_per_second: float | None = None
    problem: str = ""
    is_known: bool = True

    @property
    def seconds_to_clear(self) -> float | None:
        """When nothing is left, at the present speeds; None where that is unknown, or never."""
        if not self.records or self.stored_per_second is None or self.published_per_second is None:
            return 0.0 if self.records == 0 else None
        gained = self.stored_per_second - self.published_per_second
        return self.records / gained if gained > 0 else None

    @property
    def is_small(self) -> bool:
        """Whether what waits is no more than half a minute's work: a stream that keeps up always has some."""
        return self.records is not None and self.records <= _KEEPS_UP_SECONDS * (self.stored_per_second or 0)


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    published: int
    stored: int


class KafkaWatch:
    """Asks Kafka while somebody is interested.

    Args:
        topics: Whose ends matter.
        connect: Opens a connection.
        positions: Reads the stored positions.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        topics: TopicChoice,
        connect: Callable[[], EndsReader],
        positions: Callable[[], Sequence[StreamPosition]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics = topics
        self._connect = connect
        self._positions = positions
        self._clock = clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted_until = 0.0
        self._samples: deque[_Sample] = deque(maxlen=_REMEMBERED)
        self._found = KafkaLag(is_known=False)
        self._asked = threading.Event()
        self._closed = threading.Event()

    def look(self, wait_seconds: float = 0.0) -> KafkaLag:
        """What was found last; the first caller may wait a moment for the first answer."""
        with self._lock:
            self._wanted_until = self._clock() + _INTEREST_SECONDS
            if self._thread is None and not self._closed.is_set():
                self._asked.clear()
                self._thread = threading.Thread(target=self._ask_on, name="kafka-watch", daemon=True)
                self._thread.start()
        self._asked.wait(wait_seconds)
        return self._found

    def close(self) -> None:
        """Ask no more, and close the connection."""
        self._closed.set()
        thread = self._thread
        if thread is not None:
            thread.join(_CLOSE_SECONDS)

    def _ask_on(self) -> None:
        reader: EndsReader | None = None
        while self._is_wanted():
            try:
                reader = reader or self._connect()
                self._note(reader.read(self._topics))
            except ReviewLoopError as err:
                self._found = KafkaLag(problem=str(err))
                self._samples.clear()
                _close(reader)
                reader = None
            self._asked.set()
            self._closed.wait(_ASK_SECONDS)
        _close(reader)

    def _is_wanted(self) -> bool:
        with self._lock:
            if self._clock() < self._wanted_until and not self._closed.is_set():
                return True
            self._thread = None
            self._samples.clear()
            self._found = KafkaLag(is_known=False)
            return False

    def _note(self, ends: Mapping[str, TopicEnds]) -> None:
        now = self._clock()
        published, stored = totals(ends, self._positions())
        self._samples.append(_Sample(now, published, stored))
        first, last = self._samples[0], self._samples[-1]
        seconds = last.at - first.at
        speeds: tuple[float | None, float | None] = None, None
        if seconds >= _LEAST_SECONDS:
            speeds = (last.published - first.published) / seconds, (last.stored - first.stored) / seconds
        self._found = KafkaLag(max(0, published - stored), *speeds)


def totals(ends: Mapping[str, TopicEnds], positions: Sequence[StreamPosition]) -> tuple[int, int]:
    """The sums of the ends of all partitions, and of the offsets that are stored next.

    A partition that no worker has read yet counts from its offset 0. Positions of other clusters, and of an
    earlier topic of the same name, count nothing.
    """
    stored = {(at.cluster_id, at.topic_id, at.partition): at.next_offset for at in positions}
    published_sum = stored_sum = 0
    for topic in ends.values():
        for partition, end in topic.offsets.items():
            published_sum += end
            stored_sum += min(end, stored.get((topic.cluster_id, topic.topic_id, partition), 0))
    return published_sum, stored_sum


def _close(reader: EndsReader | None) -> None:
    if reader is not None:
        with suppress(ReviewLoopError, OSError):
            reader.close()
