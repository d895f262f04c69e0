"""What all rows of stages share: an inbox, threads, receipts, an orderly end."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from queue import Empty, Full, Queue
from typing import Any, Generic

from broker.subscription import Record, TopicPartition
from consumer.batch import Batch, Item
from consumer.measures import Measures
from consumer.settings import ConsumerSettings
from consumer.stage import Stage
from reviews.batch import DeadLetter


@dataclass(frozen=True, slots=True)
class Receipt:
    """How one batch ended.

    Attributes:
        stored: The offset behind the stored records, by partition.
        lost: The same for partitions that another worker moved; nothing of theirs was written.
        reviews: How many valid records were stored: reviews, or labels on their topic.
        dead_letters: How many dead letters were stored.
    """

    stored: dict[TopicPartition, int]
    lost: dict[TopicPartition, int]
    reviews: int
    dead_letters: int


class Stages(Generic[Item]):
    """Takes batches, returns receipts; who extends it makes the stages between.

    Args:
        settings: Sizes and patience.
        measures: Where the stages count what they do.
    """

    def __init__(self, settings: ConsumerSettings, measures: Measures | None = None) -> None:
        self._settings = settings
        self._measures = measures or Measures()
        self._stopping = threading.Event()
        self._inbox: Queue[Batch[Item]] = Queue(settings.queue_batches)
        self._receipts: Queue[list[Receipt]] = Queue()
        self._stages: tuple[Stage[Any, Any], ...] = ()

    def parse(self, records: Sequence[Record], received_at: datetime) -> list[Item | DeadLetter]:
        """One outcome per record, in order (I4)."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the stages."""
        for stage in self._stages:
            stage.start()

    def offer(self, batch: Batch[Item], timeout_seconds: float) -> bool:
        """Put a batch in; False where the stages are busy for longer than the time-out."""
        try:
            self._inbox.put(batch, timeout=timeout_seconds)
        except Full:
            return False
        return True

    def receipts(self) -> list[Receipt]:
        """What ended since the last call, in order.

        Raises:
            BaseException: Whatever ended a stage.
        """
        for stage in self._stages:
            if stage.error is not None:
                raise stage.error
        found: list[Receipt] = []
        try:
            while True:
                found += self._receipts.get_nowait()
        except Empty:
            return found

    def stop(self, timeout_seconds: float) -> bool:
        """End the stages after the item in hand; whether all of them ended in time."""
        self._stopping.set()
        for stage in self._stages:
            stage.stop()
        deadline = time.monotonic() + timeout_seconds
        ended = [stage.join(max(0.0, deadline - time.monotonic())) for stage in self._stages]
        return all(ended)
