"""Seasons are no drift; what moved is named; the parts of a shift are found."""

import dataclasses

import numpy as np
import pytest

from drift.attribution import choose_to_label
from drift.evaluation import evaluate, unexplained
from drift.measures import text_length
from drift.rows import ReviewRows
from drift.settings import DriftSettings
from drift.strata import Pair, Strata, effective_rows, time_of_week
from drift.verdict import Finding, Judged, Subject, moved_subjects
from tests.unit.drift.made_up import clothes, clothing_review, film_review, rows_of, with_embeddings

SETTINGS = DriftSettings(reference_reviews=500, least_reviews=100)


def _night_is_long(count: int, first: int, only_night: bool = False) -> ReviewRows:
    """Reviews of two weeks; at night people write twice as much."""
    random = np.random.default_rng(first)
    messages = [clothing_review(number) for number in range(first, first + count)]
    hours = random.integers(0, 24 * 14, count)
    if only_night:
        hours = hours // 24 * 24 + random.integers(0, 4, count)
    for message, hour in zip(messages, hours, strict=True):
        if hour % 24 < 4:
            message["text"] = message["text"] * 2
    return dataclasses.replace(rows_of(messages, first=first), published=hours.astype(np.int64) * 3600)


def test_blocks_of_the_day_and_the_weekend_are_told_apart():
    saturday = 2 * 86_400  # 3 January 1970
    found = time_of_week(np.array([0, 4 * 3600, saturday, saturday + 23 * 3600], np.int64))
    assert found.tolist() == [0, 1, 6, 11]


def test_a_window_of_nights_is_compared_with_nights():
    reference, window = _night_is_long(3000, 0), _night_is_long(400, 5000, only_night=True)
    plain = Pair(reference, window, np.full(3000, 1 / 3000))
    assert text_length(plain).effect > 0.3  # looks like drift
    like = Pair.of(reference, window)
    assert text_length(like).effect < 0.15
    assert text_length(like).p_value > 0.01


def test_another_mix_of_known_products_is_no_drift_and_an_unknown_product_is_compared_with_all():
    reference = clothes(900)
    only = [number for number in range(2000, 3200) if number % 3 == 0]
    window = rows_of([clothing_review(number) for number in only], first=2000)
    weights = Strata(reference).weights(window)
    chosen = np.array([name == "dress-0" for name in reference.products])
    assert weights[chosen].sum() == pytest.approx(1)
    strange = dataclasses.replace(window, products=["new"] * len(window))
    assert Strata(reference).weights(strange)[~chosen].sum() > 0.5


def test_weights_sum_to_one_and_equal_ones_are_worth_all_rows():
    weights = Strata(clothes(300)).weights(clothes(200, first=300))
    assert weights.shape == (300,)
    assert weights.sum() == pytest.approx(1)
    assert effective_rows(np.full(300, 1 / 300)) == pytest.approx(300)


def test_a_stream_without_drift_is_stable():
    found = evaluate(clothes(500), clothes(300, first=500, seed=5), SETTINGS)
    assert (found.verdict, found.moved, found.attribution, found.since_row) == ("stable", (), None, None)


def test_more_of_one_class_is_no_change_of_texts():
    def classed(count: int, first: int, positive: float) -> ReviewRows:
        """Texts that say which class they are of."""
        rows = clothes(count, first=first, positive=positive, seed=first)
        tails = (" I sent it back, what a shame and a waste.", " I adore it.")
        texts = [text + tails[label] for text, label in zip(rows.texts, rows.labels.tolist(), strict=True)]
        return dataclasses.replace(rows, texts=texts)

    found = evaluate(classed(700, 0, 0.9), classed(400, 1000, 0.4), SETTINGS)
    assert found.verdict == "drift"
    assert "classes" in found.moved
    assert "texts" not in found.moved
    assert found.within_classes


@pytest.mark.parametrize("seed", range(3))
def test_more_of_one_class_is_no_change_of_texts_where_embeddings_tell_the_classes_apart(seed):
    def embedded(count: int, first: int, positive: float) -> ReviewRows:
        rows = clothes(count, first=first, positive=positive, seed=first + seed)
        noise = np.random.default_rng(first + seed).normal(0, 0.3, (count, 8))
        noise[:, 0] += 2 * rows.labels - 1
        return with_embeddings(rows, noise)

    found = evaluate(embedded(1200, 0, 0.9), embedded(800, 2000, 0.4), SETTINGS)
    assert found.moved == ("classes",)
    assert all("embeddings" in item.finding.measure for item in found.judged[-2:])
    assert not any(item.is_drift for item in found.within_classes)


def test_texts_that_split_round_their_mean_are_other_texts_and_no_other_classes():
    """Only the mean discrepancy sees that what was spread over a ring has become two clouds on it."""

    def embedded(count: int, first: int, *, is_split: bool) -> ReviewRows:
        random = np.random.default_rng(first)
        angle = random.normal(0, 0.4, count) + np.pi * (random.permutation(count) % 2)
        if not is_split:
            angle = random.uniform(0, 2 * np.pi, count)
        ring = np.stack([np.ones(count), np.cos(angle), np.sin(angle)], axis=1)
        return with_embeddings(clothes(count, first=first, seed=first), ring)

    found = evaluate(embedded(600, 0, is_split=False), embedded(500, 1000, is_split=True), SETTINGS)
    moved = {item.finding.measure for item in found.judged if item.is_drift}
    assert moved == {"mean discrepancy (embeddings)"}
    assert found.moved == ("texts",)
    assert any(item.is_drift for item in found.within_classes)


def test_where_class_shares_stay_what_vanishes_within_classes_is_still_a_change_of_texts():
    """Fewer rows are alike within classes: what is then too weak to be seen is no change of classes."""
    found = _judged_as(texts=True, within=False, classes=False)
    assert found == ["texts"]
    assert _judged_as(texts=True, within=False, classes=True) == ["classes"]
    assert _judged_as(texts=True, within=True, classes=True) == ["texts", "classes"]


def _judged_as(*, texts: bool, within: bool, classes: bool) -> list[str]:
    def judged(subject: Subject, is_drift: bool) -> Judged:
        return Judged(Finding("m", subject, 1.0, 0.1, 0.0, 0.0, 0.0, ""), 0.0, is_drift)

    moved = moved_subjects([judged("texts", texts), judged("classes", classes)])
    return list(unexplained(moved, [judged("texts", within)]))


def test_texts_without_any_words_give_no_warning():
    def emoji(count: int, first: int, positive: float) -> ReviewRows:
        rows = clothes(count, first=first, positive=positive, seed=first)
        return dataclasses.replace(rows, texts=["\N{THUMBS UP SIGN}"] * count)

    found = evaluate(emoji(600, 0, 0.9), emoji(400, 600, 0.3), SETTINGS)
    assert found.moved == ("classes",)
    assert found.attribution is not None
    assert found.attribution.clusters == ()


def test_new_texts_are_named_dated_and_their_parts_found():
    messages = [clothing_review(number) for number in range(1000, 1200)]
    messages += [film_review(number) for number in range(200)]
    window = rows_of(messages, first=1000)
    found = evaluate(clothes(600), window, SETTINGS)
    assert found.moved[0] == "texts"
    assert found.since_row is not None
    assert abs(found.since_row - 200) < 20
    parts = found.attribution
    assert parts is not None
    assert {part.name for part in parts.products[:2]} == {"film-0", "film-1"}
    assert parts.sources[0].name == "cinema"
    assert parts.sources[0].share > 0.9
    assert "film" in {part.name for part in parts.words}
    assert parts.new_share == pytest.approx(0.5, abs=0.15)
    new = window.take(np.sort(parts.new_rows))
    assert np.mean([source == "cinema" for source in new.sources]) > 0.85
    sources = dict(zip(window.records.tolist(), window.sources, strict=True))
    assert np.mean([sources[record] == "cinema" for record in found.to_label.tolist()]) > 0.85


def test_few_reviews_are_unknown():
    assert evaluate(clothes(500), clothes(99, first=500), SETTINGS).verdict == "unknown"
    assert evaluate(clothes(500), clothes(0), SETTINGS).verdict == "unknown"


def test_what_to_label_is_spread_over_the_new_texts_and_each_once():
    rows = np.concatenate([np.zeros((90, 2)), np.full((10, 2), 5.0)])
    rows += np.random.default_rng(0).normal(0, 0.01, rows.shape)
    new, records = np.arange(100), np.arange(1000, 1100)
    chosen = choose_to_label(new, records, rows, 4)
    assert len(set(chosen.tolist())) == 4
    assert {record >= 1090 for record in chosen.tolist()} == {True, False}
    everything = choose_to_label(new[:5], records, np.zeros((5, 2)), 9)
    assert sorted(everything.tolist()) == [1000, 1001, 1002, 1003, 1004]
