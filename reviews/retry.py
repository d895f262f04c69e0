"""How long to wait before the next attempt while a service is away (I8)."""

from collections.abc import Iterator

_FIRST_SECONDS = 0.1


def backoff_seconds(longest: float, first: float = _FIRST_SECONDS) -> Iterator[float]:
    """Pauses without end: each twice the last, from ``first`` up to ``longest`` seconds."""
    pause = min(first, longest)
    while True:
        yield pause
        pause = min(pause * 2, longest)
