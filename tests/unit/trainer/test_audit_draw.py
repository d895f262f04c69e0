"""The audit's draw: what is asked about, with which chances, and that weights undo what it prefers."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviews.errors import WrongUse
from reviews.slices import SliceShares, slice_of
from trainer.selection.audit_draw import AuditCandidates, audit_choices, draw_chances, systematic_draw

SHARES = SliceShares(audit=0.5)


def stream(rows: int = 400, seed: int = 0) -> np.ndarray:
    """float64 (rows, 3): probabilities of a stream in which about one review of ten is not positive."""
    random = np.random.default_rng(seed)
    kind = random.choice(3, rows, p=(0.04, 0.06, 0.9))
    sharp = random.dirichlet([0.4, 0.4, 0.4], rows)
    return 0.3 * sharp + 0.7 * np.eye(3)[kind]


ids = st.lists(st.text(max_size=8), unique=True, max_size=60)


@settings(max_examples=40, deadline=None)
@given(review_ids=ids, count=st.integers(0, 30), seed=st.integers(0, 5))
def test_the_audit_choice_holds_audit_items_only_each_once(review_ids, count, seed):
    rows = len(review_ids)
    candidates = AuditCandidates(np.arange(rows), review_ids, np.tile([0.4, 0.6], (rows, 1)))
    chosen = audit_choices(candidates, count, SHARES, seed)
    slices = [slice_of(review_ids[choice.record], SHARES) for choice in chosen]
    assert slices == ["audit"] * min(count, sum(slice_of(id_, SHARES) == "audit" for id_ in review_ids))
    assert len({choice.record for choice in chosen}) == len(chosen)
    assert {choice.reason for choice in chosen} <= {"audit"}
    assert chosen == audit_choices(candidates, count, SHARES, seed)


def test_every_candidate_of_an_even_draw_is_drawn_as_often_as_another():
    review_ids = [f"r{number}" for number in range(60)]
    candidates = AuditCandidates(np.arange(60), review_ids, np.ones((60, 1)))
    times = 2000
    drawn = np.zeros(60)
    for seed in range(times):
        for choice in audit_choices(candidates, 5, SHARES, seed):
            drawn[choice.record] += 1
    of_slice = np.array([slice_of(id_, SHARES) == "audit" for id_ in review_ids])
    share = 5 / of_slice.sum()
    assert np.abs(drawn[of_slice] / times - share).max() < 4.5 * np.sqrt(share * (1 - share) / times)


def test_audit_columns_of_different_lengths_are_refused():
    with pytest.raises(WrongUse, match="differ in length"):
        AuditCandidates(np.arange(2), ["a"], np.ones((2, 1)))


def test_chances_sum_to_the_number_of_items_and_weights_undo_what_the_draw_prefers():
    probabilities = stream()
    for even_share in (0.05, 0.2, 1.0):
        chances, weights = draw_chances(probabilities, 60, even_share)
        assert chances.sum() == pytest.approx(60)
        assert chances.max() <= 1
        assert weights.min() > 0
        assert weights.max() == 1
        np.testing.assert_allclose(chances * weights, chances.min())
    assert weights == pytest.approx(1)


def test_labels_that_are_rarely_probable_are_drawn_three_times_as_often():
    probabilities = stream(2000)
    is_rare = probabilities.argmax(axis=1) < 2
    chances, _ = draw_chances(probabilities, 100, 0.2)
    assert chances[is_rare].sum() > 3 * 100 * is_rare.mean()


def test_accuracy_is_measured_no_worse_than_by_as_many_answers_of_an_even_draw():
    """By the variance of Horvitz and Thompson's estimate, where reviews are drawn by themselves."""
    random, shares = np.random.default_rng(2), np.array([0.05, 0.1, 0.85])
    kind = random.choice(3, 20_000, p=shares)
    parts = random.gamma(0.6 * np.eye(3)[kind] + 1.4 * shares)
    probabilities = parts / parts.sum(axis=1, keepdims=True)
    best = probabilities.max(axis=1)
    chances, _ = draw_chances(probabilities, 100, 0.1)
    is_rare = 1 - probabilities[:, 2]
    assert (chances * is_rare).sum() > 2.9 * 100 * is_rare.mean()
    # A prediction that its probability calls sure is right nearly always, a doubtful one varies.
    assert (best * (1 - best) / chances).sum() < (best * (1 - best)).sum() * 20_000 / 100


def test_a_systematic_draw_draws_each_row_with_exactly_its_chance():
    chances, _ = draw_chances(stream(), 37, 0.1)
    # What is drawn changes only where the first point passes a fraction of the chances' sums.
    borders = np.unique(np.concatenate([[0.0, 1.0], (chances.cumsum() % 1)]))
    starts, lengths = (borders[:-1] + borders[1:]) / 2, np.diff(borders)
    drawn = np.zeros(400)
    for start, length in zip(starts, lengths, strict=True):
        rows = systematic_draw(chances, 37, start)
        assert len(set(rows.tolist())) == 37
        drawn[rows] += length
    np.testing.assert_allclose(drawn, chances, atol=1e-9)


def test_estimates_from_weighted_answers_are_unbiased_and_without_weights_they_are_not():
    """Exactly, over all draws that are possible: the mean of Horvitz and Thompson's estimate is the truth."""
    probabilities = stream()
    right = np.random.default_rng(1).random(400) < np.where(probabilities.argmax(axis=1) < 2, 0.4, 0.95)
    chances, weights = draw_chances(probabilities, 37, 0.1)
    borders = np.unique(np.concatenate([[0.0, 1.0], (chances.cumsum() % 1)]))
    weighted, forgotten = 0.0, 0.0
    scale = 37 / 400 / (chances * weights)[0]
    for low, high in pairwise(borders):
        rows = systematic_draw(chances, 37, (low + high) / 2)
        weighted += (high - low) * float((weights[rows] * right[rows]).sum()) * scale / 37
        forgotten += (high - low) * float(right[rows].mean())
    assert weighted == pytest.approx(right.mean(), abs=1e-9)
    assert forgotten < right.mean() - 0.1


def test_a_label_that_has_too_few_reviews_leaves_its_places_to_the_others():
    probabilities = np.tile([0.0, 1.0], (100, 1))
    probabilities[:2] = [1.0, 0.0]
    chances, weights = draw_chances(probabilities, 50, 0.1)
    assert chances[:2] == pytest.approx(1)
    assert chances.sum() == pytest.approx(50)
    assert weights[:2] == pytest.approx(48 / 98)


def test_items_are_in_random_order_of_priority_whatever_is_predicted():
    rows = 3000
    review_ids = [f"r{number}" for number in range(rows)]
    probabilities = stream(rows)
    candidates = AuditCandidates(np.arange(rows), review_ids, probabilities)
    first = []
    for seed in range(40):
        chosen = audit_choices(candidates, 60, SHARES, seed, even_share=0.1)
        assert [one.priority for one in chosen] == sorted((one.priority for one in chosen), reverse=True)
        rare = [probabilities[one.record].argmax() < 2 for one in chosen]
        first.append(np.mean(rare[:30]) - np.mean(rare[30:]))
    assert abs(np.mean(first)) < 0.06


def test_an_even_draw_weighs_every_item_the_same():
    review_ids = [f"r{number}" for number in range(300)]
    candidates = AuditCandidates(np.arange(300), review_ids, stream(300))
    assert {one.draw_weight for one in audit_choices(candidates, 20, SHARES, 1)} == {1.0}
    assert len({one.draw_weight for one in audit_choices(candidates, 20, SHARES, 1, even_share=0.1)}) > 10
