"""Retries while a service is unavailable (I8): pauses between attempts, and log lines.

:class:`Retry` does work again until it succeeds. :class:`Outage` is its memory, for loops that have other
work to do between two attempts.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import structlog

from reviews.errors import Exhausted, ReviewLoopError, Unavailable

log = structlog.get_logger()

_FIRST_SECONDS = 0.1
_FIRST_REPEAT_SECONDS = 5.0
_LONGEST_REPEAT_SECONDS = 300.0

_Result = TypeVar("_Result")


def backoff_seconds(longest: float, first: float = _FIRST_SECONDS) -> Iterator[float]:
    """Pauses without end: each twice the last, from ``first`` up to ``longest`` seconds."""
    pause = min(first, longest)
    while True:
        yield pause
        pause = min(pause * 2, longest)


class Outage:
    """Attempts at one thing that may fail for a while.

    The log gets a line at the first failure, for each new reason, ever more rarely while nothing changes, and
    at the end. A :class:`~reviews.errors.ReviewLoopError` explains itself: its line is a warning. Any other
    exception is a fault of the program: its line is an error with the traceback.

    Args:
        failed_event: The event of the log for failures, such as ``database_unavailable``.
        ended_event: The event for the end, such as ``database_back``.
        longest_seconds: The longest pause between two attempts; None: the caller has its own rhythm.
        first_seconds: The first pause; each further one is twice as long.
        clock: Seconds of a monotonic clock.
        context: Fields of every line.
    """

    def __init__(
        self,
        failed_event: str,
        ended_event: str,
        *,
        longest_seconds: float | None = None,
        first_seconds: float = _FIRST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        **context: Any,
    ) -> None:
        self._events = (failed_event, ended_event)
        self._longest_seconds = longest_seconds
        self._first_seconds = first_seconds
        self._clock = clock
        self._context = context
        self._began_at: float | None = None
        self._reasons: set[str] = set()

    @property
    def seconds(self) -> float:
        """How long it has lasted; 0 while there is none."""
        return 0.0 if self._began_at is None else self._clock() - self._began_at

    def failed(self, reason: Exception | str) -> float:
        """Take note of a failed attempt; the seconds until the next one, 0 without a longest pause."""
        now = self._clock()
        if self._began_at is None:
            self._began_at = now
            self._reasons.clear()
            self._pauses = backoff_seconds(self._longest_seconds or 0.0, self._first_seconds)
            self._silences = backoff_seconds(_LONGEST_REPEAT_SECONDS, _FIRST_REPEAT_SECONDS)
            self._speak_at = now
        pause = next(self._pauses)
        said = str(reason) if isinstance(reason, str | ReviewLoopError) else repr(reason)
        if said not in self._reasons or now >= self._speak_at:
            self._reasons.add(said)
            self._speak_at = now + next(self._silences)
            self._say(reason, said, pause)
        return pause

    def _say(self, reason: Exception | str, said: str, pause: float) -> None:
        fields = {"error": said, **self._context}
        if self._longest_seconds is not None:
            fields["retry_in_seconds"] = round(pause, 1)
        if isinstance(reason, str | ReviewLoopError):
            log.warning(self._events[0], **fields)
        else:
            log.error(self._events[0], exc_info=reason, **fields)

    def ended(self) -> bool:
        """Take note of an attempt that succeeded; whether it ended an outage."""
        if self._began_at is None:
            return False
        log.info(self._events[1], away_seconds=round(self.seconds, 1), **self._context)
        self._began_at = None
        return True


class Retry:
    """Does work until it succeeds, with pauses that grow.

    Args:
        failed_event: As of :class:`Outage`, like ``ended_event``, ``longest_seconds``, ``first_seconds``,
            ``clock`` and ``context``.
        ended_event: See above.
        longest_seconds: See above.
        wait: Waits for so many seconds, and returns true if the work has to stop: for example ``Event.wait``.
        first_seconds: See above.
        errors: What is tried again.
        is_final: Tells which of these errors waiting does not help against.
        attempts: How many there are at most; None: any number.
        outage_seconds: How long an outage may last; None: for ever.
        before: Called before each attempt, as a part of it.
        note: Called with each error, and with None after a success.
        clock: See above.
        context: See above.
    """

    def __init__(
        self,
        failed_event: str,
        ended_event: str,
        *,
        longest_seconds: float,
        wait: Callable[[float], object],
        first_seconds: float = _FIRST_SECONDS,
        errors: type[Exception] = Unavailable,
        is_final: Callable[[Exception], bool] = lambda _: False,
        attempts: int | None = None,
        outage_seconds: float | None = None,
        before: Callable[[], None] = lambda: None,
        note: Callable[[Exception | None], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        **context: Any,
    ) -> None:
        self._new_outage = partial(
            Outage,
            failed_event,
            ended_event,
            longest_seconds=longest_seconds,
            first_seconds=first_seconds,
            clock=clock,
            **context,
        )
        self._wait = wait
        self._errors = errors
        self._is_final = is_final
        self._attempts = attempts
        self._outage_seconds = outage_seconds
        self._before = before
        self._note = note

    def __call__(self, work: Callable[[], _Result], *, time_outs: int | None = None) -> _Result:
        """What the work returns.

        Args:
            work: May have succeeded although no answer came: done again, it has to come to the same.
            time_outs: How often it may be :class:`~reviews.errors.Exhausted`; None: any number of times.

        Raises:
            Exception: What the work raised last, where it is not tried again.
        """
        outage, failures, exhausted = self._new_outage(), 0, 0
        while True:
            try:
                self._before()
                result = work()
            except self._errors as err:
                if self._is_final(err):
                    raise
                self._note(err)
                failures += 1
                exhausted += isinstance(err, Exhausted)
                pause = outage.failed(err)
                has_tried_enough = failures == self._attempts or exhausted == time_outs
                if has_tried_enough or self._is_too_long(outage.seconds + pause) or self._wait(pause):
                    raise
            else:
                outage.ended()
                self._note(None)
                return result

    def _is_too_long(self, seconds: float) -> bool:
        return self._outage_seconds is not None and seconds > self._outage_seconds
