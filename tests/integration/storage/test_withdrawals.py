"""A withdrawn review leaves everything that asks for current reviews, and its history stays."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.dead_letter import DeadLetter, Replay
from reviews.label import Label
from reviews.prediction import Prediction
from reviews.queue_item import NewItem
from reviews.record_id import record_id
from reviews.slices import SliceShares
from reviews.stream_records import AcceptedWithdrawal, PartitionRange, ScoredReview
from reviews.withdrawal import Withdrawal
from storage.adapters.comparison import side_by_side
from storage.adapters.registry import AdapterStore
from storage.adapters.rescoring import RescoreStore
from storage.database import Database
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.queue_contents import QueueContents
from storage.labels.store import ItemFilter, LabelStore, find_items
from storage.learning.pool import read_audit_pool, read_pool
from storage.queries.filters import ReviewFilter
from storage.queries.review_history import find_history
from storage.queries.review_pages import find_page
from storage.queries.reviews import find_reviews
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from storage.windows import WindowStore
from tests.scored import scored_review

SERVES, NEXT = "sentiment-111111111111", "sentiment-222222222222"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOBODY_IS_AUDITED, ALL_ARE_AUDITED = SliceShares(audit=0), SliceShares(audit=1)


def _ms(minutes: int) -> int:
    return int((START + timedelta(minutes=minutes)).timestamp() * 1000)


class OneTopic:
    """Two partitions with versions and withdrawals of reviews, each Kafka's time in minutes."""

    def __init__(self, database: Database) -> None:
        self.adapters = AdapterStore(database)
        for version in (SERVES, NEXT):
            self.adapters.add(
                AdapterVersion(version, "sentiment", ("bad", "good"), "none", None, version), {"a": b""}
            )
        self.adapters.activate(self.adapters.find(SERVES), expected=None, decided_by="test", reason="first")
        places = [PartitionStore(database).register("c", "reviews", "topic", number, 0) for number in (0, 1)]
        self._ids = [place.partition_id for place in places]
        self._next = [0, 0]
        self.writer = ReviewWriter(database)

    def publish(self, minutes: int, words: str = "Lovely.", partition: int = 0, **changes: Any) -> int:
        """The record of a version that Kafka had so many minutes after the start."""
        offset = self._next[partition]
        said = Prediction("sentiment", "good", 0.7, (0.3, 0.7), 0.4, 0.6, False, SERVES)
        stated = changes.pop("published_at", START + timedelta(minutes=minutes))
        received = START + timedelta(minutes=minutes, seconds=1)
        review = scored_review(
            offset, "r1", words, None, None, None, stated, received, (said,),
            shadows=(said._replace(label="bad", adapter_version=NEXT),), timestamp_ms=_ms(minutes),
        )  # fmt: skip
        return self._write(partition, [review], [], **changes)

    def withdraw(self, minutes: int, partition: int = 0, **changes: Any) -> int:
        """The record of a withdrawal that Kafka had so many minutes after the start."""
        one = withdrawal(self._next[partition], minutes, **changes)
        return self._write(partition, [], [one])

    def _write(
        self, partition: int, reviews: Sequence[ScoredReview], withdrawals: Sequence[AcceptedWithdrawal]
    ) -> int:
        id_, offset = self._ids[partition], self._next[partition]
        part = PartitionRange(id_, offset, offset + 1, list(reviews), [], list(withdrawals))
        assert self.writer.write([part]).lost == frozenset()
        self._next[partition] += 1
        return record_id(id_, offset)


def withdrawal(offset: int, minutes: int, kind: str = "delete", **changes: Any) -> AcceptedWithdrawal:
    moment = START + timedelta(minutes=minutes)
    message = Withdrawal(id="r1", kind=kind)
    received = moment + timedelta(seconds=1)
    return AcceptedWithdrawal(
        offset, message, moment, received, b"{}", b"r1", arrived_ms=_ms(minutes), **changes
    )


@pytest.fixture
def topic(store: Database) -> OneTopic:
    return OneTopic(store)


def _shown(store: Database) -> list[str]:
    return [row["text"] for row in find_reviews(store, ReviewFilter())]


def test_a_withdrawn_review_is_shown_to_nobody_who_asks_for_current_ones(store: Database, topic: OneTopic):
    record = topic.publish(0)
    queue, contents, windows = AnnotationQueue(store), QueueContents(store), WindowStore(store)
    contents.add([NewItem(record, "sentiment", "uncertain", "margin", 1)])
    active = windows.active("sentiment")
    assert active is not None
    span = windows.first_reviews(active, 10)
    jobs = RescoreStore(store)
    job = jobs.create(topic.adapters.find(NEXT))
    claim = jobs.claim(job, "somebody")
    assert claim is not None

    def seen() -> dict[str, object]:
        return {
            "view": _shown(store),
            "page": [row["text"] for row in find_page(store, ReviewFilter(limit=5)).rows],
            "items": [row["record"] for row in find_items(store, ItemFilter("sentiment"))],
            "queue": [item.record for item in contents.top("sentiment", 5)],
            "left": queue.left_for("sentiment", "ann"),
            "drift": [row.record for row in windows.sample(span, 10)],
            "course": sum(course.reviews for course in windows.course(span, timedelta(days=1))),
            "rescoring": [found.record for found in jobs.read(job, claim, 10, 10_000)],
            "examples": [pair.text for pair in side_by_side(store, "sentiment", SERVES, NEXT).examples],
        }

    assert all(seen().values()), seen()
    topic.withdraw(1)
    assert not any(seen().values()), seen()
    assert queue.lease("sentiment", "ann", 60) is None
    assert contents.expire("sentiment", older_than_days=30) == 1, "its item is closed at the next occasion"


def test_no_new_dataset_has_a_withdrawn_review_and_its_answers_stay(store: Database, topic: OneTopic):
    record, labels = topic.publish(0), LabelStore(store)
    labels.add([Label(record, "sentiment", "good", "bea", "test", START)])
    assert [found.record for found in labels.labelled("sentiment")] == [record]
    topic.withdraw(1)
    assert labels.labelled("sentiment") == []
    assert len(labels.answers("sentiment", [record])) == 1


def test_a_withdrawn_review_is_in_no_pool(store: Database, topic: OneTopic):
    topic.publish(0)
    assert len(read_pool(store, "sentiment", NOBODY_IS_AUDITED).records) == 1
    topic.withdraw(1)
    assert len(read_pool(store, "sentiment", NOBODY_IS_AUDITED).records) == 0
    assert len(read_audit_pool(store, "sentiment", ALL_ARE_AUDITED).records) == 0


@pytest.mark.parametrize("order", list(permutations(("first", "delete", "second"))))
def test_in_whatever_order_they_are_read_kafkas_time_decides(
    store: Database, topic: OneTopic, order: tuple[str, ...]
):
    steps = {
        "first": lambda: topic.publish(0, "First."),
        "delete": lambda: topic.withdraw(1, partition=1),
        "second": lambda: topic.publish(2, "Second."),
    }
    for step in order:
        steps[step]()
    assert _shown(store) == ["Second."]


def test_a_version_that_kafka_had_before_stays_withdrawn_whatever_time_it_states(
    store: Database, topic: OneTopic
):
    topic.publish(0, "Ahead.", published_at=START + timedelta(days=300))
    topic.withdraw(1)
    assert _shown(store) == []
    topic.publish(2, "Back.", published_at=START + timedelta(days=300))
    assert _shown(store) == ["Back."], "an equal time of publication is decided by Kafka's"


def test_an_older_version_never_takes_the_place_of_the_one_that_was_withdrawn(
    store: Database, topic: OneTopic
):
    topic.publish(0, "Old.")
    topic.publish(2, "New.")
    topic.withdraw(3)
    topic.publish(4, "Stale.", published_at=START + timedelta(minutes=1))
    assert _shown(store) == []


def test_within_one_moment_the_later_record_of_a_partition_counts(store: Database, topic: OneTopic):
    topic.publish(0)
    topic.withdraw(0)
    assert _shown(store) == []


def test_a_range_that_was_stored_before_withdraws_nothing_twice(store: Database, topic: OneTopic):
    topic.publish(0)
    topic.withdraw(1, kind="tombstone")
    again = PartitionRange(1, 1, 2, [], [], [withdrawal(1, 9)])
    assert topic.writer.write([again]).lost == {1}
    history = find_history(store, "r1")
    assert history is not None
    assert [(one.offset, one.kind) for one in history.withdrawals] == [(1, "tombstone")]


def test_the_history_shows_versions_and_withdrawals_after_they_are_over(store: Database, topic: OneTopic):
    topic.publish(0, "Old.")
    topic.withdraw(1)
    topic.publish(2, "Back.")
    history = find_history(store, "r1")
    assert history is not None
    assert [(version.text, version.is_withdrawn) for version in history.versions] == [
        ("Back.", False),
        ("Old.", True),
    ]
    assert [one.withdrawn_at for one in history.withdrawals] == [START + timedelta(minutes=1)]
    assert len(history.predictions) == 4, "what was said of both is kept"


def test_a_withdrawal_of_a_review_that_never_came_is_kept_and_found(store: Database, topic: OneTopic):
    topic.withdraw(1)
    history = find_history(store, "r1")
    assert history is not None
    assert (history.versions, len(history.withdrawals)) == ([], 1)
    topic.publish(0, "Late.")
    assert _shown(store) == [], "what Kafka had before it is withdrawn, however late it is read"


def test_a_dead_letter_whose_replay_is_a_withdrawal_is_settled(store: Database, topic: OneTopic):
    letter = DeadLetter(0, "parse", "not_json", "no", b"{", None, START)
    assert topic.writer.write([PartitionRange(1, 0, 1, [], [letter])]).lost == frozenset()
    replay = withdrawal(0, 1, replay=Replay("topic", 0, 0))
    assert topic.writer.write([PartitionRange(2, 0, 1, [], [], [replay])]).lost == frozenset()
    with store.begin() as connection:
        states = connection.execute(text("SELECT state, replayed_as FROM dead_letter")).all()
    assert [tuple(row) for row in states] == [("replayed", record_id(2, 0))]
