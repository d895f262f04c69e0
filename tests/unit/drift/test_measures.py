"""Each measure says nothing of two halves of one stream, and something of two streams."""

import dataclasses

import numpy as np
import pytest

from drift.divergence import (
    homogeneity_p_value,
    jensen_shannon_distance,
    jensen_shannon_terms,
    kolmogorov_smirnov,
    population_stability_index,
)
from drift.evaluation import change_point
from drift.measures import class_shares, confidence, language_share, text_length, unknown_words, vocabulary
from drift.performance import calibrate, expected_performance
from drift.strata import Pair
from drift.vectors import classifier_test, mean_discrepancy, vectors
from drift.verdict import Finding, holm, judge
from drift.words import KnownWords, language_of
from tests.unit.drift.made_up import clothes, films, rows_of, with_embeddings

REFERENCE = clothes(600)
SAME = Pair.of(REFERENCE, clothes(400, first=600, seed=1))
OTHER = Pair.of(REFERENCE, films(400, first=600, positive=0.3, seed=1))


@pytest.mark.parametrize("measure", [text_length, unknown_words, vocabulary, class_shares])
def test_a_measure_tells_another_stream_from_more_of_the_same(measure):
    same, other = measure(SAME), measure(OTHER)
    assert same.p_value > 0.005
    assert same.effect < same.floor
    assert other.p_value < 0.001
    assert other.effect > 2 * other.floor


def test_vectors_are_of_one_stream_or_of_two():
    for pair, is_other in ((SAME, False), (OTHER, True)):
        both = vectors(pair, 200)
        assert both.kind == "words"
        assert both.reference.shape == both.window.shape
        findings = (mean_discrepancy(both), classifier_test(both).finding)
        assert [found.p_value < 0.005 for found in findings] == [is_other, is_other]


def test_embeddings_are_preferred_where_enough_were_kept():
    random = np.random.default_rng(0)
    reference, window = (
        with_embeddings(rows, random.normal(shift, 1, (300, 8)))
        for rows, shift in ((clothes(600), 0), (clothes(400, first=600), 1))
    )
    both = vectors(Pair.of(reference, window), 200)
    assert both.kind == "embeddings"
    assert np.allclose(np.linalg.norm(both.window, axis=1), 1, atol=1e-5)
    assert set(both.window_rows.tolist()) <= set(window.embedded.tolist())
    separation = classifier_test(both)
    assert separation.finding.effect > 0.2
    assert separation.window_scores.mean() > separation.reference_scores.mean()


def test_confidence_moves_with_the_probabilities_alone():
    window = clothes(400, first=600, seed=2)
    unsure = np.where(window.probabilities > 0.5, 0.55, 0.45).astype(np.float32)
    assert confidence(SAME).effect < 0.1
    assert confidence(Pair.of(REFERENCE, dataclasses.replace(window, probabilities=unsure))).effect > 0.5


def test_the_stability_index_of_a_shift_by_one_sigma_is_about_one_however_many_bins_are_empty():
    random = np.random.default_rng(0)
    edges = np.linspace(-8, 8, 161)
    one, other = (np.histogram(random.normal(mean, 1, 5000), edges)[0] for mean in (0, 1))
    assert 0.8 < population_stability_index(one.astype(float), other.astype(float)) < 1.5


def test_jensen_shannon_is_0_for_the_same_and_1_for_disjoint_counts_and_its_terms_add_up():
    one, other = np.array([10.0, 5.0, 0.0]), np.array([0.0, 0.0, 7.0])
    assert jensen_shannon_distance(one, one * 3) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon_distance(one, other) == pytest.approx(1)
    assert jensen_shannon_terms(one, other).sum() == pytest.approx(1)


def test_kolmogorov_smirnov_agrees_with_scipy_where_weights_are_equal():
    from scipy.stats import ks_2samp

    random = np.random.default_rng(3)
    one, other = random.normal(size=400), random.normal(0.2, size=300)
    statistic, p_value = kolmogorov_smirnov(one, other, np.full(400, 1 / 400))
    expected = ks_2samp(one, other, method="asymp")
    assert statistic == pytest.approx(expected.statistic)
    assert p_value == pytest.approx(expected.pvalue, rel=0.3)


def test_homogeneity_agrees_with_scipy():
    from scipy.stats import chi2_contingency

    one, other = np.array([30.0, 50.0, 20.0]), np.array([40.0, 30.0, 30.0])
    expected = chi2_contingency(np.stack([one, other]), correction=False)
    assert homogeneity_p_value(one, other) == pytest.approx(expected.pvalue)
    assert homogeneity_p_value(np.array([5.0, 0.0]), np.array([9.0, 0.0])) == 1


def test_p_values_of_the_discrepancy_are_spread_evenly_without_drift():
    found = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        rows = with_embeddings(clothes(600, seed=seed), random.normal(size=(400, 4)))
        pair = Pair.of(rows.take(np.arange(300)), rows.take(np.arange(300, 600)), seed)
        found.append(mean_discrepancy(vectors(pair, 60), seed).p_value)
    assert 0.3 < np.mean(found) < 0.7
    assert np.mean(np.array(found) < 0.1) < 0.3


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The dress is lovely and it was not too long.", "English"),
        ("Das Kleid ist sehr schön und es passt mir.", "German"),
        ("La robe est très belle et elle me va bien, mais trop longue.", "French"),
        ("El vestido es muy bonito y me queda bien, pero es largo.", "Spanish"),
        ("Платье очень красивое", "Cyrillic"),
        ("これはとても良い服です", "Kana"),
        ("这件衣服很好看", "Han"),
        ("Wow!!!", None),
        ("", None),
    ],
)
def test_a_language_shows_in_its_small_words_or_its_script(text, language):
    assert language_of(text) == language


def test_another_language_shows_in_the_shares():
    german = [
        {"text": "Das Kleid ist schön und es passt.", "product": "dress-1", "source": "shop"}
        for _ in range(100)
    ]
    window = rows_of(german, first=600)
    assert language_share(Pair.of(REFERENCE, window)).effect > 0.9
    assert language_share(SAME).effect < 0.05


def test_no_reference_text_is_held_against_itself():
    texts = ["alpha beta", "alpha gamma", "beta alpha"]
    words = KnownWords(texts)
    assert words.unknown_shares(["alpha beta gamma"]).tolist() == [pytest.approx(1 / 3)]
    assert words.unknown_shares(texts, of_reference=True).tolist() == [0.5, 0.5, 0.5]
    assert words.unknown_shares(["", "123"]).tolist() == [0.0, 0.0]


def test_expected_performance_is_the_true_one_where_labels_follow_the_probabilities():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet([1, 1, 3], 20_000)
    truth = (random.random((20_000, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    predicted = probabilities.argmax(axis=1)
    expected = expected_performance(probabilities, predicted)
    assert expected.accuracy == pytest.approx((predicted == truth).mean(), abs=0.01)
    assert expected.macro_f1 == pytest.approx(_macro_f1(truth, predicted), abs=0.01)


def _macro_f1(truth, predicted):
    scores = []
    for label in np.unique(truth):
        hits = ((truth == label) & (predicted == label)).sum()
        scores.append(2 * hits / ((truth == label).sum() + (predicted == label).sum()))
    return np.mean(scores)


def test_calibration_learns_the_mix_of_the_stream_from_audit_labels():
    random = np.random.default_rng(1)
    fair = random.dirichlet([1, 1], 4000)  # right in a balanced world
    mixed = fair * [0.1, 0.9]
    true = mixed / mixed.sum(axis=1, keepdims=True)  # right in the stream's
    truth = (random.random(4000) < true[:, 1]).astype(np.int64)
    unknown = np.where(np.arange(4000) % 10 == 0, truth, -1)
    found = calibrate(fair, unknown)
    assert found.labels == 400
    assert np.abs(found.apply(fair) - true).mean() < 0.05 < np.abs(fair - true).mean()
    nothing = calibrate(fair, np.where(np.arange(4000) < 20, truth, -1))
    assert np.allclose(nothing.apply(fair), fair)


def test_rows_that_were_drawn_ten_times_as_often_calibrate_as_if_they_were_not():
    random = np.random.default_rng(4)
    said = random.dirichlet([1, 1], 6000)
    truth = (random.random(6000) < said[:, 1] * 0.5 + 0.1).astype(np.int64)
    often = truth == 1  # the worst draw: by what people answer
    kept = often | (random.random(6000) < 0.1)
    weights = np.where(often, 0.1, 1.0)
    even = calibrate(said, truth)
    weighted = calibrate(said[kept], truth[kept], weights[kept])
    forgotten = calibrate(said[kept], truth[kept])
    assert np.abs(weighted.apply(said) - even.apply(said)).mean() < 0.02
    assert np.abs(forgotten.apply(said) - even.apply(said)).mean() > 0.2


def test_a_change_is_found_where_it_is():
    random = np.random.default_rng(0)
    series = np.concatenate([random.normal(0, 1, 300), random.normal(1, 1, 200)])
    assert abs(change_point(series) - 300) < 25
    assert change_point(np.array([1.0])) == 0


def test_holm_agrees_with_its_definition_and_all_together_keep_the_rate():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    random = np.random.default_rng(0)
    alarms = [min(holm(random.random(8).tolist())) <= 0.05 for _ in range(2000)]
    assert 0.03 < np.mean(alarms) < 0.07


def test_a_tiny_effect_is_no_drift_however_sure():
    sure = Finding("m", "texts", 0.01, 0.1, 1e-30, 0, 0, "")
    assert not judge([sure], 0.01)[0].is_drift
