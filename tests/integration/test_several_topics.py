"""Several topics in one worker: by name, by pattern, with tasks of their own, and taken over from a group."""

import json
import secrets
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from typing import Any

import pytest
from kafka import KafkaConsumer
from kafka.structs import OffsetAndMetadata, TopicPartition
from structlog.testing import capture_logs

from broker.subscription import Record
from broker.topics import TopicChoice
from consumer.batch import Outcome
from consumer.parsing import parse_reviews
from consumer.settings import ConsumerSettings
from reviews.errors import WrongUse
from reviews.stream_records import AcceptedReview, AcceptedWithdrawal, FilteredOut, Origin
from reviews.withdrawal import read_withdrawal
from tests.conftest import TopicFactory
from tests.integration.in_process import VERSION, InProcess, LengthClassifier, Stream

_PATIENCE_SECONDS = 60


def _message(number: int, text: str = "Good.") -> bytes:
    return json.dumps({"id": f"r{number}", "text": text}).encode()


def _publish(made: InProcess, topic: str, values: Iterable[bytes | None], **options: Any) -> list[int]:
    whole = made.topic
    made.topic = topic
    try:
        return made.publish(list(values), **options)
    finally:
        made.topic = whole


def _stored(made: InProcess) -> dict[str, int]:
    return dict(made.sql("SELECT kafka_topic, count(*) FROM scored_reviews GROUP BY 1"))


class ToneClassifier(LengthClassifier):
    """Another task, by the same rule."""

    task = "tone"

    def score(self, encoded: list[str]) -> list[Any]:
        return [said._replace(task="tone") for said in super().score(encoded)]


def test_names_and_patterns_are_read_together_and_what_is_excluded_is_not(
    stream: Stream, topic: TopicFactory
):
    made = stream(partitions=2)
    family = f"shop-{secrets.token_hex(4)}"
    names = [topic(1, prefix=f"{family}.{one}") for one in ("toys", "books", "written")]
    for name in (made.topic, *names):
        _publish(made, name, [_message(number) for number in range(5)])
    choice = TopicChoice((made.topic,), (rf"{family}\..*",), frozenset(names[2:]))
    assert made.consume(parts={"choice": choice}).accepted == 15
    stored = made.sql(
        "SELECT topic, next_offset, start_reason FROM stream_partition ORDER BY topic, partition"
    )
    assert stored == sorted(
        [(made.topic, 5, "earliest"), (made.topic, 0, "earliest")]
        + [(name, 5, "earliest") for name in names[:2]],
        key=lambda row: (row[0], -row[1]),
    )


def test_a_topic_that_is_made_later_joins_without_a_restart_and_from_its_beginning(
    stream: Stream, topic: TopicFactory
):
    made = stream()
    made.kafka = made.kafka.model_copy(update={"start": "latest"})
    _publish(made, made.topic, [_message(1)])
    pattern = f"{made.topic}.*"
    with made.worker(parts={"choice": TopicChoice((), (pattern,))}) as worker:
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            _wait_until(lambda: made.sql("SELECT 1 FROM stream_partition"))
            later = topic(2, prefix=made.topic)
            _publish(made, later, [_message(2)], partition=1)
            _wait_until(lambda: made.sql("SELECT 1 FROM review"))
        finally:
            worker._stopping.set()
            thread.join(_PATIENCE_SECONDS)
    assert made.sql("SELECT kafka_topic, review_id FROM scored_reviews") == [(later, "r2")]
    reasons = dict(made.sql("SELECT topic, start_reason FROM stream_partition"))
    assert reasons == {made.topic: "latest", later: "added"}


def _wait_until(holds: Any) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


def test_a_run_until_idle_ends_when_all_topics_are_stored_and_names_one_that_is_missing(
    stream: Stream, topic: TopicFactory
):
    made = stream()
    other = topic(3)
    _publish(made, other, [_message(number) for number in range(7)], partition=2)
    assert made.consume(parts={"choice": TopicChoice((made.topic, other))}).accepted == 7
    missing = f"none-{secrets.token_hex(4)}"
    with pytest.raises(WrongUse, match=f"'{missing}' does not exist"):
        made.consume(parts={"choice": TopicChoice((made.topic, missing))})
    with pytest.raises(WrongUse, match=f"No topic matches /{missing}/"):
        made.consume(parts={"choice": TopicChoice((made.topic,), (missing,))})


def test_each_topic_is_scored_for_its_own_tasks_and_for_all_where_it_names_none(
    stream: Stream, topic: TopicFactory
):
    made = stream()
    only = topic(1)
    for name in (made.topic, only):
        _publish(made, name, [_message(number, f"{name} {number}") for number in range(40)])
    classifiers = (made.classifier, ToneClassifier())
    tasks = {only: frozenset({"tone"})}
    made.consume(
        parts={"choice": TopicChoice((made.topic, only)), "tasks_of": tasks.get, "classifiers": classifiers},
        max_batch_reviews=8,
    )
    found = made.sql(
        "SELECT s.topic, p.task, count(*) FROM prediction p "
        "JOIN stream_partition s ON s.id = (p.record >> 40)::integer GROUP BY 1, 2"
    )
    assert sorted(found) == sorted(
        [(made.topic, "sentiment", 40), (made.topic, "tone", 40), (only, "tone", 40)]
    )
    assert made.sql("SELECT DISTINCT adapter_version FROM scored_reviews") == [(VERSION,)]


def _commit(made: InProcess, offsets: dict[int, int]) -> None:
    """As another program of the group did."""
    consumer = KafkaConsumer(
        bootstrap_servers=made.kafka.bootstrap_servers, group_id=made.kafka.group_id, enable_auto_commit=False
    )
    with closing(consumer):
        consumer.commit(
            {
                TopicPartition(made.topic, number): OffsetAndMetadata(offset, "", -1)
                for number, offset in offsets.items()
            },
            timeout_ms=30_000,
        )


def test_a_groups_offsets_are_taken_over_once_said_and_recorded(stream: Stream):
    made = stream(partitions=3)
    made.kafka = made.kafka.model_copy(update={"start": "group"})
    for partition in range(3):
        made.publish([_message(10 * partition + number) for number in range(5)], partition=partition)
    _commit(made, {0: 3, 1: 5})
    with capture_logs() as logs:
        assert made.consume().accepted == 2 + 0 + 5
    said = [entry for entry in logs if entry["event"] == "group_offsets_taken_over"]
    assert [(entry["offsets"], entry["earliest"]) for entry in said] == [({0: 3, 1: 5}, [2])]
    kept = "SELECT partition, start_offset, next_offset, start_reason FROM stream_partition ORDER BY 1"
    taken = [(0, 3, 5, "group"), (1, 5, 5, "group"), (2, 0, 5, "earliest")]
    assert made.sql(kept) == taken
    _commit(made, {0: 1, 1: 1, 2: 1})
    with capture_logs() as logs:
        assert made.consume().accepted == 0, "from then on the stored offsets count"
    assert made.sql(kept) == taken
    assert [entry for entry in logs if entry["event"] == "group_offsets_taken_over"] == []


def _parse_with_deletes(
    records: Iterable[Record], received_at: datetime, settings: ConsumerSettings, origin: Origin
) -> list[Outcome[AcceptedReview]]:
    """Tombstones withdraw the review of their key, and what says "skip" is filtered out."""
    outcomes: list[Outcome[AcceptedReview]] = []
    for record in records:
        if record.value is None:
            message = read_withdrawal((record.key or b"").decode(), "tombstone")
            times = {"arrived_ms": record.timestamp, "kafka_ms": record.timestamp}
            outcomes.append(
                AcceptedWithdrawal(
                    record.offset, message, received_at, received_at, None, record.key, **times
                )
            )
        elif record.value == b"skip":
            outcomes.append(FilteredOut(record.offset))
        else:
            outcomes += parse_reviews([record], received_at, settings, origin)
    return outcomes


def test_deletes_and_what_is_filtered_out_move_the_offset_and_end_as_no_review(stream: Stream):
    made = stream()
    made.publish([_message(1), _message(2), b"skip", b"{"])
    made.publish([None], key=b"r1")
    made.publish([b"skip", _message(3)])
    totals = made.consume(parts={"parse": _parse_with_deletes}, max_batch_reviews=2)
    assert (totals.accepted, totals.dead_letters, totals.withdrawals) == (3, 1, 1)
    assert made.sql("SELECT review_id FROM scored_reviews ORDER BY 1") == [("r2",), ("r3",)]
    assert made.sql("SELECT next_offset FROM stream_partition") == [(7,)]
    assert made.sql("SELECT review_id, kind FROM withdrawal") == [("r1", "tombstone")]
