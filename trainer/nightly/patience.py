"""Waits for a database that is away, for so long and no longer."""

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from reviews.errors import Unavailable
from reviews.retry import Outage, backoff_seconds
from storage.learning.leases import LeaseHeld

log = structlog.get_logger()

_LONGEST_PAUSE_SECONDS = 10.0

Result = TypeVar("Result")


class Patience:
    """Does work again until the database answers.

    Args:
        seconds: How long it may be away.
        wait: Waits for so many seconds; comes back early, and says so, where somebody asks to stop.
        hold: Called before each attempt. Nobody could renew a lease in a database that was away: it has to be
            held again before anything is written under it.
        clock: Seconds, from any beginning.
    """

    def __init__(
        self,
        seconds: float,
        wait: Callable[[float], bool],
        hold: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._wait = wait
        self._hold = hold
        self._clock = clock

    def __call__(self, do: Callable[[], Result]) -> Result:
        """What ``do`` returns.

        Args:
            do: May have done its work although no answer came: done again, it has to come to the same.

        Raises:
            LeaseHeld: As soon as ``do`` or ``hold`` raises it: the database did answer.
            Unavailable: If the database is away for longer, or somebody asks to stop meanwhile.
        """
        away_since: float | None = None
        outage = Outage(self._clock)
        pauses = backoff_seconds(_LONGEST_PAUSE_SECONDS)
        while True:
            try:
                self._hold()
                return do()
            except LeaseHeld:
                raise
            except Unavailable as err:
                now, pause = self._clock(), next(pauses)
                away_since = now if away_since is None else away_since
                if now + pause - away_since > self._seconds:
                    raise
                if outage.failed(str(err)):
                    log.warning("database_unavailable", error=str(err), retry_in_seconds=round(pause, 1))
                if self._wait(pause):
                    raise
