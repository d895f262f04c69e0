"""Which of two versions of a review is current, by everything that asks, on a real PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.label import Label, UnpinnedLabel
from reviews.prediction import Prediction
from reviews.queue_item import NewItem
from reviews.record_id import record_id
from reviews.slices import SliceShares
from reviews.stream_records import PartitionRange
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.queue_contents import QueueContents
from storage.labels.rows import NEWEST_FIRST
from storage.labels.store import ItemFilter, LabelStore, find_items
from storage.learning.disagreements import disagreements
from storage.learning.pool import read_audit_pool, read_pool
from storage.queries.filters import ReviewFilter
from storage.queries.reviews import find_reviews
from storage.schema.stream import review
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

SERVES, SHADOW = "sentiment-111111111111", "sentiment-222222222222"
PUBLISHED = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECEIVED = PUBLISHED + timedelta(days=2)
KAFKA_MS = int((PUBLISHED + timedelta(days=1)).timestamp() * 1000)
NOBODY_IS_AUDITED, ALL_ARE_AUDITED = SliceShares(audit=0), SliceShares(audit=1)
HOURS_MS = 3_600_000


class Partitions:
    """Two partitions; what is published without a key lands in either."""

    def __init__(self, database: Database) -> None:
        adapters = AdapterStore(database)
        for version in (SERVES, SHADOW):
            adapters.add(
                AdapterVersion(version, "sentiment", ("bad", "good"), "none", None, version), {"a": b""}
            )
        adapters.activate(adapters.find(SERVES), expected=None, decided_by="test", reason="first")
        places = [PartitionStore(database).register("c", "reviews", "topic", number, 0) for number in (0, 1)]
        self._ids = [place.partition_id for place in places]
        self._next = [0, 0]
        self._writer = ReviewWriter(database)

    def publish(self, partition: int, words: str, review_id: str = "r1", **changes: Any) -> int:
        """The record of a version that says these words."""
        offset, id_ = self._next[partition], self._ids[partition]
        said = Prediction("sentiment", "good", 0.7, (0.3, 0.7), 0.4, 0.6, False, SERVES)
        shadow = said._replace(label="bad", adapter_version=SHADOW)
        times = (changes.pop("published_at", PUBLISHED), changes.pop("received_at", RECEIVED))
        made = (offset, review_id, words, None, None, changes.pop("stars", None), *times, (said,))
        review = scored_review(*made, **{"shadows": (shadow,), "timestamp_ms": KAFKA_MS, **changes})
        assert self._writer.write([PartitionRange(id_, offset, offset + 1, [review])]).lost == frozenset()
        self._next[partition] += 1
        return record_id(id_, offset)


@pytest.fixture
def partitions(store: Database) -> Partitions:
    return Partitions(store)


LATER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the publisher's time, whatever Kafka says": (
        {"timestamp_ms": KAFKA_MS + 9, "received_at": RECEIVED + timedelta(hours=1)},
        {"published_at": PUBLISHED + timedelta(microseconds=1)},
    ),
    "Kafka's time, where both were published at one moment": (
        {"received_at": RECEIVED + timedelta(hours=1)},
        {"timestamp_ms": KAFKA_MS + 1},
    ),
    "arrival, where Kafka had both at one moment": ({}, {"received_at": RECEIVED + timedelta(seconds=1)}),
}


@pytest.mark.parametrize("what", LATER)
def test_the_newest_version_is_the_same_for_everybody_who_asks(
    store: Database, partitions: Partitions, what: str
):
    first, second = LATER[what]
    older = partitions.publish(1, "Lovely.", **first)
    newer = partitions.publish(0, "Shrank.", **second)  # in the partition with the lesser number

    assert [row["text"] for row in find_reviews(store, ReviewFilter())] == ["Shrank."]
    assert [row["record"] for row in find_items(store, ItemFilter("sentiment"))] == [newer]
    assert read_pool(store, "sentiment", NOBODY_IS_AUDITED).records.tolist() == [newer]
    assert read_audit_pool(store, "sentiment", ALL_ARE_AUDITED).records.tolist() == [newer]
    since = datetime(2026, 1, 1, tzinfo=UTC)
    differing = disagreements(store, "sentiment", since, NOBODY_IS_AUDITED)
    assert [found.record for found in differing] == [newer]

    queue = AnnotationQueue(store)
    QueueContents(store).add(
        [
            NewItem(older, "sentiment", "uncertain", "margin", 1),
            NewItem(newer, "sentiment", "uncertain", "margin", 0),
        ]
    )
    shown = [queue.lease("sentiment", annotator, 60) for annotator in ("ann", "bea")]
    assert [(item.record, item.is_edited) for item in shown if item] == [(older, True), (newer, False)]

    labels = LabelStore(store)
    labels.add([Label(older, "sentiment", "good", "ann", "test", RECEIVED)])
    assert labels.edited_since_label("sentiment") == [newer]
    later = RECEIVED + timedelta(days=30)
    labels.add([UnpinnedLabel("r1", "sentiment", "bad", "cem", "test", later)])
    assert [answer.annotator for answer in labels.answers("sentiment", [newer])] == ["cem"]


def test_of_two_versions_of_one_moment_a_label_judged_the_one_that_was_there(
    store: Database, partitions: Partitions
):
    first = partitions.publish(1, "Lovely.", timestamp_ms=KAFKA_MS)
    second = partitions.publish(0, "Shrank.", timestamp_ms=KAFKA_MS + 2 * HOURS_MS)
    moments = {
        "between them": PUBLISHED + timedelta(days=1, hours=1),
        "after both": PUBLISHED + timedelta(days=2),
        "before Kafka had either": PUBLISHED + timedelta(hours=1),
        "before they were published": PUBLISHED - timedelta(days=1),
    }
    labels = LabelStore(store)
    labels.add(
        [UnpinnedLabel("r1", "sentiment", "bad", name, "test", moment) for name, moment in moments.items()]
    )
    judged = {answer.annotator: answer.record for answer in labels.answers("sentiment", [first, second])}
    assert judged == {
        "between them": first,
        "after both": second,
        "before Kafka had either": second,
        "before they were published": first,
    }


def test_a_version_that_the_program_before_wrote_gives_way_to_one_of_its_moment(
    store: Database, partitions: Partitions
):
    new = partitions.publish(0, "Shrank.")
    with store.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO review "
                "(record, review_id, text, product, source, stars, published_at, received_at) "
                "SELECT record + 1, review_id, 'Lovely.', NULL, NULL, 5, published_at, received_at "
                "FROM review"
            )
        )
        newest = text(f"SELECT record FROM review ORDER BY {NEWEST_FIRST}")
        assert list(connection.execute(newest).scalars()) == [new, new + 1]
        assert list(connection.execute(text("SELECT record FROM current_review")).scalars()) == [new]


def test_the_index_of_versions_has_the_order_of_versions():
    (index,) = [index for index in review.indexes if index.name == "review_current_idx"]
    columns = [column.name for column in index.columns]
    assert columns[0] == "review_id"
    assert ", ".join(f"{column} DESC" for column in columns[1:]) == NEWEST_FIRST


def test_half_stars_and_times_to_come_are_kept_as_they_were_given(store: Database, partitions: Partitions):
    to_come = datetime(2106, 2, 7, tzinfo=UTC)
    given: dict[str, dict[str, Any]] = {
        "half": {"stars": 4.5},
        "whole": {"stars": 2},
        "third": {"stars": 3.3},
        "none": {"stated_at": to_come},
    }
    for review_id, changes in given.items():
        partitions.publish(0, "Good.", review_id, **changes)
    with store.begin() as connection:
        rounded = dict(connection.execute(text("SELECT review_id, stars FROM review")).all())
    assert rounded == {"half": 5, "whole": 2, "third": 3, "none": None}
    rows = {row["review_id"]: row for row in find_reviews(store, ReviewFilter())}
    assert {review_id: row["stars"] for review_id, row in rows.items()} == {
        "half": 4.5, "whole": 2, "third": 3.3, "none": None,
    }  # fmt: skip
    assert {row["stated_published_at"] for row in rows.values()} == {None, to_come}
    assert rows["none"]["published_at"] == PUBLISHED
    assert rows["none"]["label_probabilities"] == {"bad": 0.3, "good": 0.7}
