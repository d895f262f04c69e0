"""Reads the labels topic in its own threads, whose errors never stop the scoring."""

import threading
import time
from collections.abc import Callable

import structlog

from consumer.worker import Totals
from reviews.errors import ReviewLoopError, Unavailable, WrongUse
from reviews.retry import Outage

log = structlog.get_logger()

_SHORTEST_PAUSE_SECONDS = 1.0
_TOPIC_CHECK_SECONDS = 60.0
_PAUSE_PER_SECOND = 20  # of looking: it takes at most a twentieth of the database's time


class LabelReader:
    """Two threads: one reads the labels topic, one pins waiting labels whose review arrived.

    Beside a worker that scores reviews, every error is logged and reading is tried again from the stored
    offsets: after errors of services, access and the topic, and after faults of the program. An error with
    labels never stops the scoring. A fault of the program that persists after the scoring has ended is raised
    by :meth:`finish`.

    Args:
        read: Reads until told to stop, or until idle; the totals, or None if the topic does not exist. It
            builds a Worker and runs it (``reviewloop/wiring/label_reader.py``).
        pin: Pins the waiting labels whose review is stored by now; how many.
        topic: The labels topic.
        stopping: Ends both threads.
        retry_max_seconds: The longest pause between two attempts to read.
        is_alone: Nothing else runs, so the first error ends the reading: :meth:`finish` raises it.
        ends_when_idle: Whether ``read`` ends when idle; if not, a topic that does not exist is waited for.
    """

    def __init__(
        self,
        read: Callable[[], Totals | None],
        pin: Callable[[], int],
        *,
        topic: str,
        stopping: threading.Event,
        retry_max_seconds: float,
        is_alone: bool = False,
        ends_when_idle: bool = False,
    ) -> None:
        self._read = read
        self._pin = pin
        self._topic = topic
        self._stopping = stopping
        self._retry_max_seconds = retry_max_seconds
        self._is_alone = is_alone
        self._ends_when_idle = ends_when_idle
        self._finishing = threading.Event()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._pinning_outage = Outage("waiting_labels_not_pinned", "waiting_labels_pinned_again")
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("labels", self._keep_reading), ("waiting-labels", self._keep_pinning))
        ]
        self.totals = Totals()

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until reading ends by itself, or is told to end."""
        self._threads[0].join()

    def finish(self, timeout_seconds: float | None) -> bool:
        """Wait until reading has ended, by itself or because it was told to; whether it did in time.

        Raises:
            BaseException: What ended it, other than its end.
        """
        reader, pinner = self._threads
        self._finishing.set()
        reader.join(timeout_seconds)
        self._done.set()
        pinner.join(timeout_seconds)
        if self._error is not None:
            raise self._error
        return not reader.is_alive()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as err:  # noqa: BLE001  finish() raises it
            self._error = err
            self._stopping.set()

    def _keep_reading(self) -> None:
        outage = Outage(
            "labels_not_read",
            "labels_read_again",
            longest_seconds=self._retry_max_seconds,
            first_seconds=_SHORTEST_PAUSE_SECONDS,
        )
        while True:
            try:
                self.totals = self._read_topic()
            except Exception as err:
                if self._is_alone or self._is_lasting_fault(err):
                    raise
                if self._stopping.wait(outage.failed(err)):
                    return
            else:
                return

    def _read_topic(self) -> Totals:
        """Read the topic; one that does not exist is waited for, unless reading ends when idle."""
        is_logged = False
        while (totals := self._read()) is None:
            if self._is_alone and self._ends_when_idle:
                raise WrongUse(
                    f"The topic '{self._topic}' does not exist: check its name, or make it with 'reviewloop "
                    "topics create'."
                )
            if not is_logged:
                log.info("labels_topic_missing", topic=self._topic)
                is_logged = True
            if self._ends_when_idle or self._stopping.wait(_TOPIC_CHECK_SECONDS):
                return Totals()
        return totals

    def _is_lasting_fault(self, err: Exception) -> bool:
        """Whether waiting does not help, and there is no other work that the error could stop."""
        is_passing = isinstance(err, Unavailable) or (
            isinstance(err, ReviewLoopError) and self._stopping.is_set()
        )
        return self._finishing.is_set() and not is_passing

    def _keep_pinning(self) -> None:
        pause = _SHORTEST_PAUSE_SECONDS
        while not self._done.wait(pause) and not self._stopping.is_set():
            started = time.monotonic()
            self._pin_once()
            pause = max(_SHORTEST_PAUSE_SECONDS, _PAUSE_PER_SECOND * (time.monotonic() - started))
        self._pin_once()

    def _pin_once(self) -> None:
        try:
            pinned = self._pin()
        except Exception as err:
            if self._is_alone and not isinstance(err, ReviewLoopError):
                raise
            self._pinning_outage.failed(err)
            return
        self._pinning_outage.ended()
        if pinned:
            log.info("waiting_labels_pinned", labels=pinned)
