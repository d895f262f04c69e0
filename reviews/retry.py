"""How long to wait before the next attempt while a service is away (I8), and when to speak of it."""

import time
from collections.abc import Callable, Iterator

_FIRST_SECONDS = 0.1
_FIRST_REPEAT_SECONDS = 5.0
_LONGEST_REPEAT_SECONDS = 300.0


def backoff_seconds(longest: float, first: float = _FIRST_SECONDS) -> Iterator[float]:
    """Pauses without end: each twice the last, from ``first`` up to ``longest`` seconds."""
    pause = min(first, longest)
    while True:
        yield pause
        pause = min(pause * 2, longest)


class Outage:
    """Whether failed attempts are worth a line in the log: changes of state are, the same again rarely is.

    Args:
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at: float | None = None
        self._reasons: set[str] = set()
        self._speak_at = 0.0
        self._pauses = backoff_seconds(_LONGEST_REPEAT_SECONDS, first=_FIRST_REPEAT_SECONDS)

    @property
    def seconds(self) -> float:
        """How long it has lasted; 0 while there is none."""
        return 0.0 if self._began_at is None else self._clock() - self._began_at

    def failed(self, reason: str) -> bool:
        """Take note of a failed attempt; whether to say so.

        It is said at the first one, for each new reason, and ever more rarely while nothing changes.
        """
        now = self._clock()
        if self._began_at is None:
            self._began_at = now
            self._reasons.clear()
            self._pauses = backoff_seconds(_LONGEST_REPEAT_SECONDS, first=_FIRST_REPEAT_SECONDS)
        is_new = reason not in self._reasons
        self._reasons.add(reason)
        if not is_new and now < self._speak_at:
            return False
        self._speak_at = now + next(self._pauses)
        return True

    def ended(self) -> float | None:
        """Take note of an attempt that succeeded; how many seconds the outage lasted, None without one."""
        if self._began_at is None:
            return None
        seconds, self._began_at = self.seconds, None
        return seconds
