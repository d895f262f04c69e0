"""Two adapters side by side, on stored predictions of a trial and of rescored reviews."""

from datetime import UTC, datetime

import pytest

from reviews.adapter import AdapterVersion
from reviews.label import Label
from storage.adapters import comparison
from storage.adapters.comparison import side_by_side
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.stream.partitions import PartitionStore
from tests.integration.test_shadow import store_scored

A, B, C = "sentiment-aaaaaaaaaaaa", "sentiment-bbbbbbbbbbbb", "sentiment-cccccccccccc"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
TASK = "sentiment"


@pytest.fixture
def scored(store: Database) -> Database:
    """Eight reviews: A is active, B was on trial and differs on the third and the fourth."""
    for name in (A, B, C):
        adapter = AdapterVersion(name, TASK, ("bad", "good"), "none", None, name[-1] * 64)
        AdapterStore(store).add(adapter, {"reviewloop.json": b"{}"})
    PartitionStore(store).register("cluster", "reviews", "topic", 0, 0)
    said = [("good", "good"), ("good", None), ("good", "bad"), ("bad", "good"), ("bad", "bad"), ("bad", None)]
    store_scored(store, said, (A, B))
    return store


def _labels(database: Database, labels: dict[str, str | None]) -> None:
    with database.begin() as connection:
        rows = connection.exec_driver_sql("SELECT review_id, record FROM review").all()
    records = {row[0]: row[1] for row in rows}
    LabelStore(database).add(
        [Label(records[name], TASK, label, "ann", "test", NOW) for name, label in labels.items()]
    )


@pytest.mark.parametrize("turned", [False, True])
def test_what_both_said_of_the_same_reviews_is_counted_both_ways_round(scored: Database, turned: bool):
    first, second = (B, A) if turned else (A, B)
    found = side_by_side(scored, TASK, first, second)
    pairs = {("good", "good"): 1, ("good", "bad"): 1, ("bad", "good"): 1, ("bad", "bad"): 1}
    assert dict(found.pairs) == pairs
    assert (found.reviews, found.agreed) == (4, 2)
    assert {(one.review_id, one.first_label, one.second_label) for one in found.examples} == {
        ("r2", "bad" if turned else "good", "good" if turned else "bad"),
        ("r3", "good" if turned else "bad", "bad" if turned else "good"),
    }


def test_people_decide_who_is_right_and_their_reviews_come_first(scored: Database):
    _labels(scored, {"r3": "good", "r0": "bad", "r2": None})
    found = side_by_side(scored, TASK, A, B)
    assert (found.judged, found.first_right, found.second_right) == (1, 0, 1)
    assert [(one.review_id, one.human_label) for one in found.examples] == [("r3", "good"), ("r2", None)]
    assert len(side_by_side(scored, TASK, A, B, examples=1).examples) == 1


def test_adapters_that_scored_no_review_in_common_have_nothing_to_compare(scored: Database):
    found = side_by_side(scored, TASK, A, C)
    assert (found.reviews, found.agreed, list(found.examples)) == (0, 0, [])


def test_two_adapters_that_both_were_replaced_are_compared(scored: Database):
    with scored.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO prediction_history (record, task, adapter_id, reason, label, confidence, "
            "probabilities, margin, entropy, truncated, scored_at) SELECT record, task, (SELECT id FROM "
            f"adapter WHERE version = '{C}'), 'replaced', 'good', 0.9, probabilities, margin, entropy, "
            "truncated, scored_at FROM prediction"
        )
    found = side_by_side(scored, TASK, B, C)
    assert dict(found.pairs) == {("good", "good"): 2, ("bad", "good"): 2}


def test_only_the_latest_kept_predictions_are_looked_at(scored: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(comparison, "LOOKED_AT", 2)
    assert side_by_side(scored, TASK, A, B).reviews == 2
