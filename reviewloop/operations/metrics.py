"""A worker's measures as Prometheus metrics, and its health and readiness.

The names are a contract with alerts and dashboards: those in ``deploy/`` are checked against them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from itertools import accumulate
from time import monotonic
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from consumer.measures import FURTHER_SERVICES, SERVICES, Histogram, Measures

PREFIX = "reviewloop_"
Values = Mapping[Any, float]
"""Numbers by the values of the labels, which are tuples of texts."""
_AWAY = {
    "kafka": "Kafka does not answer.",
    "database": "The database does not answer, or takes no writes.",
    "registry": "The schema registry does not answer, and records wait for a schema.",
}


class Health:
    """Judges a worker by its own measures.

    Args:
        measures: The worker's own counters.
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
        """What only a restart repairs; nothing while the worker waits for a service, however long."""
        seconds = self.seconds_since_turn()
        if seconds is None or seconds <= self._stalled_after_seconds:
            return []
        return [f"The main loop has not turned for {seconds:.0f} s."]

    def why_not_ready(self) -> list[str]:
        """What keeps the worker from scoring now; a group member without a partition stands by."""
        measures = self._measures
        missing = [task for task in self._tasks if task not in measures.adapters]
        reasons = [f"No adapter is loaded for the task '{task}'." for task in missing]
        away = [service for service in _needed(measures) if not measures.answers(service)]
        reasons += [_AWAY[service] for service in away]
        if not measures.is_member:
            reasons.append("The worker has not joined the consumer group.")
        return self.why_not_alive() + reasons


class WorkerCollector(Collector):
    """Reads one worker's measures.

    Args:
        measures: What the worker counts.
        health: What follows from it.
    """

    def __init__(self, measures: Measures, health: Health) -> None:
        self._measures = measures
        self._health = health

    def collect(self) -> Iterable[Metric]:
        """Every metric, with the values of this moment."""
        yield from self._state()
        yield from self._services()
        yield from self._stream()
        yield from self._work()
        yield from self._trouble()
        if self._measures.labels is not None:
            yield from self._labels(self._measures.labels)
        yield from self._shadows()

    def _state(self) -> Iterator[Metric]:
        yield gauge("build_info", "The program's version", {(version("reviewloop"),): 1}, ("version",))
        serving = dict.fromkeys(self._measures.adapters.items(), 1)
        yield gauge("adapter_info", "The adapter that scores a task", serving, ("task", "version"))
        yield gauge("ready", "Whether /readyz says yes", not self._health.why_not_ready())
        seconds = self._health.seconds_since_turn()
        yield gauge(
            "main_loop_idle_seconds", "Since the main loop turned last", {} if seconds is None else seconds
        )

    def _services(self) -> Iterator[Metric]:
        answers = {(service,): self._measures.answers(service) for service in _needed(self._measures)}
        up = {name: float(bool(answer)) for name, answer in answers.items()}
        yield gauge("service_up", "Whether a service did its work when it was last needed", up, ("service",))
        away = any(answer is False for answer in answers.values())
        yield gauge("degraded", "Whether the worker waits for a service", away)
        retries = {(service,): number for service, number in [*self._measures.retries.items()]}
        yield counter("retries", "Failed attempts to use a service", retries, ("service",))

    def _stream(self) -> Iterator[Metric]:
        measures = self._measures
        yield gauge(
            "lag_records",
            "Records between a partition's stored offset and its end",
            _lag(measures),
            ("topic", "partition"),
        )
        yield gauge("partitions", "Partitions that this worker owns", measures.partitions)
        waiting = {(stage,): queue.qsize() for stage, queue in measures.queues.items()}
        yield gauge("queue_batches", "Batches that wait for a stage", waiting, ("stage",))

    def _work(self) -> Iterator[Metric]:
        measures = self._measures
        yield counter(
            "records_received", "Records delivered, also those delivered again", measures.received_records
        )
        yield counter("reviews_stored", "Reviews stored with their predictions", measures.stored_reviews)
        yield counter("filtered_records", "Records that their sources leave out", measures.filtered_records)
        yield counter("withdrawals_stored", "Withdrawals of reviews stored", measures.stored_withdrawals)
        kept = {(reason,): number for reason, number in [*measures.embeddings.items()]}
        yield counter("embeddings_stored", "Embeddings stored, by why they are kept", kept, ("reason",))
        yield counter("tokens", "Tokens that went to the classifiers", measures.tokens)
        yield histogram("batch_reviews", "Valid reviews of a batch", measures.batch_reviews)
        stages = {(stage,): values for stage, values in measures.stage_seconds.items()}
        yield histogram("stage_seconds", "Time of a batch in a stage", stages, ("stage",))
        yield histogram(
            "publish_to_row_seconds", "From a record's Kafka timestamp to its row", measures.row_seconds
        )

    def _trouble(self) -> Iterator[Metric]:
        measures = self._measures
        yield counter(
            "dead_letters",
            "Records that could not become reviews",
            measures.dead_letters,
            ("stage", "reason"),
        )
        yield counter(
            "lost_compare_and_sets", "Ranges that another worker stored first", measures.lost_partitions
        )
        yield counter("gaps", "Offset gaps caused by retention", measures.gaps)
        yield counter("gap_records", "Offsets that were lost in gaps", measures.gap_records)

    def _labels(self, measures: Measures) -> Iterator[Metric]:
        yield counter("labels_stored", "Labels taken in from their topic", measures.stored_reviews)
        yield gauge(
            "labels_lag_records",
            "Records of the labels topic between a partition's stored offset and its end",
            _lag(measures),
            ("topic", "partition"),
        )
        reasons = {(reason,): number for (_, reason), number in [*measures.dead_letters.items()]}
        yield counter(
            "labels_dead_letters", "Records of the labels topic that are not labels", reasons, ("reason",)
        )

    def _shadows(self) -> Iterator[Metric]:
        measures = self._measures
        trials = dict.fromkeys(measures.shadows.items(), 1)
        yield gauge("shadow_info", "The adapter on trial for a task", trials, ("task", "version"))
        yield counter(
            "shadow_rows", "Reviews that a shadow scored", _by_task(measures.shadow_rows), ("task",)
        )
        yield counter(
            "shadow_disagreements",
            "Reviews that a shadow calls something else than the serving adapter",
            _by_task(measures.shadow_disagreements),
            ("task",),
        )
        yield counter(
            "shadow_failures",
            "Batches that a shadow failed on, and shadows that could not be loaded",
            _by_task(measures.shadow_failures),
            ("task",),
        )


def _needed(measures: Measures) -> list[str]:
    """The services that this worker needs, as far as is known."""
    return [*SERVICES, *(name for name in FURTHER_SERVICES if measures.answers(name) is not None)]


def _lag(measures: Measures) -> dict[tuple[str, str], int]:
    return {(item.topic, str(item.partition)): records for item, records in measures.lag_records.items()}


def _by_task(numbers: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    """A copy made in one step, as a thread may add a task meanwhile."""
    return {(task,): number for task, number in [*numbers.items()]}


def gauge(
    name: str, help_text: str, values: Values | float, labels: tuple[str, ...] = ()
) -> GaugeMetricFamily:
    """Numbers that go up and down; a single number has no labels."""
    family = GaugeMetricFamily(PREFIX + name, help_text, labels=labels)
    for label_values, value in _items(values):
        family.add_metric(label_values, value)
    return family


def counter(
    name: str, help_text: str, values: Values | float, labels: tuple[str, ...] = ()
) -> CounterMetricFamily:
    """Numbers that only grow; their samples end in ``_total``."""
    family = CounterMetricFamily(PREFIX + name, help_text, labels=labels)
    for label_values, value in _items(values):
        family.add_metric(label_values, value)
    return family


def histogram(
    name: str,
    help_text: str,
    values: Mapping[Any, Histogram] | Histogram,
    labels: tuple[str, ...] = (),
) -> HistogramMetricFamily:
    """Distributions; their samples end in ``_bucket``, ``_count`` and ``_sum``."""
    family = HistogramMetricFamily(PREFIX + name, help_text, labels=labels)
    for label_values, item in values.items() if isinstance(values, Mapping) else [((), values)]:
        bounds = [*map(floatToGoString, item.bounds), "+Inf"]
        counts = accumulate(item.counts)
        family.add_metric(label_values, list(zip(bounds, counts, strict=True)), item.sum)
    return family


def _items(values: Values | float) -> Iterable[tuple[tuple[str, ...], float]]:
    # A copy made in one step: the worker may add a key meanwhile.
    return list(values.items()) if isinstance(values, Mapping) else [((), float(values))]
