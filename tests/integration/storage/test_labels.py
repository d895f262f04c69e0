"""Answers in the database: history, consensus, the version that was judged, and labels that wait."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from reviews.label import Label, LabelMessage, UnpinnedLabel, Vocabulary, parse_label
from reviews.prediction import Prediction
from reviews.queue_item import UNDO_SOURCE, NewItem
from reviews.record_id import record_id
from reviews.stream_records import AcceptedLabel, PartitionRange
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels import waiting
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.queue_contents import QueueContents
from storage.labels.store import LabelStore
from storage.labels.waiting import pin_waiting
from storage.settings import DatabaseSettings
from storage.stream.dead_letters import Choice, DeadLetterStore
from storage.stream.label_writer import LabelWriter
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

T0 = datetime(2026, 3, 1, tzinfo=UTC)
NOW = T0 + timedelta(days=100)


def _at(days: float) -> datetime:
    return T0 + timedelta(days=days)


class Stream:
    """Reviews that arrive in one partition."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = ReviewWriter(database)
        self._id = PartitionStore(database).register("c", "reviews", "topic-1", 0, 0).partition_id
        self._next = 0

    def publish(self, review_id: str, days: float, words: str = "Good.") -> int:
        """The record of a review that was published so many days after the beginning."""
        answer = Prediction("sentiment", "positive", 0.7, (0.1, 0.2, 0.7), 0.5, 0.8, False, "sentiment-a")
        review = scored_review(
            self._next, review_id, words, "kettle", "shop", None, _at(days), NOW, (answer,)
        )
        part = PartitionRange(self._id, self._next, self._next + 1, [review])
        assert self._writer.write([part]).lost == frozenset()
        self._next += 1
        return record_id(self._id, review.offset)


@pytest.fixture
def stream(store: Database) -> Stream:
    adapter = AdapterVersion(
        "sentiment-a", "sentiment", ("negative", "neutral", "positive"), "none", None, "a"
    )
    AdapterStore(store).add(adapter, {"a": b""})
    return Stream(store)


@pytest.fixture
def labels(store: Database) -> LabelStore:
    return LabelStore(store)


def _label(record: int, label: str | None, annotator: str = "ann", days: float = 1, **more: Any) -> Label:
    return Label(record, "sentiment", label, annotator, "test", _at(days), **more)


def _unpinned(review_id: str, days: float, annotator: str = "ann", **more: Any) -> UnpinnedLabel:
    return UnpinnedLabel(review_id, "sentiment", "positive", annotator, "test", _at(days), **more)


def _human_labels(database: Database) -> dict[str, str | None]:
    with database.begin() as connection:
        rows = connection.execute(
            text("SELECT review_id, human_label FROM scored_reviews ORDER BY kafka_offset")
        )
        return {row.review_id: row.human_label for row in rows}


CONSENSUS: list[tuple[list[tuple[str, str | None]], str | None]] = [
    ([("ann", "a")], "a"),
    ([("ann", None)], None),
    ([("ann", "a"), ("bea", "b")], None),
    ([("ann", "a"), ("bea", None)], "a"),
    ([("ann", "a"), ("bea", "b"), ("cem", "b")], "b"),
    ([("ann", "a"), ("bea", "b"), ("cem", "b"), ("dan", "a")], None),
    ([("ann", "a"), ("ann", "a"), ("bea", "b")], None),  # an annotator counts once
    ([("ann", "a"), ("ann", "b")], "b"),
    ([("ann", "a"), ("ann", None)], None),
    ([("ann", "a"), ("bea", "b"), ("cem", "c"), ("dan", "c")], "c"),
    ([("ann", None), ("bea", None), ("cem", "c")], "c"),
]


def test_the_consensus_is_what_most_annotators_said_last_and_a_tie_is_none(
    store: Database, stream: Stream, labels: LabelStore
):
    expected = {stream.publish(f"{number}", 0): label for number, (_, label) in enumerate(CONSENSUS)}
    for record, (answers, _) in zip(expected, CONSENSUS, strict=True):
        days = iter(range(1, 99))
        labels.add([_label(record, label, annotator, next(days)) for annotator, label in answers])
        assert len(labels.answers("sentiment", [record])) == len(answers)
    assert labels.consensus("sentiment", list(expected)) == expected
    assert list(_human_labels(store).values()) == list(expected.values())
    found = {item.record: item.label for item in labels.labelled("sentiment")}
    assert found == {record: label for record, label in expected.items() if label is not None}


def test_of_two_answers_of_one_moment_the_later_given_counts(stream: Stream, labels: LabelStore):
    record = stream.publish("1", 0)
    labels.add([_label(record, "b"), _label(record, "a")])
    assert labels.consensus("sentiment", [record]) == {record: "a"}


def test_the_same_answer_of_the_same_moment_is_one_row_but_an_answer_given_again_is_two(
    stream: Stream, labels: LabelStore
):
    record = stream.publish("1", 0)
    assert labels.add([_label(record, "a"), _label(record, "a")]) == (1, 0, 1)
    assert labels.add([_label(record, "a", origin=5)]) == (0, 0, 1)
    assert labels.add([_label(record, "a", days=2, origin=6)]) == (1, 0, 0)
    assert labels.add([_label(record, "b", days=3, origin=6)]) == (0, 0, 1)
    assert labels.add([_label(record, None), _label(record, None)]) == (1, 0, 1)


def test_a_label_judged_the_version_that_was_current_at_its_moment(
    store: Database, stream: Stream, labels: LabelStore
):
    versions = [stream.publish("1", days, f"version {days}") for days in (10, 20, 30)]
    moments = (5, 10, 19.9, 20, 25, 31)
    labels.add([_unpinned("1", days, f"at {days}") for days in moments])
    judged = {answer.annotator: answer.record for answer in labels.answers("sentiment", versions)}
    first, second, third = versions
    assert judged == {
        "at 5": first, "at 10": first, "at 19.9": first, "at 20": second, "at 25": second, "at 31": third,
    }  # fmt: skip
    assert _human_labels(store) == {"1": "positive"}


def test_an_edited_review_keeps_the_old_label_with_the_old_version_and_wants_another(
    store: Database, stream: Stream, labels: LabelStore
):
    old = stream.publish("1", 10)
    other = stream.publish("2", 10)
    labels.add([_label(old, "positive", days=11), _label(other, "positive", days=11)])
    assert labels.edited_since_label("sentiment") == []
    newer = stream.publish("1", 12, "Bad after all.")
    newest = stream.publish("1", 13, "Really bad.")
    assert labels.edited_since_label("sentiment") == [newest]
    assert labels.edited_since_label("toxicity") == []
    assert _human_labels(store) == {"1": None, "2": "positive"}
    labels.add([_label(newer, "negative", days=12)])
    assert labels.edited_since_label("sentiment") == [newest]
    labels.add([_label(newest, None, days=14)])  # unsure is an answer as well
    assert labels.edited_since_label("sentiment") == []
    assert [item.record for item in labels.labelled("sentiment")] == [old, other, newer]


def test_a_review_published_again_word_for_word_is_no_edit(stream: Stream, labels: LabelStore):
    records = [stream.publish(review_id, 10, f"Text of {review_id}.") for review_id in "123"]
    labels.add([_label(record, "positive", days=11) for record in records])
    stream.publish("1", 12, "Text of 1.")
    edited = stream.publish("2", 12, "Bad after all.")
    stream.publish("3", 12, "Bad after all.")
    stream.publish("3", 13, "Text of 3.")
    assert labels.edited_since_label("sentiment") == [edited]


def test_a_label_waits_for_its_review_and_is_pinned_once_by_many_at_once(
    store: Database, stream: Stream, labels: LabelStore
):
    waiting = [_unpinned(f"{number}", 1, origin=number) for number in range(500)]
    assert labels.add(waiting) == (0, 500, 0)
    assert labels.add(waiting) == (0, 0, 500)
    assert pin_waiting(store) == 0
    for number in range(400):
        stream.publish(f"{number}", 0)
    barrier = threading.Barrier(4)

    def pin(_: int) -> int:
        barrier.wait()
        return pin_waiting(store, everything=True)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(pin, range(4))) == 400
    assert len(labels.labelled("sentiment")) == 400
    assert sorted(answer.origin or 0 for answer in labels.latest_answers("sentiment")) == list(range(400))
    assert labels.add(waiting) == (0, 0, 500)
    with store.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM waiting_label")).scalar() == 100


def test_a_label_that_waits_is_looked_for_ever_more_seldom(
    store: Database, stream: Stream, labels: LabelStore
):
    labels.add([_unpinned("1", 1), _unpinned("2", 1, origin=7)])
    _age(store, "1", hours=8)
    _age(store, "2", hours=800)
    assert pin_waiting(store) == 0
    with store.begin() as connection:
        query = text("SELECT review_id, extract(epoch FROM look_at - now()) / 3600 FROM waiting_label")
        hours = {row[0]: float(row[1]) for row in connection.execute(query)}
    assert hours == {"1": pytest.approx(1, abs=0.01), "2": pytest.approx(24, abs=0.01)}
    for review in ("1", "2"):
        stream.publish(review, 0)
    assert pin_waiting(store) == 0, "it is not time yet"
    assert pin_waiting(store, everything=True) == 2


def test_a_label_of_the_topic_whose_review_does_not_come_becomes_a_dead_letter_that_can_be_replayed(
    store: Database, stream: Stream, labels: LabelStore
):
    del stream
    part = PartitionStore(store).register("c", "review-labels", "topic-2", 0, 0).partition_id
    message = LabelMessage(review_id="late", label="positive", annotator="ann", labelled_at=_at(1))
    delivered = [AcceptedLabel(0, message, _at(1), NOW, b"", None)]
    LabelWriter(store).write([PartitionRange(part, 0, 1, delivered)])
    labels.add([_unpinned("imported", 1, origin=-5), _unpinned("soon", 1, origin=9)])
    _age(store, "late", hours=49)
    _age(store, "imported", hours=49)
    assert pin_waiting(store, timedelta(days=2), forward_dead_letters=True) == 0
    with store.begin() as connection:
        (letter,) = connection.execute(
            text("SELECT record, stage, error, raw, to_forward FROM dead_letter")
        ).all()
        left = connection.execute(text("SELECT review_id FROM waiting_label ORDER BY 1")).scalars().all()
    assert letter[:3] == (part << 40, "label", "review_missing")
    assert letter.to_forward
    assert parse_label(letter.raw) == message
    assert left == ["imported", "soon"], "an import has no record to go back to, and the other has time"
    assert pin_waiting(store, timedelta(days=2), everything=True) == 0
    (shown,) = DeadLetterStore(store).choose(Choice(error="review_missing"))
    assert shown.place == ("review-labels", 0, 0)


def test_more_waiting_labels_than_one_step_takes_are_all_looked_for(
    store: Database, stream: Stream, labels: LabelStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(waiting, "AT_ONCE", 3)
    labels.add([_unpinned(f"{number}", 1, origin=number) for number in range(11)])
    for number in range(1, 11, 2):
        stream.publish(f"{number}", 0)
    assert pin_waiting(store) == 5
    assert pin_waiting(store, everything=True) == 0


def _age(store: Database, review: str, hours: float) -> None:
    """As if a label had come so long ago."""
    statement = (
        "UPDATE waiting_label SET received_at = now() - :hours * interval '1 h' WHERE review_id = :review"
    )
    with store.begin() as connection:
        connection.execute(text(statement), {"hours": hours, "review": review})


def test_what_is_labelled_comes_with_its_review_its_scores_and_its_times(stream: Stream, labels: LabelStore):
    record = stream.publish("1", 0, "Nice kettle.")
    labels.add([_label(record, "neutral", days=3)])
    labels.add([_label(record, "positive", days=5)])
    (found,) = labels.labelled("sentiment")
    assert found[:9] == (
        record, "1", "Nice kettle.", "kettle", "shop", _at(0), "positive", _at(5), _at(3),
    )  # fmt: skip
    assert found.adapter_version == "sentiment-a"
    assert found.probabilities == pytest.approx([0.1, 0.2, 0.7])
    assert found.margin == pytest.approx(0.5)


def test_labels_come_in_by_the_databases_clock_whichever_way_they_come(
    database: str, store: Database, stream: Stream
):
    with _a_day_ahead(database) as ahead:
        record = stream.publish("1", 0)
        LabelStore(ahead).add([_label(record, "positive", "added")])
        LabelStore(ahead).add([_unpinned("1", 1, "pinned"), _unpinned("2", 1, "waited")])
        stream.publish("2", 0)
        assert pin_waiting(ahead) == 1
        part = PartitionStore(ahead).register("c", "review-labels", "topic-2", 0, 0).partition_id
        message = LabelMessage(review_id="1", label="positive", annotator="topic", labelled_at=_at(1))
        delivered = AcceptedLabel(0, message, NOW, NOW, b"", None)
        assert LabelWriter(ahead).write([PartitionRange(part, 0, 1, [delivered])]).ranges[0].accepted
        assert LabelStore(ahead).answer("1", "sentiment", "positive", "set")
        queue = AnnotationQueue(ahead)
        QueueContents(ahead).add([NewItem(record, "sentiment", "second_look", "test", 1.0)])
        item = queue.lease("sentiment", "queue", 600)
        assert item is not None
        queue.answer(item, "positive", "queue")
        queue.undo(item, "queue", 600)
    with store.begin() as connection:
        came = "SELECT annotator, received_at > now() + interval '23 hours' FROM label ORDER BY id"
        assert connection.execute(text(came)).all() == [
            ("added", True), ("pinned", True), ("waited", True), ("topic", True), ("set", True),
            ("queue", True), ("queue", True),
        ]  # fmt: skip


@contextmanager
def _a_day_ahead(url: str) -> Iterator[Database]:
    """The same database, with a clock that is a day ahead of everybody's."""
    ahead = "-csearch_path=ahead,pg_catalog,public"
    with closing(Database(DatabaseSettings(url=SecretStr(f"{url}?options={ahead}")))) as opened:
        with opened.begin() as connection:
            connection.execute(text("CREATE SCHEMA ahead"))
            connection.execute(
                text(
                    "CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql "
                    "RETURN pg_catalog.clock_timestamp() + interval '1 day'"
                )
            )
        yield opened


def test_what_the_audit_drew_is_told_from_what_was_labelled_for_any_other_reason(
    store: Database, stream: Stream, labels: LabelStore
):
    asked, drawn, other = (stream.publish(f"{number}", 0) for number in range(3))
    contents = QueueContents(store)
    contents.add([NewItem(asked, "sentiment", "uncertain", "test", 1.0)])
    contents.add(
        [NewItem(drawn, "sentiment", "audit", "audit", 1.0), NewItem(other, "tone", "audit", "audit", 1.0)]
    )
    labels.add([_label(record, "positive") for record in (asked, drawn, other)])
    assert [item.record for item in labels.labelled("sentiment") if item.is_drawn] == [drawn]


def test_how_much_an_item_of_the_audit_counts_is_kept_with_it_whatever_else_asks_about_it(
    store: Database, stream: Stream, labels: LabelStore
):
    rare, usual, asked = (stream.publish(f"{number}", 0) for number in range(3))
    contents = QueueContents(store)
    contents.add(
        [
            NewItem(rare, "sentiment", "audit", "audit", 0.5, draw_weight=0.25),
            NewItem(usual, "sentiment", "audit", "audit", 0.5),
            NewItem(asked, "sentiment", "uncertain", "test", 0.5),
        ]
    )
    contents.add([NewItem(record, "sentiment", "uncertain", "test", 0.9) for record in (rare, usual, asked)])
    labels.add([_label(record, "positive") for record in (rare, usual, asked)])
    found = {item.record: (item.is_drawn, item.draw_weight) for item in labels.labelled("sentiment")}
    assert found == {rare: (True, 0.25), usual: (True, 1.0), asked: (False, 1.0)}
    for weight in (0.0, 1.5, float("nan")):
        with pytest.raises(WrongUse, match="draw weight"):
            contents.add([NewItem(rare, "sentiment", "audit", "audit", 0.5, draw_weight=weight)])


def test_an_answer_that_was_taken_back_is_none_any_more(store: Database, stream: Stream, labels: LabelStore):
    record, other = stream.publish("1", 0), stream.publish("2", 0)
    labels.add([_label(record, "positive"), _label(other, "positive"), _label(other, None, "bea")])
    labels.add([_label(record, None, days=2)._replace(source=UNDO_SOURCE)])
    assert labels.consensus("sentiment", [record, other]) == {other: "positive"}
    assert [answer.record for answer in labels.latest_answers("sentiment")] == [other, other]
    stream.publish("1", 5)
    newest = stream.publish("2", 5, "Bad.")
    assert labels.edited_since_label("sentiment") == [newest]
    with store.begin() as connection:
        rows = connection.execute(text("SELECT record, answers, agreeing FROM label_consensus")).all()
    assert rows == [(other, 2, 1)]
    assert [(name, answer.annotator) for name, answer in labels.all_answers("sentiment")] == [
        ("2", "ann"),
        ("2", "bea"),
    ]


def test_labels_from_anywhere_close_the_queued_items_that_they_answer(
    store: Database, stream: Stream, labels: LabelStore
):
    contents = QueueContents(store)
    records = [stream.publish(f"{number}", 0) for number in range(3)]
    contents.add([NewItem(record, "sentiment", "uncertain", "test", 1.0) for record in records])
    labels.add([_unpinned("0", 1), _unpinned("later", 1)])
    assert [item.record for item in contents.top("sentiment", 9)] == records[1:]
    later = stream.publish("later", 0)
    contents.add([NewItem(later, "sentiment", "uncertain", "test", 1.0)])
    pin_waiting(store)
    assert [item.record for item in contents.top("sentiment", 9)] == records[1:]


def test_the_order_of_labels_is_that_of_the_adapter_that_serves(
    store: Database, stream: Stream, labels: LabelStore
):
    assert labels.vocabulary("toxicity") is None
    assert labels.vocabulary("sentiment") == Vocabulary(("negative", "neutral", "positive"))
    adapters = AdapterStore(store)
    newer = AdapterVersion("sentiment-b", "sentiment", ("bad", "negative", "good"), "none", None, "b")
    adapters.add(newer, {"a": b""})
    assert labels.vocabulary("sentiment") == Vocabulary(
        ("bad", "negative", "good"), frozenset({"neutral", "positive"})
    )
    adapters.activate(adapters.find("sentiment-a"), expected=None, decided_by="test", reason="test")
    assert labels.vocabulary("sentiment") == Vocabulary(
        ("negative", "neutral", "positive"), frozenset({"bad", "good"})
    )
