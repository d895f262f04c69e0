"""Notices that the brokers are away: kafka-python says nothing then and delivers nothing, for ever."""

import time
from collections.abc import Callable

import structlog

from consumer.measures import Measures
from reviews.retry import Outage

log = structlog.get_logger()

_LOOKS_BEFORE_ALARM = 2  # a process that was frozen itself has heard nothing either, until it looks again


class BrokerWatch:
    """Says that the brokers went away, ever more rarely that they still are, and once that they are back.

    Args:
        is_reachable: Whether a broker answered lately; asked at every look.
        measures: Where the state is shown.
        clock: Seconds of a monotonic clock.
    """

    def __init__(
        self,
        is_reachable: Callable[[], bool],
        measures: Measures,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_reachable = is_reachable
        self._measures = measures
        self._clock = clock
        self._silent_looks = 0
        self._silent_since = 0.0
        self._outage = Outage(clock)

    @property
    def is_away(self) -> bool:
        """Whether the brokers are known to be away."""
        return self._silent_looks >= _LOOKS_BEFORE_ALARM

    def look(self) -> None:
        """Look once; call it about once a second."""
        now = self._clock()
        if self._is_reachable():
            self._end(now)
            return
        if self._silent_looks == 0:
            self._silent_since = now
        self._silent_looks += 1
        if self.is_away and self._outage.failed("silence"):
            self._measures.failed("kafka", by="brokers")
            log.warning(
                "broker_unreachable",
                seconds=round(now - self._silent_since, 1),
                detail="No Kafka broker answers; reading goes on by itself when one does.",
            )

    def _end(self, now: float) -> None:
        if self.is_away:
            log.info("broker_back", away_seconds=round(now - self._silent_since, 1))
        self._silent_looks = 0
        self._outage.ended()
        self._measures.answered("kafka", by="brokers")
