"""Is a worker alive, and can it do its work now?"""

from collections.abc import Callable
from time import monotonic

from consumer.measures import SERVICES, Measures

_AWAY = {
    "kafka": "Kafka does not answer.",
    "database": "The database does not answer, or takes no writes.",
}


class Health:
    """Judges a worker by its own measures.

    Args:
        measures: What the worker says of itself.
        tasks: The tasks that need an adapter.
        stalled_after_seconds: How long the main loop may take for one turn.
        clock: Seconds of the monotonic clock that the worker uses.
    """

    def __init__(
        self,
        measures: Measures,
        tasks: tuple[str, ...],
        stalled_after_seconds: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._measures = measures
        self._tasks = tasks
        self._stalled_after_seconds = stalled_after_seconds
        self._clock = clock

    def seconds_since_turn(self) -> float | None:
        """How long ago the main loop turned last; None while it has not begun (the worker still loads)."""
        turned_at = self._measures.turned_at
        return None if turned_at is None else max(0.0, self._clock() - turned_at)

    def why_not_alive(self) -> list[str]:
        """What only a restart mends; nothing while the worker waits for a service, however long."""
        seconds = self.seconds_since_turn()
        if seconds is None or seconds <= self._stalled_after_seconds:
            return []
        return [f"The main loop has not turned for {seconds:.0f} s."]

    def why_not_ready(self) -> list[str]:
        """What keeps the worker from scoring now; a group member without a partition stands by."""
        measures = self._measures
        missing = [task for task in self._tasks if task not in measures.adapters]
        reasons = [f"No adapter is loaded for the task '{task}'." for task in missing]
        away = [service for service in SERVICES if not measures.answers(service)]
        reasons += [_AWAY[service] for service in away]
        if not measures.is_member:
            reasons.append("The worker has not joined the consumer group.")
        return self.why_not_alive() + reasons
