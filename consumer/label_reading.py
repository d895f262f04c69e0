"""Reads labels beside the reviews: in threads of its own, whose trouble never stops the scoring."""

import threading
import time
from collections.abc import Callable

import structlog

from consumer.worker import Totals
from reviews.errors import ReviewLoopError
from reviews.retry import backoff_seconds

log = structlog.get_logger()

_SHORTEST_PAUSE_SECONDS = 1.0
_PAUSE_PER_SECOND = 20  # of looking: it takes at most a twentieth of the database's time


class LabelReading:
    """Two threads: one reads the labels topic, one pins waiting labels whose review arrived.

    What is wrong with services, access or the topic is logged and tried again; a fault of the program ends
    both topics' reading, as a thread that died in silence would lose labels unseen.

    Args:
        read: Reads until told to stop, or until idle; the totals.
        settle: Pins what can be pinned now; how many labels.
        stopping: Ends both threads; set here after a fault of the program.
        retry_max_seconds: The longest pause between two attempts to read; None: there is one attempt.
    """

    def __init__(
        self,
        read: Callable[[], Totals],
        settle: Callable[[], int],
        *,
        stopping: threading.Event,
        retry_max_seconds: float | None,
    ) -> None:
        self._read = read
        self._settle = settle
        self._stopping = stopping
        self._retry_max_seconds = retry_max_seconds
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._is_troubled = False  # said once, not every second
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (("labels", self._keep_reading), ("waiting-labels", self._keep_settling))
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
        reader, settler = self._threads
        reader.join(timeout_seconds)
        self._done.set()
        settler.join(timeout_seconds)
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
        longest = self._retry_max_seconds
        for pause in backoff_seconds(longest or 0, first=_SHORTEST_PAUSE_SECONDS):
            try:
                self.totals = self._read()
            except ReviewLoopError as err:
                if longest is None:
                    raise
                # The error says what is wrong; a traceback adds nothing.
                log.error("labels_not_read", error=str(err), retry_in_seconds=round(pause, 1))  # noqa: TRY400
                if self._stopping.wait(pause):
                    return
            else:
                return

    def _keep_settling(self) -> None:
        pause = _SHORTEST_PAUSE_SECONDS
        while not self._done.wait(pause) and not self._stopping.is_set():
            started = time.monotonic()
            self._settle_once()
            pause = max(_SHORTEST_PAUSE_SECONDS, _PAUSE_PER_SECOND * (time.monotonic() - started))
        self._settle_once()

    def _settle_once(self) -> None:
        try:
            settled = self._settle()
        except ReviewLoopError as err:
            if not self._is_troubled:
                log.warning("waiting_labels_not_settled", error=str(err), detail="Trying again.")
            self._is_troubled = True
            return
        self._is_troubled = False
        if settled:
            log.info("waiting_labels_settled", labels=settled)
