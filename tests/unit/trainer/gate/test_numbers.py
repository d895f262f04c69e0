"""The gate's statistics against numbers worked out by hand or by definition."""

from dataclasses import replace
from itertools import product
from math import comb, exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifier.calibration import expected_calibration_error
from tests.unit.trainer.gate.made_up import differing, evidence
from trainer.gate.evidence import Evidence, stream_weights
from trainer.gate.judge import calibration_gaps, level_of_each, metric_of
from trainer.gate.statistics import (
    alpha_of_attempt,
    better_by_chance,
    chance_of_sum,
    log_stake,
    resampled_sums,
    score,
    tail,
    tallies,
)
from trainer.metrics import evaluate
from trainer.settings import GateSettings


def test_the_sign_test_counts_the_tosses_of_a_fair_coin():
    assert tail(5, 5) == pytest.approx(1 / 32)
    assert tail(3, 4) == pytest.approx(5 / 16)
    assert tail(0, 7) == 1
    assert tail(600, 1000) == pytest.approx(sum(comb(1000, k) for k in range(600, 1001)) / 2**1000)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_both_metrics_are_those_of_the_evaluation(rows):
    truth, said = np.array(rows).T
    sums = tallies(truth, said, 3).sum(axis=0)
    expected = evaluate(np.eye(3)[said], truth)
    assert score(sums, len(rows), "macro_f1") == pytest.approx(expected["macro_f1"])
    assert score(sums, len(rows), "accuracy") == pytest.approx(expected["accuracy"])


def _chance(given_, metric, level=0.01, seed=0):
    before, after = given_.active.argmax(axis=1), given_.candidate.argmax(axis=1)
    return better_by_chance(
        given_.truth,
        before,
        after,
        weights=given_.row_weights,
        labels=2,
        metric=metric,
        level=level,
        seed=seed,
    )


def test_randomization_of_accuracy_is_the_sign_test():
    results = [_chance(differing(80, 12, 4, 4), "accuracy", level=0.001, seed=seed) for seed in range(10)]
    assert results[0][0] == pytest.approx(0.08)
    assert np.mean([chance for _, chance in results]) == pytest.approx(tail(12, 16), rel=0.1)  # 0.0384


def test_five_wins_and_no_loss_are_not_surer_than_one_in_thirty_two():
    # The percentile bootstrap would say 0.007: no resample without any of the five is likely.
    chances = [_chance(differing(95, 5, 0, 0), "macro_f1", level=0.001, seed=seed)[1] for seed in range(10)]
    assert np.mean(chances) == pytest.approx(1 / 32, rel=0.1)


def test_equal_answers_are_never_better():
    assert _chance(differing(100, 0, 0, 0), "macro_f1") == (0, 1)


def test_the_levels_of_all_nights_sum_to_alpha():
    levels = [alpha_of_attempt(attempts, 0.1, 1.5) for attempts in range(10_000)]
    rest = 2 * 10_000**-0.5 * 0.1 / 2.612375  # the integral of what is left
    assert sum(levels) + rest == pytest.approx(0.1, rel=1e-4)
    assert levels[0] == pytest.approx(0.1 / 2.612375, rel=1e-5)
    assert levels == sorted(levels, reverse=True)
    assert alpha_of_attempt(1, 0.05, 2.0) == pytest.approx(0.05 * 6 / np.pi**2 / 4)


def test_parts_that_cannot_reach_the_level_do_not_make_it_stricter():
    assert level_of_each([2**-10, 2**-20, 2**-30], 0.05) == pytest.approx(0.05 / 3)
    assert level_of_each([2**-10, 2**-20, 2**-30] + [2**-3] * 500, 0.05) == pytest.approx(0.05 / 3)
    assert level_of_each([], 0.05) == 0.05


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 1), st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_the_calibration_error_is_the_classifiers(rows):
    sure, truth, said = map(list, zip(*rows, strict=True))
    made = evidence(truth, None, said, candidate_sure=sure)
    gaps = calibration_gaps(made, made.candidate)
    error = np.abs(gaps.sum(axis=0)).sum() / len(truth)
    assert error == pytest.approx(expected_calibration_error(made.candidate, made.truth), abs=1e-9)


def test_resampled_sums_have_the_mean_and_the_spread_of_the_rows():
    column = np.random.default_rng(1).normal(2, 3, 400)
    sums = resampled_sums(np.column_stack([column, np.ones(400)]), 4000, seed=2)
    assert sums.shape == (4000, 2)
    assert (sums[:, 1] == 400).all()
    assert sums[:, 0].mean() / 400 == pytest.approx(column.mean(), abs=0.02)
    assert sums[:, 0].std() / 400 == pytest.approx(column.std() / 20, rel=0.05)


def test_a_stake_on_losses_grows_as_the_integral_says():
    steps = (np.arange(100_000) + 0.5) / 200_000 + 0.5
    for losses, wins in ((7, 0), (3, 5), (40, 12), (0, 0)):
        integral = np.mean((2 * steps) ** losses * (2 - 2 * steps) ** wins)
        assert exp(log_stake(np.ones(losses), np.ones(wins))) == pytest.approx(integral, rel=1e-6)


def test_a_stake_on_losses_is_a_number_however_good_the_adapter_is():
    assert -20 < log_stake(np.ones(0), np.ones(5000)) < 0
    assert log_stake(np.ones(5000), np.ones(0)) > 3000


def test_a_stake_on_losses_is_a_fair_bet_on_a_fair_coin():
    for rows in (1, 5, 40):
        fair = sum(
            comb(rows, lost) * exp(log_stake(np.ones(lost), np.ones(rows - lost))) for lost in range(rows + 1)
        )
        assert fair / 2**rows == pytest.approx(1)


def test_a_weighted_sign_test_is_the_exact_one_where_all_rows_weigh_the_same():
    assert chance_of_sum(np.full(9, 0.3), np.full(2, 0.3)) == tail(9, 11)
    assert chance_of_sum(np.empty(0), np.empty(0)) == 1


def test_a_weighted_sign_test_throws_the_coins_of_all_ways_that_rows_may_differ():
    losses, wins = np.array([1.0, 1.0, 0.5, 0.2]), np.array([0.5])
    ways = [np.dot(coins, [*losses, *wins]) for coins in product((0, 1), repeat=5)]
    exactly = np.mean([lost >= losses.sum() - 1e-9 for lost in ways])
    assert chance_of_sum(losses, wins) == pytest.approx(exactly, abs=0.01)


def test_many_light_losses_are_no_more_than_a_few_heavy_wins():
    assert chance_of_sum(np.full(30, 0.1), np.full(3, 1.0)) > 0.4
    assert chance_of_sum(np.full(30, 1.0), np.full(3, 0.1)) < 0.001


def test_audit_rows_that_were_drawn_more_often_stand_for_as_many_reviews_as_they_are():
    random = np.random.default_rng(8)
    predicted = np.repeat([0, 1], [2000, 18_000])
    chance = np.where(predicted == 0, 0.2, 0.02)
    drawn = random.random(20_000) < chance
    is_audit = np.concatenate([np.ones(drawn.sum(), np.bool_), np.zeros(800, np.bool_)])
    labels = np.concatenate([predicted[drawn], np.repeat([0, 1], 400)])
    draw_weights = np.where(is_audit & (labels == 0), 0.1, 1.0)
    margin = random.random(len(labels))
    weights = stream_weights(is_audit, labels, margin, draw_weights)
    assert weights[labels == 0].sum() / weights.sum() == pytest.approx(0.1, abs=0.02)
    forgotten = stream_weights(is_audit, labels, margin)
    assert forgotten[labels == 0].sum() / forgotten.sum() > 0.4


def test_too_few_audit_rows_keep_the_weights_of_their_draw():
    is_audit = np.arange(60) < 20
    weights = stream_weights(is_audit, np.zeros(60, np.int64), np.zeros(60), np.where(is_audit, 0.5, 1.0))
    assert weights[0] / weights[-1] == pytest.approx(0.5)


def test_weights_give_the_test_rows_the_margins_of_the_audit_rows():
    random = np.random.default_rng(3)
    audit, drawn = random.random(400), random.random(1600) ** 3  # the queue prefers small margins
    margin, is_audit = np.concatenate([audit, drawn]), np.arange(2000) < 400
    weights = stream_weights(is_audit, np.zeros(2000, np.int64), margin)
    assert weights.mean() == pytest.approx(1)
    assert np.average(margin, weights=weights) == pytest.approx(audit.mean(), abs=0.03)
    assert margin.mean() < audit.mean() - 0.15


def test_weights_give_the_test_rows_the_labels_of_the_audit_rows():
    random = np.random.default_rng(4)
    audit = random.choice(3, 300, p=[0.1, 0.02, 0.88])
    drawn = random.choice(3, 900)  # evenly over the labels
    predicted, is_audit = np.concatenate([audit, drawn]), np.arange(1200) < 300
    weights = stream_weights(is_audit, predicted, random.random(1200))
    shares = np.bincount(predicted, weights=weights) / 1200
    np.testing.assert_allclose(shares, np.bincount(audit) / 300, atol=0.005)


def test_a_label_that_no_audit_row_has_hardly_counts():
    predicted = np.repeat([0, 1, 2, 2], [100, 100, 30, 70])
    is_audit = np.tile([True, False], 150) & (predicted < 2)
    weights = stream_weights(is_audit, predicted, np.linspace(0, 1, 300))
    assert 0 < weights[predicted == 2].sum() / 300 < 0.01


def test_the_fewer_audit_rows_there_are_the_less_they_weigh():
    """One row of ten is predicted rare in the stream, as the audit says; the queue drew one of two."""
    shares = []
    for audited in (0, 5, 20, 200):
        predicted = np.concatenate([np.arange(audited) % 10 > 0, np.arange(400) % 2 > 0]).astype(np.int64)
        is_audit = np.arange(len(predicted)) < audited
        weights = stream_weights(is_audit, predicted, np.zeros(len(predicted)))
        assert (weights is None) == (audited == 0)
        counting = np.ones(len(predicted)) if weights is None else weights
        shares.append(counting[predicted == 0].sum() / counting.sum())
    assert shares == pytest.approx([0.5, 2.5 / 8, 3.5 / 23, 21.5 / 203], abs=0.005)
    assert shares == sorted(shares, reverse=True)


def test_with_few_audit_rows_a_gain_where_the_queue_drew_most_is_no_gain_on_the_stream():
    predicted = np.repeat([0, 1, 0, 1], [60, 60, 1, 23])
    is_audit = np.arange(144) >= 120
    truth = predicted.copy()
    truth[:30] = 1  # half of what is called rare is not
    candidate = predicted.copy()
    candidate[:15] = 1  # it has learnt that of some, and loses as many of what is frequent in the stream
    candidate[60:72] = 0
    sure = np.eye(2)
    as_drawn = Evidence(truth, sure[predicted], sure[candidate], ("rare", "frequent"), is_audit)
    weights = stream_weights(is_audit, predicted, np.zeros(144))
    gains = []
    for shown in (as_drawn, replace(as_drawn, weights=weights)):
        new, old = (metric_of(shown, said, GateSettings()) for said in (candidate, predicted))
        gains.append(new - old)
    assert gains[0] > 0 > gains[1]


def test_rows_of_one_cell_get_no_weights():
    alike = np.zeros(200, np.int64)
    assert stream_weights(np.arange(200) < 100, alike, np.zeros(200)) is None
