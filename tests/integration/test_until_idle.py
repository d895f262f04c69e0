"""``--until-idle`` on a real topic: success means that the whole topic is stored, whoever read it."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from consumer.worker import Totals
from reviews.errors import Unread, WrongUse
from reviews.prediction import Prediction
from tests.integration.in_process import InProcess, LengthClassifier, Stream

_PATIENCE_SECONDS = 60
_REVIEWS = [b'{"id": "%d", "text": "good"}' % number for number in range(20)]

Run = Callable[..., str]


class HeldClassifier(LengthClassifier):
    """Scores when it is let go."""

    def __init__(self) -> None:
        self.is_scoring = threading.Event()
        self.may_score = threading.Event()

    def score(self, encoded: Any) -> list[Prediction]:
        self.is_scoring.set()
        assert self.may_score.wait(_PATIENCE_SECONDS)
        return super().score(encoded)


@contextmanager
def _stuck_member(made: InProcess) -> Iterator[None]:
    """A member of the group that has every partition and stores nothing."""
    leaving, has_all = threading.Event(), threading.Event()

    def hold() -> None:
        consumer = KafkaConsumer(
            made.topic,
            bootstrap_servers=made.kafka.bootstrap_servers,
            group_id=made.kafka.group_id,
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            enable_auto_commit=False,
        )
        while not leaving.is_set():
            consumer.poll(timeout_ms=50)
            if consumer.assignment():
                has_all.set()
        consumer.close(autocommit=False)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert has_all.wait(_PATIENCE_SECONDS)
    try:
        yield
    finally:
        leaving.set()
        thread.join(_PATIENCE_SECONDS)


def _run_until_idle(made: InProcess, looks: list[float] | None = None, **options: Any) -> Totals:
    with made.worker(**options) as worker:
        if looks is not None:
            ask = worker._source.backlog

            def look() -> Any:
                looks.append(time.monotonic())
                return ask()

            worker._source.backlog = look  # type: ignore[method-assign]
        return worker.run(0.3)


def test_a_worker_without_a_partition_succeeds_only_when_the_other_has_stored_all(stream: Stream) -> None:
    made = stream()
    made.publish(_REVIEWS)
    made.classifier = HeldClassifier()
    looks: list[float] = []
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(_run_until_idle, made)
        assert made.classifier.is_scoring.wait(_PATIENCE_SECONDS)
        second = pool.submit(_run_until_idle, made, looks)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while len(looks) < 3 and not second.done():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ended_early = second.done()
        made.classifier.may_score.set()
        stored = first.result(_PATIENCE_SECONDS).accepted, second.result(_PATIENCE_SECONDS).accepted
    assert not ended_early, "it succeeded while the other worker had stored nothing"
    assert stored == (20, 0)


def test_a_worker_beside_a_member_that_stores_nothing_fails(stream: Stream) -> None:
    made = stream()
    made.publish(_REVIEWS)
    with _stuck_member(made), pytest.raises(Unread, match=r"20, in \S+\[0\]\)"):
        _run_until_idle(made, idle_patience_seconds=1)


def test_what_transactions_leave_behind_holds_no_run_up(stream: Stream) -> None:
    made = stream()
    servers = made.kafka.bootstrap_servers
    producers = [
        KafkaProducer(bootstrap_servers=servers, transactional_id=f"{made.topic}-{number}")
        for number in range(3)
    ]
    try:
        for producer, (end, reviews) in zip(
            producers,
            (("commit", _REVIEWS), ("abort", _REVIEWS[:5]), ("none", _REVIEWS[:5])),
            strict=True,
        ):
            producer.init_transactions()
            producer.begin_transaction()
            for review in reviews:
                producer.send(made.topic, review, partition=0)
            producer.flush()
            if end != "none":
                getattr(producer, f"{end}_transaction")()
        assert _run_until_idle(made).accepted == 20
        # Twenty and a marker, five and a marker; the open transaction's are not readable yet.
        assert made.sql("SELECT next_offset FROM stream_partition WHERE topic = %s", made.topic) == [(27,)]
    finally:
        producers[2].abort_transaction()
        for producer in producers:
            producer.close()


def test_a_topic_that_is_not_there_is_wrong_use_for_reviews_and_for_labels(stream: Stream, run: Run) -> None:
    made = stream()
    for arguments in (("consume", "--topic", "reveiws"), ("label", "consume", "--topic", "lables")):
        with pytest.raises(WrongUse, match=f"The topic '{arguments[-1]}' does not exist"):
            run(made, *arguments, "--until-idle", 1)
