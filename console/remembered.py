"""Results that are computed at most once in a while: what is expensive, and may be a minute old."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Result = TypeVar("Result")

_MOST_KEYS = 64


class Remembered(Generic[Result]):
    """Results by key, each kept for a while. Of several threads that want one, one computes it.

    Args:
        seconds: For so long a result is used again.
        clock: Seconds that only grow.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._results: dict[Hashable, tuple[float, Result]] = {}

    def get(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """The result of a key, computed now where there is none or it is too old."""
        with self._lock:
            known = self._results.pop(key, None)
            if known is None or self._clock() - known[0] > self._seconds:
                known = (self._clock(), compute())
            self._results[key] = known
            while len(self._results) > _MOST_KEYS:
                self._results.pop(next(iter(self._results)))
            return known[1]
