"""What a process that forwards sinks has done, as Prometheus metrics, and its health and readiness."""

from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from time import monotonic

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from consumer.sinks import SinkMeasures
from reviewloop.operations.metrics import counter, gauge


class SinkHealth:
    """Judges a process by the loops of its sinks.

    Args:
        measures: Of each sink.
        stalled_after_seconds: How long a loop may take for one turn.
        clock: Seconds of the monotonic clock.
    """

    def __init__(
        self,
        measures: Sequence[SinkMeasures],
        stalled_after_seconds: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._measures = measures
        self._stalled_after_seconds = stalled_after_seconds
        self._clock = clock

    def why_not_alive(self) -> list[str]:
        """Loops that do not turn any more; one that waits for a service does."""
        now = self._clock()
        stalled = {
            one.topic: now - one.turned_at
            for one in self._measures
            if one.turned_at is not None and now - one.turned_at > self._stalled_after_seconds
        }
        return [
            f"The loop of the sink '{topic}' has not turned for {seconds:.0f} s."
            for topic, seconds in stalled.items()
        ]

    def why_not_ready(self) -> list[str]:
        """Sinks that cannot forward now."""
        return self.why_not_alive() + [
            f"The sink '{one.topic}' does not forward: {one.problem or 'it has not begun.'}"
            for one in self._measures
            if one.problem or one.turned_at is None
        ]


class SinkCollector(Collector):
    """Reads the measures of the sinks of one process.

    Args:
        measures: Of each sink.
    """

    def __init__(self, measures: Sequence[SinkMeasures]) -> None:
        self._measures = measures

    def collect(self) -> Iterable[Metric]:
        """Every metric, with the values of this moment; the lag is that of the sink, of all its processes."""
        lags = {(one.topic,): one.lag for one in self._measures if one.lag is not None}
        published = {
            (one.topic, change): rows
            for one in self._measures
            for change, rows in [*one.published.items()]  # a copy, as the loop may add a key meanwhile
        }
        yield gauge("build_info", "The program's version", {(version("reviewloop"),): 1}, ("version",))
        yield gauge(
            "sink_up",
            "Whether the last attempt to forward succeeded",
            {(one.topic,): float(not one.problem and one.turned_at is not None) for one in self._measures},
            ("topic",),
        )
        yield gauge(
            "sink_lag_records",
            "Stored records that the sink has not passed yet",
            {topic: lag.records for topic, lag in lags.items()},
            ("topic",),
        )
        yield gauge(
            "sink_lag_seconds",
            "Since the oldest review was received that the sink has not published yet",
            {topic: lag.seconds or 0.0 for topic, lag in lags.items()},
            ("topic",),
        )
        yield gauge(
            "sink_waiting_changes",
            "Published rows that have changed since, up to 10,000",
            {topic: lag.changes for topic, lag in lags.items()},
            ("topic",),
        )
        yield counter("sink_rows", "Rows published by this process, by why", published, ("topic", "change"))
