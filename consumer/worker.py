"""The loop of one worker: read records into batches, hand batches to the pipeline, take its receipts."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic

import structlog

from consumer.batch import AcceptedT, Batch
from consumer.liveness import BrokerReachability, IdleDetector
from consumer.measures import Measures
from consumer.pipeline import Pipeline
from consumer.settings import ConsumerSettings
from consumer.source import Source
from reviews.errors import Unavailable
from reviews.retry import Outage

log = structlog.get_logger()

_POLL_SECONDS = 0.2
_OFFER_SECONDS = 0.5
_CHECK_SECONDS = 1.0


@dataclass(slots=True)
class Totals:
    """What a worker has stored so far: accepted records (reviews or labels), dead letters, withdrawals."""

    accepted: int = 0
    dead_letters: int = 0
    withdrawals: int = 0
    lost_partitions: int = 0


class Worker(Generic[AcceptedT]):
    """Reads topics of reviews, or of labels, until it is told to stop, or until all of them is stored.

    Args:
        settings: Sizes and pauses.
        source: Where batches of records come from.
        pipeline: What stores them, and scores reviews before that.
        stopping: Set from outside, for example by a signal handler: the worker drains and ends.
        on_progress: Called with the totals whenever they grew.
        measures: Where the worker counts what it does.
        interruptions: How often the database was lost so far: another server may have taken its place, which
            lacks the last commits, so that every stored position is read again (I5).
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        source: Source[AcceptedT],
        pipeline: Pipeline[AcceptedT, Any],
        *,
        stopping: threading.Event,
        on_progress: Callable[[Totals], None] = lambda _: None,
        measures: Measures | None = None,
        interruptions: Callable[[], int] = lambda: 0,
    ) -> None:
        self._settings = settings
        self._source = source
        self._pipeline = pipeline
        self._stopping = stopping
        self._on_progress = on_progress
        self._measures = measures or Measures()
        self._interruptions = interruptions
        self._known_interruptions = interruptions()
        self._checked_at = 0.0
        self._waiting: Batch[AcceptedT] | None = None
        self._brokers = BrokerReachability(source.topics, source.is_reachable, self._measures)
        self._idle: IdleDetector | None = None
        self._outage = Outage(
            "service_unavailable",
            "services_back",
            longest_seconds=settings.retry_max_seconds,
            topic=source.topics,
        )
        self._failed_services: set[str | None] = set()
        self.totals = Totals()

    def run(self, until_idle_seconds: float | None = None) -> Totals:
        """Work until told to stop, or until nothing was in hand for so many seconds and all is stored.

        All of the topics, that is, also what other workers of the group read.

        Raises:
            StreamError: If only a person can decide how to go on.
            Unread: If others hold what is unread and get nowhere.
            WrongUse: If the topic that is to be read to its end does not exist.
            Unavailable: If what was in hand could not be stored within the grace period; it is not lost, the
                next worker reads it again.
        """
        if until_idle_seconds is not None:
            patience_seconds = self._settings.idle_patience_seconds
            self._idle = IdleDetector(until_idle_seconds, patience_seconds, self._source.backlog)
        self._pipeline.start()
        try:
            while not self._stopping.is_set() and not self._is_idle():
                self._take_receipts()
                self._check_services()
                if self._hand_over_ready():
                    self._source.resume()
                    self._read(min(_POLL_SECONDS, self._source.seconds_left()))
                else:  # the pipeline is busy: stay in the group, but read nothing
                    self._source.pause()
                    self._read(0.0)
            self._drain()
        finally:
            self._pipeline.stop(timeout_seconds=5)
        return self.totals

    def _take_receipts(self) -> None:
        receipts = self._pipeline.receipts()
        for receipt in receipts:
            self._measures.lost_partitions += len(receipt.lost)
            self._source.acknowledge(receipt.stored, receipt.lost)
            self.totals.accepted += receipt.accepted
            self.totals.dead_letters += receipt.dead_letters
            self.totals.withdrawals += receipt.withdrawals
            self.totals.lost_partitions += len(receipt.lost)
        if receipts:
            self._on_progress(self.totals)

    def _check_services(self) -> None:
        """Note that the loop turns; once a second also measure the backlog and check both services."""
        now = self._measures.turned_at = time.monotonic()
        if now - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = now
        self._source.measure(self._measures)
        self._brokers.look()
        found = self._interruptions()
        if found != self._known_interruptions:
            self._known_interruptions = found
            detail = "The connection to the database was interrupted."
            log.info("positions_read_again", topic=self._source.topics, detail=detail)
            self._source.invalidate_positions()

    def _hand_over_ready(self) -> bool:
        """Give the pipeline every batch that is ready; False while it is busy.

        All of them, not one a round: a poll may fill several, and what waits here has no other bound.
        """
        while True:
            if self._waiting is None:
                self._waiting = self._source.take()
            if self._waiting is None:
                return True
            if not self._hand_over(self._waiting):
                return False

    def _hand_over(self, batch: Batch[AcceptedT]) -> bool:
        if self._pipeline.offer(batch, _OFFER_SECONDS):
            self._waiting = None
            return True
        return False

    def _read(self, timeout_seconds: float) -> None:
        try:
            records = self._source.poll(timeout_seconds)
        except Unavailable as err:
            self._wait_after(err)
            return
        self._measures.received_records += records
        if self._outage.ended():
            self._measures.answered(*filter(None, self._failed_services), by="positions")
            self._failed_services.clear()

    def _wait_after(self, err: Unavailable) -> None:
        self._measures.failed(err.service, by="positions")
        self._failed_services.add(err.service)
        pause = self._outage.failed(err)
        self._source.invalidate_positions()
        self._stopping.wait(pause)

    def _is_idle(self) -> bool:
        """Whether a worker that runs until idle is done."""
        if self._idle is None:
            return False
        if self._waiting is not None or self._brokers.is_away or not self._source.is_settled:
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
                self._waiting = self._source.take_rest()
            if self._waiting is not None:
                self._hand_over(self._waiting)
            elif not self._source.has_in_flight:
                return
            else:
                time.sleep(0.02)
            self._take_receipts()
        raise Unavailable(
            f"What was in hand could not be stored within {self._settings.shutdown_grace_seconds:g} s "
            "(consumer.shutdown_grace_seconds); nothing is lost, the next worker reads it again."
        )
