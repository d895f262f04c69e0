"""Intervals from few audit answers and many stored predictions: what they hold, and how often."""

import numpy as np
import pytest

from drift.audited import AuditAnswers, audited_performance, stored_predictions
from drift.performance import performance

SHARES = np.array([0.05, 0.1, 0.85])


def made_up(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 (rows), truth, and float64 (rows, 3), probabilities that are right about it."""
    random = np.random.default_rng(seed)
    alphas = 2.0 * (0.6 * np.eye(3)[random.choice(3, rows, p=SHARES)] + 0.4 * SHARES)
    said = np.array([random.dirichlet(one) for one in alphas])
    truth = (random.random((rows, 1)) > said.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return truth, said


def table(truth: np.ndarray, said: np.ndarray) -> np.ndarray:
    counts = np.zeros((3, 3))
    np.add.at(counts, (truth, said.argmax(axis=1)), 1)
    return counts


def answers(truth: np.ndarray, said: np.ndarray, weights: np.ndarray | None = None) -> AuditAnswers:
    counting = np.ones(len(truth)) if weights is None else weights
    return AuditAnswers(truth, said.argmax(axis=1), said, counting)


def test_answers_alone_are_what_their_confusion_matrix_says():
    truth, said = made_up(200, 1)
    found, wanted = audited_performance(answers(truth, said)), performance(table(truth, said))
    assert found.labels == 200
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high
    # Probabilities cannot help where their mean is that of the answers themselves.
    assert found.accuracy.value == pytest.approx(wanted.accuracy)
    assert found.macro_f1.value == pytest.approx(wanted.macro_f1)


def test_both_figures_are_in_their_intervals_nearly_as_often_as_is_said_and_predictions_narrow_them():
    truth, said = made_up(20_000, 2)
    wanted, predicted = performance(table(truth, said)), said.argmax(axis=1)
    random, inside, widths = np.random.default_rng(3), [], []
    for seed in range(300):
        window = random.integers(0, len(truth), 3000)
        asked = answers(truth[window[:150]], said[window[:150]])
        found = audited_performance(asked, stored_predictions(said[window], predicted[window]), seed)
        alone = audited_performance(asked, seed=seed)
        pairs = ((found.accuracy, wanted.accuracy), (found.macro_f1, wanted.macro_f1))
        inside.append([one.low <= value <= one.high for one, value in pairs])
        widths.append([one.macro_f1.high - one.macro_f1.low for one in (found, alone)])
    # The promised answers doubt probabilities that are right here: a little less than 95 % is the price.
    assert np.mean(inside, axis=0).min() > 0.88
    assert np.mean(widths, axis=0)[0] < 0.97 * np.mean(widths, axis=0)[1]


def test_answers_that_another_adapter_had_drawn_are_weighted_back():
    """An adapter replaced the one whose labels the draw preferred: inside its labels the weights count."""
    truth, said = made_up(60_000, 4)
    rare = truth < 2  # the other adapter was always right
    kept = rare | (np.random.default_rng(5).random(len(truth)) < 0.1)
    weights = np.where(rare, 0.1, 1.0)[kept]
    wanted = performance(table(truth, said))
    stored = stored_predictions(said, said.argmax(axis=1))
    weighted = audited_performance(answers(truth[kept], said[kept], weights), stored)
    forgotten = audited_performance(answers(truth[kept], said[kept]), stored)
    assert weighted.accuracy.value == pytest.approx(wanted.accuracy, abs=0.01)
    assert weighted.macro_f1.value == pytest.approx(wanted.macro_f1, abs=0.01)
    assert abs(forgotten.accuracy.value - wanted.accuracy) > 0.05


def test_few_answers_without_a_mistake_do_not_make_the_adapter_perfect():
    said = np.tile([0.001, 0.001, 0.998], (20, 1))
    found = audited_performance(answers(np.full(20, 2), said), stored_predictions(said, said.argmax(axis=1)))
    assert found.accuracy.value == found.accuracy.high == 1
    assert found.accuracy.low < 0.95


def test_a_predicted_label_without_an_answer_is_as_the_probabilities_promise():
    said = np.array([[0.9, 0.1], [0.2, 0.8]])
    stored = stored_predictions(np.repeat(said, [10, 90], axis=0), np.repeat([0, 1], [10, 90]))
    asked = AuditAnswers(np.ones(9, np.int64), np.ones(9, np.int64), np.tile(said[1], (9, 1)), np.ones(9))
    found = audited_performance(asked, stored)
    assert found.accuracy.value == pytest.approx(0.1 * 0.9 + 0.9)


def test_stored_predictions_of_unequal_days_count_as_many_reviews_as_they_speak_for():
    said = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    found = stored_predictions(said, np.array([0, 1, 1]), np.array([10.0, 1.0, 3.0]))
    assert found.counts / found.counts.sum() == pytest.approx([10 / 14, 4 / 14])
    np.testing.assert_allclose(found.promised, [[0.9, 0.1], [0.35, 0.65]])
    assert found.counts.sum() < 3


def test_without_an_answer_there_is_nothing_to_say():
    with pytest.raises(ValueError, match="Without an audit answer"):
        audited_performance(answers(np.empty(0, np.int64), np.empty((0, 3))))
