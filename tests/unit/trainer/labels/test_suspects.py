"""Confident learning: it finds the labels that were exchanged on purpose, and few others."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviews.label import LabelledReview
from trainer.labels.suspects import confident_joint, find_suspects, suspect_labels, thresholds

Scores = list[float] | None
AT = datetime(2026, 3, 1, tzinfo=UTC)


def _scores(truth: np.ndarray, labels: int, sharpness: float, seed: int) -> np.ndarray:
    """Probabilities of a model that is mostly right."""
    logits = np.random.default_rng(seed).normal(0, 1, (len(truth), labels))
    logits[np.arange(len(truth)), truth] += sharpness
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True)


def test_the_joint_counts_each_row_at_the_likeliest_label_above_its_threshold():
    given = np.array([0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
    assert thresholds(given, probabilities) == pytest.approx([0.6, 0.75])
    # Row 2 is above the threshold of label 1 alone; row 3 is above none, and so counts nowhere.
    assert confident_joint(given, probabilities).tolist() == [[2, 1], [0, 1]]
    assert find_suspects(given, probabilities) == [(2, 0, 1, pytest.approx(-0.6))]


def test_exchanged_labels_are_found_and_come_first():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 1_000)
    probabilities = _scores(truth, 3, 4.0, seed=6)
    given = truth.copy()
    wrong = rng.choice(1_000, 50, replace=False)
    given[wrong] = (given[wrong] + rng.integers(1, 3, 50)) % 3
    suspects = find_suspects(given, probabilities)
    found = {suspect.row for suspect in suspects}
    assert len(found & set(wrong)) >= 45
    assert len({suspect.row for suspect in suspects[:40]} & set(wrong)) >= 38
    assert sum(suspect.suggested == truth[suspect.row] for suspect in suspects) >= 45


def test_a_label_that_nobody_gave_is_suggested_to_nobody():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.2, 0.1, 0.7], [0.6, 0.3, 0.1]])
    given = np.array([0, 0, 1])
    assert np.isinf(thresholds(given, probabilities)[2])
    assert all(suspect.suggested != 2 for suspect in find_suspects(given, probabilities))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_suspects_are_rows_that_the_model_sees_otherwise_ranked_by_margin_each_once(rows, labels, seed):
    rng = np.random.default_rng(seed)
    given = rng.integers(0, labels, rows)
    probabilities = rng.dirichlet(np.ones(labels), rows).astype(np.float32)
    suspects = find_suspects(given, probabilities)
    assert len({suspect.row for suspect in suspects}) == len(suspects)
    assert [suspect.margin for suspect in suspects] == sorted(suspect.margin for suspect in suspects)
    limits = thresholds(given, probabilities)
    for suspect in suspects:
        assert suspect.given == given[suspect.row] != suspect.suggested
        assert probabilities[suspect.row, suspect.suggested] >= limits[suspect.suggested] - 1e-6
    joint = confident_joint(given, probabilities)
    assert joint.sum() - np.trace(joint) == len(suspects)


def test_equal_probabilities_make_no_suspects_by_rounding():
    given = np.array([0] * 7 + [1] * 3)
    probabilities = np.tile(np.array([0.7, 0.3], np.float32), (10, 1))
    assert {suspect.row for suspect in find_suspects(given, probabilities)} == {7, 8, 9}
    assert confident_joint(given, probabilities).sum() == 10


def _review(
    record: int, label: str, version: str | None, probabilities: list[float] | None
) -> LabelledReview:
    said = LabelledReview(record, f"r{record}", "Good.", None, None, AT, label, AT, AT, AT)
    return said._replace(adapter_version=version, probabilities=probabilities, margin=0.5)


def test_reviews_of_adapters_with_other_orders_of_labels_are_judged_together():
    orders = {"s-1": ("negative", "positive"), "s-2": ("positive", "mixed", "negative")}
    reviews = [
        _review(1, "positive", "s-1", [0.1, 0.9]),
        _review(2, "positive", "s-2", [0.8, 0.1, 0.1]),
        _review(3, "negative", "s-2", [0.9, 0.05, 0.05]),
        _review(4, "negative", "s-1", [0.95, 0.05]),
        _review(5, "mixed", "s-1", [0.5, 0.5]),  # its adapter does not know this label
        _review(6, "negative", None, None),
        _review(7, "negative", "s-9", [0.5, 0.5]),
    ]
    (found,) = suspect_labels(reviews, orders)
    assert (found.review.record, found.suggested) == (3, "positive")
    assert found.margin == pytest.approx(-0.85)
    assert suspect_labels(reviews[4:], orders) == []
    merged = {"s-1": orders["s-1"], "s-2": ("positive", "negative", "negative")}
    (found,) = suspect_labels(reviews[:4], merged)
    assert found.margin == pytest.approx(-0.8), "the probabilities of merged labels are added"
