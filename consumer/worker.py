"""The loop of one worker: poll, batch, hand to the pipeline, take receipts; start, drain and stop."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic

import structlog

from consumer.batch import Batch, Batcher, Item
from consumer.liveness import BrokerWatch, IdleWatch
from consumer.measures import Measures
from consumer.pipeline import Stages
from consumer.settings import ConsumerSettings
from consumer.source import Source
from reviews.errors import Unavailable
from reviews.retry import Outage

log = structlog.get_logger()

_POLL_SECONDS = 0.2
_OFFER_SECONDS = 0.5
_MEASURE_SECONDS = 1.0
_PASS_OVER_SECONDS = 1.0


@dataclass(slots=True)
class Totals:
    """What a worker has stored so far; ``reviews`` are labels where it reads their topic."""

    reviews: int = 0
    dead_letters: int = 0
    lost_partitions: int = 0


class Worker(Generic[Item]):
    """Reads one topic, reviews or labels, until it is told to stop, or until all of it is stored.

    Args:
        settings: Sizes and patience.
        source: Where records come from.
        batcher: What cuts them into batches; ``source`` makes it forget partitions.
        pipeline: What parses and stores them, and scores reviews before that.
        stopping: Set from outside, by a signal handler for one, it lets the worker drain and end.
        on_progress: Called with the totals whenever they grew.
        measures: Where the worker counts what it does.
        interruptions: How often the database was lost so far: another server may have taken its place, which
            lacks the last commits, so that every stored position is read again (I5).
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        source: Source,
        batcher: Batcher[Item],
        pipeline: Stages[Item],
        *,
        stopping: threading.Event,
        on_progress: Callable[[Totals], None] = lambda _: None,
        measures: Measures | None = None,
        interruptions: Callable[[], int] = lambda: 0,
    ) -> None:
        self._settings = settings
        self._source = source
        self._batcher = batcher
        self._pipeline = pipeline
        self._on_progress = on_progress
        self._measures = measures or Measures()
        self._measured_at = 0.0
        self._passed_over_at = 0.0
        self._watch = BrokerWatch(source.topic, source.is_reachable, self._measures)
        self._interruptions = interruptions
        self._known_interruptions = interruptions()
        self._stopping = stopping
        self._waiting: Batch[Item] | None = None
        self._outage = Outage(
            "service_unavailable",
            "services_back",
            longest_seconds=settings.retry_max_seconds,
            topic=source.topic,
        )
        self._failed_services: set[str | None] = set()
        self._idle: IdleWatch | None = None
        self.totals = Totals()

    def run(self, until_idle_seconds: float | None = None) -> Totals:
        """Work until told to stop, or until nothing was in hand for so many seconds and all is stored.

        All of the topic, that is, also what other workers of the group read.

        Raises:
            StreamError: If only a person can decide how to go on.
            Unread: If others hold what is unread and get nowhere.
            WrongUse: If the topic that is to be read to its end does not exist.
            Unavailable: If what was in hand could not be stored within the grace period; it is not lost, the
                next worker reads it again.
        """
        if until_idle_seconds is not None:
            patience_seconds = self._settings.idle_patience_seconds
            self._idle = IdleWatch(until_idle_seconds, patience_seconds, self._source.backlog)
        self._pipeline.start()
        try:
            while not self._stopping.is_set() and not self._is_idle():
                self._turn()
            self._drain()
        finally:
            self._pipeline.stop(timeout_seconds=5)
        return self.totals

    def _turn(self) -> None:
        """One round: receipts, records, batches."""
        self._take_receipts()
        now = time.monotonic()
        self._measure(now)
        if self._hand_over_ready(now):
            self._source.resume()
        else:
            self._source.pause()
        self._take_records(0.0 if self._waiting else min(_POLL_SECONDS, self._batcher.seconds_left(now)))

    def _hand_over_ready(self, now: float) -> bool:
        """Give the pipeline every batch that is ready; False while it is busy.

        All of them, not one a round: a poll may fill several, and what waits here has no other bound.
        """
        while True:
            if self._waiting is None:
                self._launch(self._batcher.take(now))
            if self._waiting is None:
                return True
            if not self._hand_over():
                return False

    def _measure(self, now: float) -> None:
        """Say that the loop turns, and how far it is, at most once a second."""
        self._measures.turned_at = now
        if now - self._measured_at >= _MEASURE_SECONDS:
            self._measured_at = now
            self._source.measure(self._measures)
            self._watch.look()
            self._look_for_interruptions()

    def _look_for_interruptions(self) -> None:
        found = self._interruptions()
        if found != self._known_interruptions:
            self._known_interruptions = found
            log.info(
                "positions_read_again",
                topic=self._source.topic,
                detail="The connection to the database was interrupted.",
            )
            self._source.displace_all()

    def _hand_over(self) -> bool:
        """Give the waiting batch to the pipeline; False while the pipeline is busy."""
        if self._waiting is not None and not self._pipeline.offer(self._waiting, _OFFER_SECONDS):
            return False
        self._waiting = None
        return True

    def _launch(self, batch: Batch[Item] | None) -> None:
        """From here on the batch counts as on its way, whatever happens to its partitions."""
        if batch is not None and batch.slices:
            self._source.launch(batch)
            self._waiting = batch

    def _take_records(self, timeout_seconds: float) -> None:
        try:
            deliveries = self._source.poll(timeout_seconds)
        except Unavailable as err:
            self._wait_after(err)
            return
        self._note_recovery()
        received_at, now = datetime.now(UTC), time.monotonic()
        for partition, partition_id, expected, records in deliveries:
            self._measures.received_records += len(records)
            outcomes = self._pipeline.parse(records, received_at)
            reached = self._batcher.add(partition, partition_id, expected, outcomes, now)
            self._source.continue_at(partition, reached)
        # Beside steady traffic as well, but more rarely: no poll is empty then, and there are many of them.
        if not deliveries or now - self._passed_over_at >= _PASS_OVER_SECONDS:
            self._passed_over_at = now
            for partition, partition_id, expected, position in self._source.passed_over():
                self._batcher.pass_over(partition, partition_id, expected, position, now)

    def _note_recovery(self) -> None:
        if self._outage.ended():
            self._measures.answered(*filter(None, self._failed_services), by="positions")
            self._failed_services.clear()

    def _wait_after(self, err: Unavailable) -> None:
        self._measures.failed(err.service, by="positions")
        self._failed_services.add(err.service)
        pause = self._outage.failed(err)
        self._source.displace_all()
        self._stopping.wait(pause)

    def _take_receipts(self) -> None:
        receipts = self._pipeline.receipts()
        for receipt in receipts:
            self._measures.lost_partitions += len(receipt.lost)
            self._source.settle(receipt.stored, receipt.lost)
            self.totals.reviews += receipt.reviews
            self.totals.dead_letters += receipt.dead_letters
            self.totals.lost_partitions += len(receipt.lost)
        if receipts:
            self._on_progress(self.totals)

    def _is_idle(self) -> bool:
        """Whether a worker that runs until idle is done."""
        if self._idle is None:
            return False
        if self._waiting is not None or self._watch.is_away or not self._source.is_settled:
            self._idle.note_work()
        try:
            return self._idle.is_idle()
        except Unavailable as err:
            self._idle.note_work()
            self._wait_after(err)
            return False

    def _drain(self) -> None:
        """Finish what is in hand within the grace period; the next worker reads the rest again."""
        deadline = time.monotonic() + self._settings.shutdown_grace_seconds
        while time.monotonic() < deadline:
            self._measures.turned_at = time.monotonic()
            if self._waiting is None:
                self._launch(self._batcher.take_rest())
            if self._waiting is not None:
                self._hand_over()
            elif not self._source.has_in_flight:
                return
            else:
                time.sleep(0.02)
            self._take_receipts()
        raise Unavailable(
            f"What was in hand could not be stored within {self._settings.shutdown_grace_seconds:g} s "
            "(consumer.shutdown_grace_seconds); nothing is lost, the next worker reads it again."
        )
