"""A worker's measures, as Prometheus reads them."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from queue import Queue
from time import monotonic

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.subscription import TopicPartition
from consumer.measures import Histogram, Measures
from reviewloop.local.places import free_port
from reviewloop.operations.endpoints import watched
from reviewloop.operations.settings import MetricsSettings
from reviews.dead_letter import DeadLetter
from reviews.errors import WrongUse
from tests.unit.operations.test_health import working

HOST = "127.0.0.1"
Served = tuple[Measures, int]


@pytest.fixture
def served() -> Iterator[Served]:
    """Measures of a working worker, and the port where they can be read."""
    measures, port = working(), free_port()
    measures.turned_at = monotonic()
    with watched(MetricsSettings(port=port), measures, ("sentiment",)):
        yield measures, port


def _get(port: int, path: str) -> tuple[int, str]:
    connection = HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    status, text = _get(port, "/metrics")
    assert status == 200, text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_number_that_the_worker_counts_is_exported(served: Served):
    measures, port = served
    measures.received_records = 12
    measures.stored(7, [DeadLetter(3, "parse", "not_json", "…", b"{", None, None)])
    measures.tokens = 99
    measures.partitions = 2
    measures.lag_records = {TopicPartition("reviews", 1): 40}
    measures.lost_partitions, measures.gaps, measures.gap_records = 1, 2, 300
    measures.queues["score"] = Queue()
    measures.queues["score"].put("a batch")
    measures.failed("kafka")
    measures.stage_seconds["score"].add(0.3)
    measures.batch_reviews.add(64)
    measures.arrived([1_000, 2_000, -1], 3_000)
    measures.kept(["audit", "audit", "uncertain"])
    measures.shadows = {"sentiment": "sentiment-bbbbbbbbbbbb"}
    measures.shadow_scored("sentiment", 9, 2, has_failed=False)
    measures.shadow_scored("sentiment", 0, 0, has_failed=True)

    values = scrape(port)

    expected = {
        ("reviewloop_records_received_total", ()): 12,
        ("reviewloop_reviews_stored_total", ()): 7,
        ("reviewloop_dead_letters_total", (("reason", "not_json"), ("stage", "parse"))): 1,
        ("reviewloop_tokens_total", ()): 99,
        ("reviewloop_partitions", ()): 2,
        ("reviewloop_lag_records", (("partition", "1"), ("topic", "reviews"))): 40,
        ("reviewloop_lost_compare_and_sets_total", ()): 1,
        ("reviewloop_gaps_total", ()): 2,
        ("reviewloop_gap_records_total", ()): 300,
        ("reviewloop_queue_batches", (("stage", "score"),)): 1,
        ("reviewloop_retries_total", (("service", "kafka"),)): 1,
        ("reviewloop_retries_total", (("service", "database"),)): 0,
        ("reviewloop_service_up", (("service", "kafka"),)): 0,
        ("reviewloop_service_up", (("service", "database"),)): 1,
        ("reviewloop_degraded", ()): 1,
        ("reviewloop_ready", ()): 0,
        ("reviewloop_adapter_info", (("task", "sentiment"), ("version", "sentiment-0123456789ab"))): 1,
        ("reviewloop_stage_seconds_bucket", (("le", "0.25"), ("stage", "score"))): 0,
        ("reviewloop_stage_seconds_bucket", (("le", "0.5"), ("stage", "score"))): 1,
        ("reviewloop_batch_reviews_bucket", (("le", "64.0"),)): 1,
        ("reviewloop_embeddings_stored_total", (("reason", "audit"),)): 2,
        ("reviewloop_embeddings_stored_total", (("reason", "uncertain"),)): 1,
        ("reviewloop_shadow_info", (("task", "sentiment"), ("version", "sentiment-bbbbbbbbbbbb"))): 1,
        ("reviewloop_shadow_rows_total", (("task", "sentiment"),)): 9,
        ("reviewloop_shadow_disagreements_total", (("task", "sentiment"),)): 2,
        ("reviewloop_shadow_failures_total", (("task", "sentiment"),)): 1,
        ("reviewloop_publish_to_row_seconds_count", ()): 2,
        ("reviewloop_publish_to_row_seconds_sum", ()): 3,
    }
    assert {key: values.get(key) for key in expected} == expected
    assert "process_resident_memory_bytes" in {name for name, _ in values}


def test_a_record_of_a_publisher_whose_clock_runs_ahead_counts_as_arrived_at_once():
    measures = Measures()
    measures.arrived([5_000], 1_000)
    assert (measures.row_seconds.counts[0], measures.row_seconds.sum) == (1, 0.0)


def test_many_values_are_counted_like_one_after_the_other():
    values = [0.0, 0.5, 1.0, 1.5, 2.0, 99.0]
    together, single = Histogram((1.0, 2.0)), Histogram((1.0, 2.0))
    together.add_all(values)
    for value in values:
        single.add(value)
    assert together.counts == single.counts == [3, 2, 1]
    assert together.sum == single.sum


def test_supervisors_get_200_or_503_with_the_reasons(served: Served):
    measures, port = served
    assert _get(port, "/healthz") == (200, "ok\n")
    assert _get(port, "/readyz") == (200, "ok\n")
    measures.failed("database")
    assert _get(port, "/healthz") == (200, "ok\n")
    assert _get(port, "/readyz") == (503, "The database does not answer, or takes no writes.\n")
    measures.turned_at = -1e9
    assert _get(port, "/healthz")[0] == 503
    assert _get(port, "/elsewhere")[0] == 404


def test_a_client_that_sends_nothing_holds_up_nobody(served: Served):
    _, port = served
    with socket.create_connection((HOST, port)):
        assert _get(port, "/healthz")[0] == 200


def test_without_a_port_nothing_listens():
    with watched(MetricsSettings(), Measures(), ("sentiment",)):
        pass


def test_a_taken_port_is_an_error_that_names_the_setting(served: Served):
    _, port = served
    with (
        pytest.raises(WrongUse, match=r"metrics\.port"),
        watched(MetricsSettings(port=port), Measures(), ("sentiment",)),
    ):
        pass


def test_the_port_is_free_again_afterwards():
    port = free_port()
    for _ in range(2):
        with watched(MetricsSettings(port=port), Measures(), ()):
            assert _get(port, "/healthz")[0] == 200


def test_what_is_counted_of_labels_is_exported_where_they_are_read(served: Served):
    measures, port = served
    assert not any(name.startswith("reviewloop_labels") for name, _ in scrape(port))
    measures.labels = Measures()
    measures.labels.stored(5, [DeadLetter(3, "label", "unknown_label", "…", b"{", None, None)])
    measures.labels.lag_records = {TopicPartition("review-labels", 1): 4}
    samples = scrape(port)
    assert samples["reviewloop_labels_stored_total", ()] == 5
    assert samples["reviewloop_labels_dead_letters_total", (("reason", "unknown_label"),)] == 1
    place = (("partition", "1"), ("topic", "review-labels"))
    assert samples["reviewloop_labels_lag_records", place] == 4
    assert ("reviewloop_lag_records", place) not in samples
