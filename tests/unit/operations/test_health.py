"""Alive, ready, or neither."""

from consumer.measures import Measures
from reviewloop.operations.metrics import Health


def working() -> Measures:
    measures = Measures()
    measures.turned_at = 1000.0
    measures.is_member = True
    measures.adapters = {"sentiment": "sentiment-0123456789ab"}
    measures.answered("kafka", "database")
    return measures


def _health(measures: Measures, now: float = 1001.0) -> Health:
    return Health(measures, ("sentiment",), stalled_after_seconds=60, clock=lambda: now)


def test_a_worker_that_turns_and_reaches_everything_is_alive_and_ready():
    health = _health(working())
    assert (health.why_not_alive(), health.why_not_ready()) == ([], [])


def test_a_worker_that_has_not_begun_is_alive_but_not_ready():
    health = _health(Measures())
    assert health.why_not_alive() == []
    assert health.why_not_ready() == [
        "No adapter is loaded for the task 'sentiment'.",
        "Kafka does not answer.",
        "The database does not answer, or takes no writes.",
        "The worker has not joined the consumer group.",
    ]


def test_a_main_loop_that_stands_still_is_neither_alive_nor_ready():
    health = _health(working(), now=1061.0)
    assert health.why_not_alive() == ["The main loop has not turned for 61 s."]
    assert health.why_not_ready() == health.why_not_alive()


def test_waiting_for_the_database_keeps_a_worker_alive_until_it_answers_again():
    measures = working()
    measures.failed("database")
    health = _health(measures)
    assert health.why_not_alive() == []
    assert health.why_not_ready() == ["The database does not answer, or takes no writes."]
    measures.answered("database")
    assert health.why_not_ready() == []


def test_a_database_that_is_read_but_takes_no_rows_makes_a_worker_not_ready():
    measures = working()
    measures.failed("database", by="store")
    measures.answered("database", by="adapters")
    assert _health(measures).why_not_ready() == ["The database does not answer, or takes no writes."]
    measures.answered("database", by="store")
    assert _health(measures).why_not_ready() == []


def test_a_member_of_the_group_without_a_partition_is_ready_to_take_over():
    measures = working()
    measures.partitions = 0
    assert _health(measures).why_not_ready() == []
