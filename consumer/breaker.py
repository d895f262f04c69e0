"""Stops a worker when the publisher, not a message, is broken.

Dead-lettering a whole topic would turn a deployment mistake into a clean-up of days. After the idea of the
dead-letter limits in stream processors such as Arroyo: a share of a window, and a run without any success.
"""

from collections import deque

from consumer.settings import BreakerSettings
from reviews.errors import StreamError


class Breaker:
    """Watches the outcomes of parsing and scoring."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._groups: deque[tuple[int, int]] = deque()  # (invalid, valid), oldest first
        self._invalid = 0
        self._total = 0
        self._run = 0

    def note(self, *, invalid: int, valid: int, reason: str | None) -> None:
        """Take a group of outcomes into account.

        Args:
            invalid: How many messages were refused.
            valid: How many were taken.
            reason: The reason of the last refusal, for the error.

        Raises:
            StreamError: If too many of the latest messages are invalid; nothing of this group is stored yet.
        """
        self._groups.append((invalid, valid))
        self._invalid += invalid
        self._total += invalid + valid
        while self._total - sum(self._groups[0]) >= self._settings.window_messages:
            old_invalid, old_valid = self._groups.popleft()
            self._invalid -= old_invalid
            self._total -= old_invalid + old_valid
        self._run = 0 if valid else self._run + invalid
        self._check(reason)

    def _check(self, reason: str | None) -> None:
        settings = self._settings
        share = self._invalid / self._total if self._total else 0.0
        if self._total >= settings.window_messages and share > settings.max_invalid_share:
            self._stop(f"{share:.0%} of the latest {self._total:,} messages", reason)
        if settings.max_invalid_run and self._run >= settings.max_invalid_run:
            self._stop(f"the latest {self._run:,} messages without an exception", reason)

    def _stop(self, what: str, reason: str | None) -> None:
        raise StreamError(
            f"Stopped because {what} are invalid (the last one: {reason}): the publisher seems to be broken. "
            "Mend it, move on with 'reviewloop offsets set', or raise consumer.breaker's limits."
        )
