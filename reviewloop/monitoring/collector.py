"""A worker's measures as Prometheus metrics; nothing is computed until somebody asks.

The names are a contract with alerts and dashboards: those in ``deploy/`` are checked against them.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from consumer.measures import SERVICES, Measures
from reviewloop.monitoring.families import counter, gauge, histogram
from reviewloop.monitoring.health import Health


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
        answers = {(service,): self._measures.answers(service) for service in SERVICES}
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
        yield counter("gaps", "Gaps that retention tore into a partition", measures.gaps)
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
            "labels_dead_letters", "Records of the labels topic that are no labels", reasons, ("reason",)
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


def _lag(measures: Measures) -> dict[tuple[str, str], int]:
    return {(item.topic, str(item.partition)): records for item, records in measures.lag_records.items()}


def _by_task(numbers: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    """A copy made in one step, as a thread may add a task meanwhile."""
    return {(task,): number for task, number in [*numbers.items()]}
