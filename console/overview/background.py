"""A value that takes long to compute and may be a minute old: pages never wait for it."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from reviews.errors import ReviewLoopError

Value = TypeVar("Value")
log = structlog.get_logger()


class BackgroundValue(Generic[Value]):
    """Computed by a thread of its own, one at a time, when somebody asks for it and it is old.

    Args:
        compute: Makes the value.
        fresh_seconds: A younger value is not computed anew.
        longest_seconds: An older one is not shown any more.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        compute: Callable[[], Value],
        fresh_seconds: float,
        longest_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._compute = compute
        self._fresh_seconds = fresh_seconds
        self._longest_seconds = longest_seconds
        self._clock = clock
        self._at_work = threading.Lock()
        self._known: tuple[float, Value] | None = None

    def get(self, first_wait_seconds: float = 0.0) -> Value | None:
        """The value that is known; None where there is none yet, or only a much older one.

        Args:
            first_wait_seconds: Where there is none, wait for it, but not for longer.
        """
        if not self._is_younger_than(self._fresh_seconds) and self._at_work.acquire(blocking=False):
            thread = threading.Thread(target=self._renew, name="background-value", daemon=True)
            thread.start()
            if not self._is_younger_than(self._longest_seconds):
                thread.join(first_wait_seconds)
        known = self._known
        return known[1] if known is not None and self._is_younger_than(self._longest_seconds) else None

    def _is_younger_than(self, seconds: float) -> bool:
        return self._known is not None and self._clock() - self._known[0] < seconds

    def _renew(self) -> None:
        """Holds the lock that the caller took."""
        try:
            began = self._clock()
            self._known = began, self._compute()
        except ReviewLoopError as err:
            log.warning("overview_not_computed", error=str(err))
        finally:
            self._at_work.release()
