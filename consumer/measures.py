"""What a worker counts about itself: plain numbers, for metrics and progress.

Each number has one thread that changes it, except those that grow only in trouble, which share a lock; other
threads read whenever they like and may see one number a moment older than the next.
"""

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Queue
from typing import Any

import numpy as np

from broker.subscription import TopicPartition
from reviews.dead_letter import DeadLetter
from reviews.errors import Unavailable

SERVICES = ("kafka", "database")
FURTHER_SERVICES = ("registry",)
"""Those that not every worker needs; they are spoken of once one was needed."""
STAGES = ("wait", "tokenise", "score", "store")

_STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROW_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
_BATCH_REVIEWS = (1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0)


class Histogram:
    """How many values fell into which range.

    Attributes:
        bounds: Upper bounds of the ranges, inclusive, ascending; a last range without a bound follows.
        counts: Values by range, one more than there are bounds.
        sum: Of all values.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add_all(self, values: Sequence[float]) -> None:
        """Count many values, at a fraction of the cost of one by one."""
        numbers = np.asarray(values, np.float64)
        ranges = np.bincount(np.searchsorted(self.bounds, numbers), minlength=len(self.counts))
        self.counts = [before + int(more) for before, more in zip(self.counts, ranges, strict=True)]
        self.sum += float(numbers.sum())


class Measures:
    """The numbers of one worker since its start.

    Attributes:
        turned_at: When the main loop turned last, in seconds of the monotonic clock; None before its start.
        is_member: Whether the worker has joined the consumer group.
        partitions: How many partitions it owns.
        lag_records: Records between the stored offset and the end of each positioned partition.
        received_records: Records delivered, some perhaps more than once.
        stored_reviews: Reviews stored.
        filtered_records: Records that their sources leave out, some perhaps counted more than once.
        stored_withdrawals: Withdrawals stored.
        dead_letters: Dead letters stored, by (stage, reason).
        tokens: Tokens that went to the classifiers.
        batch_reviews: Valid reviews of each batch.
        stage_seconds: How long each batch took in each of the stages.
        row_seconds: From a record's Kafka timestamp to its committed row.
        lost_partitions: Lost compare-and-sets: ranges that another worker stored first.
        gaps: Offset gaps caused by retention.
        gap_records: Offsets in these gaps.
        retries: Failed attempts by service.
        adapters: The serving adapter's version by task.
        queues: Batches on their way, by the stage that they wait for.
        labels: What the reading of labels in the same process counts; None: it reads none.
        embeddings: Embeddings stored, by the reason why they are kept.
        shadows: The version of the adapter in shadow scoring by task.
        shadow_rows: Reviews that a shadow scored, by task.
        shadow_disagreements: Those of them that the serving adapter calls something else, by task.
        shadow_failures: Batches that a shadow failed on, and shadows that could not be loaded, by task.
    """

    def __init__(self) -> None:
        self.turned_at: float | None = None
        self.is_member = False
        self.partitions = 0
        self.lag_records: Mapping[TopicPartition, int] = {}
        self.received_records = 0
        self.stored_reviews = 0
        self.filtered_records = 0
        self.stored_withdrawals = 0
        self.dead_letters: Counter[tuple[str, str]] = Counter()
        self.tokens = 0
        self.batch_reviews = Histogram(_BATCH_REVIEWS)
        self.stage_seconds = {stage: Histogram(_STAGE_SECONDS) for stage in STAGES}
        self.row_seconds = Histogram(_ROW_SECONDS)
        self.lost_partitions = 0
        self.gaps = 0
        self.gap_records = 0
        self.retries: Counter[str] = Counter(dict.fromkeys(SERVICES, 0))
        self.adapters: Mapping[str, str] = {}
        self.queues: dict[str, Queue[Any]] = {}
        self.labels: Measures | None = None
        self.embeddings: Counter[str] = Counter()
        self.shadows: Mapping[str, str] = {}
        self.shadow_rows: Counter[str] = Counter()
        self.shadow_disagreements: Counter[str] = Counter()
        self.shadow_failures: Counter[str] = Counter()
        self._answers: dict[tuple[str, str], bool] = {}
        self._lock = threading.Lock()

    def answers(self, service: str) -> bool | None:
        """Whether a service did its work when it was last needed; None: it was not needed yet.

        Every part of the worker that uses the service has to say so: a database that lets adapters be looked
        up but takes no rows is of no use.
        """
        found = [answer for (name, _), answer in [*self._answers.items()] if name == service]
        return all(found) if found else None

    def answered(self, *services: str, by: str = "") -> None:
        """Take note that these services did what a part of the worker needed."""
        for service in services:
            self._answers[service, by] = True

    def failed(self, service: str | None, by: str = "") -> None:
        """Take note of a failed attempt, which stands until the same part of the worker succeeds.

        Args:
            service: Whose; None: unknown.
            by: Which part of the worker needed it.
        """
        name = service or "unknown"
        with self._lock:
            self.retries[name] += 1
        self._answers[name, by] = False

    def noting(self, service: str, by: str) -> Callable[[Exception | None], None]:
        """What a :class:`~reviews.retry.Retry` tells of its attempts at this service."""

        def note(err: Exception | None) -> None:
            if err is None:
                self.answered(service, by=by)
            else:
                self.failed(err.service if isinstance(err, Unavailable) else service, by=by)

        return note

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure how long the block takes in this stage; what fails is not counted."""
        started = time.monotonic()
        yield
        self.stage_seconds[stage].add(time.monotonic() - started)

    def stored(self, reviews: int, letters: Iterable[DeadLetter], withdrawals: int = 0) -> None:
        """Take note of what one transaction stored; only the storing thread calls this."""
        self.stored_reviews += reviews
        self.stored_withdrawals += withdrawals
        self.dead_letters.update((letter.stage, letter.reason) for letter in letters)

    def kept(self, reasons: Iterable[str]) -> None:
        """Take note of embeddings that one transaction stored; only the storing thread calls this."""
        self.embeddings.update(reasons)

    def shadow_scored(self, task: str, rows: int, disagreements: int, *, has_failed: bool) -> None:
        """Take note of a shadow's part in one batch; only the scoring thread calls this."""
        self.shadow_rows[task] += rows
        self.shadow_disagreements[task] += disagreements
        if has_failed:
            self.shadow_failed(task)

    def shadow_failed(self, task: str) -> None:
        """Take note that a shadow failed on a batch, or could not be loaded."""
        with self._lock:
            self.shadow_failures[task] += 1

    def arrived(self, timestamps_ms: Sequence[int], now_ms: float) -> None:
        """Take note of how long records took to their rows; only the storing thread calls this.

        Args:
            timestamps_ms: Kafka's timestamps of the records; below 0 where unknown.
            now_ms: The present by the same kind of clock, milliseconds since 1970.
        """
        stamps = np.asarray(timestamps_ms, np.float64)
        # Where the publisher's clock runs ahead of ours, a record seems to arrive before it was sent.
        self.row_seconds.add_all(np.maximum(now_ms - stamps[stamps >= 0], 0.0) / 1000)  # type: ignore[arg-type]
