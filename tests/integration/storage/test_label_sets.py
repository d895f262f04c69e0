"""Labels that are renamed, merged, split and added: what becomes of answers, of the queue and of messages."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.errors import WrongUse
from reviews.label import Label, LabelMessage, UnpinnedLabel
from reviews.label_set import LabelChange
from reviews.queue_item import LABEL_SET_SOURCE, UNDO_SOURCE, NewItem
from reviews.stream_records import AcceptedLabel, PartitionRange
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.annotation_queue import AnnotationQueue
from storage.labels.label_sets import LabelSetChanged, LabelSetStore, follow_newest
from storage.labels.progress import answered_since, consistency, guesses
from storage.labels.queue_contents import QueueContents
from storage.labels.store import LabelStore
from storage.labels.vocabulary import LabelRetired
from storage.labels.waiting import pin_waiting
from storage.stream.label_writer import LabelWriter
from storage.stream.partitions import PartitionStore
from tests.integration.storage.test_labels import NOW, T0, Stream

TASK = "sentiment"
RENAME = LabelChange("rename", ("positive",), ("good",))
MERGE = LabelChange("merge", ("negative", "neutral"), ("not positive",))
SPLIT = LabelChange("split", ("neutral",), ("mixed", "no opinion"))


class Scene:
    """Reviews, answers, and the labels of their task."""

    def __init__(self, database: Database, stream: Stream) -> None:
        self.database = database
        self.stream = stream
        self.sent = 0
        self.labels = LabelStore(database)
        self.sets = LabelSetStore(database)
        self.queue = AnnotationQueue(database)
        self.contents = QueueContents(database)

    def answered(self, *said: str | None, annotator: str = "ann") -> list[int]:
        """Records of reviews with one answer each."""
        records = [self.stream.publish(f"{annotator}-{number}", 0) for number in range(len(said))]
        moment = T0 + timedelta(days=1)
        self.labels.add(
            [
                Label(record, TASK, label, annotator, "test", moment)
                for record, label in zip(records, said, strict=True)
            ]
        )
        return records

    def declare(self, change: LabelChange, **more: Any) -> Any:
        return self.sets.declare(TASK, change, "eve", **more)

    def consensus(self, records: Sequence[int]) -> list[str | None]:
        found = self.labels.consensus(TASK, records)
        return [found.get(record) for record in records]

    def states(self) -> dict[int, tuple[str, str]]:
        query = text("SELECT record, reason, state FROM label_task")
        return {row.record: (row.reason, row.state) for row in self.database.fetch(query)}

    def rows(self, record: int) -> list[tuple[str | None, str]]:
        return [(one.label, one.source) for one in self.labels.answers(TASK, [record])]

    def publish(self, *values: dict[str, Any]) -> list[str]:
        """Send answers to the labels topic; the messages of those that were refused."""
        part = PartitionStore(self.database).register("c", "review-labels", "topic-2", 0, 0).partition_id
        first, self.sent = self.sent, self.sent + len(values)
        accepted = [
            AcceptedLabel(first + number, LabelMessage(**{"annotator": "bob"} | value), NOW, NOW, b"", None)
            for number, value in enumerate(values)
        ]
        written = LabelWriter(self.database).write([PartitionRange(part, first, self.sent, accepted)])
        assert written.lost == frozenset()
        return [letter.message for letter in written.ranges[0].dead_letters]


@pytest.fixture
def stream(store: Database) -> Stream:
    adapter = AdapterVersion("sentiment-a", TASK, ("negative", "neutral", "positive"), "none", None, "a")
    AdapterStore(store).add(adapter, {"a": b""})
    return Stream(store)


@pytest.fixture
def scene(store: Database, stream: Stream) -> Scene:
    return Scene(store, stream)


def test_answers_under_a_renamed_label_count_under_its_new_name_and_stay_in_the_history(scene):
    first, second, third = scene.answered("positive", "negative", None)
    moment = scene.labels.labelled(TASK)[0]
    effect = scene.declare(RENAME)
    assert (effect.mapped, effect.taken_back, effect.asked_again) == ({"good": 1}, 0, 0)
    assert scene.consensus([first, second, third]) == ["good", "negative", None]
    assert scene.rows(first) == [("positive", "test"), ("good", LABEL_SET_SOURCE)]
    after = scene.labels.labelled(TASK)[0]
    assert after._replace(label="positive") == moment, "what was said when stays"
    assert scene.labels.vocabulary(TASK).ordered == ("negative", "neutral", "good")
    exported = [label.label for _, label in scene.labels.all_answers(TASK)]
    assert sorted(exported, key=str) == [None, "good", "negative"]


def test_a_merge_maps_both_labels_ends_ties_between_them_and_counts_no_work_twice(scene):
    (tied,) = scene.answered("negative")
    scene.labels.add([Label(tied, TASK, "neutral", "bea", "test", T0 + timedelta(days=2))])
    scene.contents.add([NewItem(tied, TASK, "tie", "tie", 0.0)])
    since = NOW - timedelta(days=10**4)
    before = answered_since(scene.database, TASK, "ann", since)
    assert scene.consensus([tied]) == [None]
    assert scene.declare(MERGE).mapped == {"not positive": 2}
    assert scene.consensus([tied]) == ["not positive"]
    assert scene.states()[tied] == ("tie", "done")
    assert answered_since(scene.database, TASK, "ann", since) == before == 1
    assert consistency(scene.database, TASK, "ann").repeated == 0, "nobody answered again"


def test_a_split_takes_answers_back_and_asks_again_about_a_bounded_number_besides_the_audits(scene):
    records = scene.answered("neutral", "neutral", "neutral", "positive")
    scene.contents.add([NewItem(records[0], TASK, "audit", "audit", 0.5)])
    scene.contents.close_answered(TASK)
    assert scene.states() == {records[0]: ("audit", "done")}
    effect = scene.declare(SPLIT, ask_again=1)
    assert (effect.taken_back, effect.asked_again) == (3, 2)
    assert scene.consensus(records) == [None, None, None, "positive"]
    assert scene.rows(records[0]) == [("neutral", "test"), (None, UNDO_SOURCE)]
    states = scene.states()
    assert states.pop(records[0]) == ("audit", "open"), "what was drawn at random stays a random draw"
    assert list(states.values()) == [("second_look", "open")]
    item = scene.queue.lease(TASK, "ann", 60)
    assert item is not None
    assert scene.queue.answer(item, "mixed", "ann"), "who had answered is asked again"
    assert scene.consensus([item.record]) == ["mixed"]
    assert scene.sets.ask_again(TASK, ["neutral"], 10) == 1, "the one that nobody was asked about yet"


def test_all_that_the_audit_drew_is_asked_about_again_so_that_it_stays_a_random_draw(scene):
    records = scene.answered("neutral", "neutral", "neutral", "neutral", "positive")
    items = [NewItem(record, TASK, "audit", "audit", 0.1) for record in (records[0], records[2], records[4])]
    scene.contents.add(items)
    scene.contents.close_answered(TASK)
    drawn = text("SELECT record, queued_at FROM label_task WHERE reason = 'audit' ORDER BY record")
    before = scene.database.fetch(drawn)
    again = [("audit", "open"), ("audit", "open"), ("audit", "done")]
    assert scene.declare(LabelChange("add", (), ("spam",))).asked_again == 0
    assert scene.sets.ask_again(TASK, ["neutral"], 1, dry_run=True) == 2 + 1
    assert scene.declare(SPLIT, ask_again=0).asked_again == 2
    assert [scene.states()[item.record] for item in items] == again
    assert len(scene.states()) == 3
    assert scene.database.fetch(drawn) == before, "the last draw was when it was"
    scene.contents.add([NewItem(scene.stream.publish("new", 0), TASK, "audit", "audit", 0.9)])
    held = scene.queue.lease(TASK, "ann", 60)
    assert held.record == records[0], "as long as they are open, audit figures lack a label: they come first"


def test_answers_that_may_name_an_added_label_are_asked_for_again(scene):
    records = scene.answered("neutral", "neutral", "positive")
    assert scene.declare(LabelChange("add", (), ("spam",))).label_set.labels[-1] == "spam"
    assert scene.consensus(records) == ["neutral", "neutral", "positive"]
    assert scene.sets.ask_again(TASK, ["neutral"], 1, dry_run=True) == 1
    assert scene.consensus(records) == ["neutral", "neutral", "positive"]
    assert scene.sets.ask_again(TASK, ["neutral"], 1) == 1
    assert sorted(scene.consensus(records), key=str) == [None, "neutral", "positive"]
    with pytest.raises(WrongUse, match="'angry' is and was no label"):
        scene.sets.ask_again(TASK, ["angry"], 1)


def test_a_dry_run_counts_what_the_change_would_touch_and_changes_nothing(scene):
    records = scene.answered("neutral", "positive")
    tables = ("label", "label_task", "label_set")
    counts = f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in tables)}"
    before = scene.database.fetch(text(counts))
    told = scene.declare(SPLIT, ask_again=10, dry_run=True)
    assert (told.taken_back, told.asked_again) == (1, 1)
    assert scene.database.fetch(text(counts)) == before
    assert scene.consensus(records) == ["neutral", "positive"]
    assert scene.declare(SPLIT, ask_again=10) == told


def test_messages_with_old_names_are_mapped_or_refused_without_a_restart(scene):
    for number in range(3):
        scene.stream.publish(f"{number}", 0)
    assert scene.publish({"review_id": "0", "label": "positive"}) == []
    scene.declare(RENAME)
    scene.declare(SPLIT)
    refused = scene.publish(
        {"review_id": "1", "label": "positive"},
        {"review_id": "2", "label": "neutral"},
        {"review_id": "2", "label": 1},
        {"review_id": "2", "label": 2, "annotator": "cem"},
    )
    assert len(refused) == 2
    assert all("'neutral' was split into 'mixed', 'no opinion'" in message for message in refused)
    answers = scene.labels.latest_answers(TASK)
    assert {(one.annotator, one.label) for one in answers} == {("bob", "good"), ("cem", "good")}


def test_labels_that_waited_count_under_the_names_of_now(scene):
    moment = T0 + timedelta(days=1)
    scene.labels.add(
        [
            UnpinnedLabel("late", TASK, "positive", "ann", "test", moment),
            UnpinnedLabel("later", TASK, "neutral", "ann", "test", moment),
        ]
    )
    scene.declare(RENAME)
    scene.declare(SPLIT)
    records = [scene.stream.publish("late", 0), scene.stream.publish("later", 0)]
    assert pin_waiting(scene.database, everything=True) == 2
    assert scene.consensus(records) == ["good", None]
    assert [label for label, _ in scene.rows(records[1])] == ["neutral", None]


def test_a_session_that_began_before_the_change_stores_todays_name_or_is_told(scene):
    first, second = scene.stream.publish("1", 0), scene.stream.publish("2", 0)
    scene.contents.add([NewItem(record, TASK, "uncertain", "margin", 0.5) for record in (first, second)])
    held = scene.queue.lease_several(TASK, "ann", 60, 2)
    assert [item.guess.label for item in held] == ["positive", "positive"]
    scene.declare(RENAME)
    scene.declare(SPLIT)
    assert scene.queue.answer(held[0], "positive", "ann")
    with pytest.raises(LabelRetired, match="'neutral' was split into 'mixed', 'no opinion'"):
        scene.queue.answer(held[1], "neutral", "ann")
    assert scene.consensus([first, second]) == ["good", None]
    assert scene.rows(second) == []
    assert scene.labels.answer("2", TASK, "positive", "bob")
    assert scene.consensus([second]) == ["good"]
    assert guesses(scene.database, TASK, [first])[first].label == "good", (
        "the model is quoted in words of now"
    )


def test_an_answer_that_slipped_in_under_an_old_name_is_found_by_the_next_run(scene):
    scene.declare(RENAME)
    record = scene.stream.publish("1", 0)
    slip = text(
        "INSERT INTO label (record, task, label, annotator, source, labelled_at) "
        "VALUES (:record, :task, 'positive', 'ann', 'test', now())"
    )
    scene.database.execute(slip, {"record": record, "task": TASK})
    assert follow_newest(scene.database, TASK) == 1
    assert scene.consensus([record]) == ["good"]
    assert follow_newest(scene.database, TASK) == 0
    assert follow_newest(scene.database, "another") == 0


def test_every_version_of_the_labels_is_kept_and_of_two_changes_at_once_one_is_told(scene):
    scene.declare(RENAME)
    scene.declare(SPLIT)
    versions = scene.sets.history(TASK)
    assert [one.version for one in versions] == [1, 2, 3]
    assert [one.change for one in versions] == [None, RENAME, SPLIT]
    assert versions[0].labels == ("negative", "neutral", "positive")
    assert versions[2].labels == ("negative", "mixed", "no opinion", "good")
    assert {one.declared_by for one in versions} == {"eve"}
    faster = text(
        "INSERT INTO label_set (task, version, labels, kind, sources, targets, declared_by) "
        "SELECT task, 4, array_append(labels, 'spam'), 'add', '{}', '{spam}', 'bob' "
        "FROM label_set WHERE version = 3"
    )
    with ThreadPoolExecutor(1) as pool, scene.database.begin() as connection:
        connection.execute(faster)  # not committed yet: the other one sees version 3, and waits for this row
        slower = pool.submit(scene.declare, LabelChange("add", (), ("joke",)))
        _wait_for_a_lock(scene.database)
        connection.commit()
        with pytest.raises(LabelSetChanged, match="Somebody else changed the labels"):
            slower.result(timeout=60)
    assert scene.sets.current(TASK).labels[-1] == "spam"


def _wait_for_a_lock(database: Database) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    deadline = time.monotonic() + 60
    while database.fetch_value(waiting) == 0:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_labels_that_people_gave_are_the_first_version_where_no_adapter_is(store):
    sets = LabelSetStore(store)
    with pytest.raises(WrongUse, match="has no labels yet"):
        sets.current("topic")
    LabelStore(store).add(
        [Label(1, "topic", name, "ann", "test", T0) for name in ("price", "delivery", "delivery")]
    )
    assert sets.current("topic").labels == ("delivery", "price")
    effect = sets.declare("topic", LabelChange("rename", ("price",), ("cost",)), "eve")
    assert effect.label_set.labels == ("delivery", "cost")
