"""The circuit breaker: stops a worker when most of the latest messages are invalid.

Dead-lettering a whole topic would turn a deployment mistake into a clean-up of days. After the idea of the
dead-letter limits in stream processors such as Arroyo: a share of a window, and a run without any success.

Kafka delivers a backlog partition by partition, thousands of records of one before the first of the next. A
window over the records as they come would then judge one partition alone. So each partition has a window of
its own, and those of all partitions that delivered lately are judged together: one broken partition beside
sound ones does not stop the worker, in whatever order they are read.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer.settings import BreakerSettings
from reviews.errors import StreamError


class Outcomes(NamedTuple):
    """What became of a group of messages."""

    invalid: int
    valid: int


@dataclass(slots=True)
class _Window:
    """The latest messages of one partition; where a group has both kinds, their order does not matter."""

    groups: deque[Outcomes] = field(default_factory=deque)  # oldest first
    invalid: int = 0
    total: int = 0
    run: int = 0
    heard_at: float = 0.0

    def add(self, group: Outcomes, size: int, now: float) -> None:
        self.groups.append(group)
        self.invalid += group.invalid
        self.total += sum(group)
        while self.total - sum(self.groups[0]) >= size:
            oldest = self.groups.popleft()
            self.invalid -= oldest.invalid
            self.total -= sum(oldest)
        self.run = 0 if group.valid else self.run + group.invalid
        self.heard_at = now


class Breaker:
    """Watches the outcomes of parsing and scoring.

    Args:
        settings: The limits.
        clock: Seconds of a monotonic clock.
    """

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._windows: dict[Hashable, _Window] = {}

    def note(self, outcomes: Mapping[Hashable, Outcomes], reason: str | None, topic: str = "TOPIC") -> None:
        """Take a batch into account, before it is stored.

        Args:
            outcomes: What became of its messages, by partition.
            reason: The reason of the last refusal, for the error.
            topic: The topic that it came from, for the error.

        Raises:
            StreamError: If too many of the latest messages are invalid; nothing of this batch is stored yet.
        """
        now = self._clock()
        for partition, group in outcomes.items():
            if sum(group):
                window = self._windows.setdefault(partition, _Window())
                window.add(group, self._settings.window_messages, now)
        self._forget_before(now - self._settings.window_seconds)
        self._check(reason, topic)

    def _forget_before(self, moment: float) -> None:
        """A partition that has been silent for long says nothing about the publisher of today."""
        for partition in [name for name, window in self._windows.items() if window.heard_at < moment]:
            del self._windows[partition]

    def _check(self, reason: str | None, topic: str) -> None:
        settings, windows = self._settings, self._windows.values()
        total = sum(window.total for window in windows)
        share = sum(window.invalid for window in windows) / total if total else 0.0
        if total >= settings.window_messages and share > settings.max_invalid_share:
            self._stop(f"{share:.0%} of the latest {total:,} messages", reason, topic)
        run = sum(window.run for window in windows) if all(window.run for window in windows) else 0
        if settings.max_invalid_run and run >= settings.max_invalid_run:
            self._stop(f"the latest {run:,} messages without an exception", reason, topic)

    def _stop(self, what: str, reason: str | None, topic: str) -> None:
        raise StreamError(
            f"Stopped because {what} are invalid (the last one: {reason}): the publisher seems to be broken, "
            f"or the topic has another shape. 'reviewloop sources try {topic}' shows how its records are "
            "read, and proposes settings that suit them. Correct one of the two, move on with 'reviewloop "
            "offsets set', or raise consumer.breaker's limits."
        )
