"""What models say of reviews: it may train with a weight, and is truth to nobody, by whatever way it came."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reviews.label import Label, LabelledReview
from reviews.queue_item import UNDO_SOURCE, NewItem
from reviews.slices import SliceShares, slice_of
from storage.labels.models import ModelAgreement, model_agreement
from storage.labels.progress import labelled_by_slice, tied_records
from storage.labels.queue_contents import QueueContents
from storage.labels.store import ItemFilter, LabelStore, find_items
from storage.labels.time_spent import time_spent
from storage.learning.audits import audit_answers
from storage.learning.pool import read_audit_pool, read_pool
from storage.learning.runs import read_pending
from storage.learning.texts import read_known_texts
from storage.queries.overview import OverviewStore
from storage.windows import WindowStore
from tests.night_scene import TASK, NightScene
from trainer.nightly.labels_and_questions import LabelExchange
from trainer.nightly.snapshot import Snapshot, freeze, weighting
from trainer.settings import NightlySettings, SelectionSettings

SHARES = SliceShares()
LABELS = ("negative", "neutral", "positive")
MODEL = "model:gpt"
Told = Sequence[tuple[int, str, int]]


@pytest.fixture
def scene(database: str, tiny_model: Path, tmp_path: Path) -> Iterator[NightScene]:
    made = NightScene(database, tiny_model, tmp_path)
    made.serve()
    yield made
    made.close()


def say(scene: NightScene, told: Told, annotator: str = MODEL, label: str | None = "positive") -> None:
    now = datetime.now(UTC)
    LabelStore(scene.database).add(
        [Label(record, TASK, label, annotator, "test", now) for record, _, _ in told]
    )


def of_slice(told: Told, *slices: str) -> list[tuple[int, str, int]]:
    return [one for one in told if slice_of(one[1], SHARES) in slices]


def ask(scene: NightScene, told: Told, reason: str) -> None:
    QueueContents(scene.database).add([NewItem(record, TASK, reason, "test", 0.5) for record, _, _ in told])


def states(scene: NightScene) -> dict[int, str]:
    return dict(scene.rows("SELECT record, state FROM label_task"))


def collected(scene: NightScene, **nightly: object) -> list[LabelledReview]:
    settings = NightlySettings(**nightly)
    return LabelExchange(scene.database, TASK, SelectionSettings(), settings).collect(tidy=True)


def frozen(reviews: Sequence[LabelledReview], **nightly: object) -> Snapshot:
    return freeze(reviews, LABELS, SHARES, weighting(NightlySettings(**nightly)), frozenset())


def test_a_model_neither_outvotes_nor_ties_nor_decides_for_people(scene):
    one, two, three, four = scene.publish(4)
    store = LabelStore(scene.database)
    say(scene, [one], "ann", "negative")
    for model in ("model:a", "model:b", "model:c"):
        say(scene, [one, two, three, four], model, "positive")
    say(scene, [three], "ann", "negative")
    say(scene, [three], "ben", "neutral")
    say(scene, [four], "ann", None)
    found = store.consensus(TASK, [record for record, _, _ in (one, two, three, four)])
    assert found == {one[0]: "negative", three[0]: None, four[0]: None}, "what no person said is no consensus"
    assert tied_records(scene.database, TASK) == [three[0]]
    human = dict(scene.rows("SELECT record, human_label FROM scored_reviews"))
    assert human == {one[0]: "negative", two[0]: None, three[0]: None, four[0]: None}


def test_no_answer_of_a_model_is_audit_truth(scene):
    told = of_slice(scene.publish(400), "audit")
    assert len(told) > 10
    before = datetime.now(UTC) - timedelta(hours=1)
    active = scene.adapters.active(TASK).version
    say(scene, told)  # before anybody was asked
    pool = read_audit_pool(scene.database, TASK, SHARES)
    assert set(pool.records) == {record for record, _, _ in told}, "people are asked about all of them"
    ask(scene, told, "audit")
    say(scene, told)
    QueueContents(scene.database).close_answered(TASK)
    collected(scene, models_complete_items=True)
    assert set(states(scene).values()) == {"open"}

    def rows() -> list[int]:
        found = audit_answers(
            scene.database, TASK, active=active, previous=active, since=before, shares=SHARES
        )
        return [row.record for row in found]

    windows, overview = WindowStore(scene.database), OverviewStore(scene.database, "review-labels")
    span = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert rows() == []
    assert windows.audited(TASK, active, *span) == []
    assert overview.audited(TASK) == []
    assert labelled_by_slice(scene.database, TASK, SHARES, 1000)["audit"] == {}
    assert not [row for row in frozen(collected(scene)).rows if row.slice != "train"]
    first = told[0]
    say(scene, [first], "ann", "negative")
    assert rows() == [first[0]], "an early answer of a model does not make a person's too early"
    said = windows.audited(TASK, active, *span)
    assert [(one.truth, one.label) for one in said] == [("negative", "neutral")]
    assert [one.record for one in overview.audited(TASK)] == [first[0]]
    assert states(scene)[first[0]] == "done"


def test_a_models_early_answer_hides_no_audit_answer_from_the_rollback(scene):
    (first, *_) = of_slice(scene.publish(100), "audit")
    active = scene.adapters.active(TASK).version
    say(scene, [first])
    scene.execute("UPDATE label SET received_at = received_at - interval '1 day'")
    ask(scene, [first], "audit")
    since = datetime.now(UTC) - timedelta(hours=1)
    say(scene, [first], "ann", "negative")
    found = audit_answers(scene.database, TASK, active=active, previous=active, since=since, shares=SHARES)
    assert [(row.record, row.label) for row in found] == [(first[0], "negative")]


def test_what_only_models_say_is_trained_on_with_its_weight_and_neither_judges_nor_chooses(scene):
    told = scene.publish(300)
    by_people, by_models, unsure = told[:100], told[100:280], told[280:]
    scene.label(by_people)
    say(scene, told)
    say(scene, unsure, "ann", None)
    reviews = collected(scene)
    of_models = {one.record for one in reviews if one.by_models}
    assert of_models == {record for record, _, _ in by_models}
    snapshot = frozen(reviews, model_weight=0.25, new_weight=2.0, uncertain_margin=0.0)
    rows = [row for row in snapshot.rows if row.review.by_models]
    assert {row.review.record for row in rows} == {record for record, _, _ in of_slice(by_models, "train")}
    assert {row.weight for row in rows} == {0.5}
    assert {row.weight for row in snapshot.of("train") if not row.review.by_models} == {2.0}
    manifest = snapshot.manifest(SHARES, 0)
    assert manifest["train_rows_of_models"] == len(rows)
    assert manifest["left_out"]["models_held_out"] == len(by_models) - len(rows)
    assert not [one for one in collected(scene, model_weight=0) if one.by_models]


def test_models_push_no_answer_of_a_person_out_of_what_a_run_takes(scene):
    told = scene.publish(40)
    scene.label(told[:10])
    say(scene, told[10:])  # later
    reviews = collected(scene, most_rows=15)
    assert [one.by_models for one in reviews].count(False) == 10
    assert len(reviews) == 15
    assert set(read_known_texts(scene.database, TASK, 100)) == {
        text for (text,) in scene.rows("SELECT text FROM review ORDER BY record LIMIT 10")
    }


def test_queued_reviews_wait_for_people_unless_a_setting_says_otherwise_and_then_only_those_that_train(scene):
    told = scene.publish(200)
    say(scene, told)
    pool = read_pool(scene.database, TASK, SHARES)
    assert len(pool.records) == len([one for one in told if slice_of(one[1], SHARES) != "audit"])
    ask(scene, told, "uncertain")
    again = told[0]
    scene.execute(f"UPDATE label_task SET reason = 'second_look' WHERE record = {again[0]}")
    collected(scene)
    assert set(states(scene).values()) == {"open"}
    collected(scene, models_complete_items=True)
    done = {record for record, state in states(scene).items() if state == "done"}
    assert done == {record for record, _, _ in of_slice(told, "train")} - {again[0]}


def test_models_start_no_run_and_are_not_counted_among_people(scene):
    told = scene.publish(6)
    say(scene, told)
    assert read_pending(scene.database, TASK).new_labels == 0
    assert time_spent(scene.database, TASK) == []
    assert LabelStore(scene.database).latest_answers(TASK) == []
    shown = [item["record"] for item in find_items(scene.database, ItemFilter(TASK, unlabelled=True))]
    assert len(shown) == 6
    state = OverviewStore(scene.database, "review-labels").queue(TASK, datetime.now(UTC) - timedelta(days=1))
    assert (state.answers, state.pairs) == (0, 0)
    scene.label(told[:2])
    assert read_pending(scene.database, TASK).new_labels == 2


def test_each_model_is_compared_with_what_people_agree_on(scene):
    told = scene.publish(6)
    say(scene, told[:4], "ann", "negative")
    say(scene, told[3:4], "ben", "positive")  # a tie
    say(scene, told[:1], MODEL, "positive")  # said again below: the latest counts
    say(scene, told[:2], MODEL, "negative")
    say(scene, told[2:5], MODEL, "positive")
    say(scene, told[5:], MODEL, None)
    say(scene, told[:1], "model:zwei", "neutral")
    scene.execute(f"UPDATE label SET source = '{UNDO_SOURCE}' WHERE annotator = 'model:zwei'")
    say(scene, told[1:2], "model:b", "neutral")
    assert model_agreement(scene.database, TASK) == [
        ModelAgreement("model:b", 1, 0, 1, 0),
        ModelAgreement(MODEL, 5, 1, 3, 2),
    ]
