"""Batching, calibration and post-processing: pure functions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifier.calibration import entropies, expected_calibration_error, fit_temperature, margins, softmax
from classifier.engine.batching import padded_batches

lengths_strategy = st.lists(st.integers(0, 600), max_size=200)


@given(lengths_strategy, st.integers(1, 5000))
def test_every_text_is_in_one_batch_and_no_batch_breaks_the_budget(lengths, budget):
    lengths = np.array(lengths, np.int64)
    batches = list(padded_batches(lengths, budget))
    assert sorted(int(index) for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget


@given(lengths_strategy)
def test_the_longest_texts_come_first(lengths):
    lengths = np.array(lengths, np.int64)
    order = [int(lengths[index]) for batch in padded_batches(lengths, 500) for index in batch]
    assert order == sorted(order, reverse=True)


def test_the_fitted_temperature_is_the_one_that_the_labels_were_drawn_with():
    random = np.random.default_rng(0)
    logits = random.normal(scale=3, size=(20_000, 3))
    labels = np.array([random.choice(3, p=row) for row in softmax(logits, 2.5)])
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.05)
    before = expected_calibration_error(softmax(logits), labels)
    after = expected_calibration_error(softmax(logits, 2.5), labels)
    assert after < 0.02 < before


def test_without_rows_the_temperature_is_one():
    assert fit_temperature(np.empty((0, 3)), np.empty(0, int)) == 1.0


@given(st.lists(st.lists(st.floats(-500, 500), min_size=3, max_size=3), min_size=1, max_size=20))
def test_probabilities_sum_to_one_and_entropy_and_margin_keep_their_bounds(logits):
    probabilities = softmax(np.array(logits))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (entropies(probabilities) >= 0).all()
    assert (entropies(probabilities) <= np.log(3) + 1e-9).all()
    assert (margins(probabilities) >= 0).all()
    assert (margins(probabilities) <= 1).all()
