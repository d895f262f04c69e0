"""What is left out of a strategy's choice, what age does to it, and how the audit slice is drawn."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reviews.errors import WrongUse
from reviews.slices import SliceShares
from trainer.selection.choice import as_labels_come, choose, distinct, recency_weights
from trainer.selection.pool import Pool
from trainer.selection.strategies import STRATEGIES
from trainer.settings import SelectionSettings

DAY = 86_400
SHARES = SliceShares(audit=0.3)


def make_pool(rows: int, texts: Sequence[str] | None = None, age_days: Sequence[float] = ()) -> Pool:
    random = np.random.default_rng(2)
    probabilities = random.dirichlet(np.ones(3), rows).astype(np.float32)
    ages = np.array(age_days or [0.0] * rows)
    records = np.arange(rows, dtype=np.int64) + 1000
    by_record = dict(zip(records.tolist(), texts or [], strict=bool(texts)))
    return Pool(
        records,
        probabilities,
        (1_700_000_000 - ages * DAY).astype(np.int64),
        embeddings=random.standard_normal((rows, 4)).astype(np.float16),
        embedding_of=np.arange(rows),
        texts_of=(lambda wanted: [by_record[record] for record in wanted.tolist()]) if texts else None,
    )


def a_text(number: int, ending: str = "") -> str:
    """Texts of different numbers share no pair of words."""
    return " ".join(f"w{number}x{place}" for place in range(12)) + ending


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.integers(0, 6), max_size=40),
    count=st.integers(0, 12),
    name=st.sampled_from(sorted(STRATEGIES)),
    seed=st.integers(0, 5),
)
def test_a_choice_is_as_large_as_asked_or_as_there_are_different_texts(kinds, count, name, seed):
    texts = [a_text(kind, f" {number}") for number, kind in enumerate(kinds)]
    if not texts:
        return
    pool = make_pool(len(texts), texts)
    chosen = choose(pool, count, SelectionSettings(strategy=name), seed)
    said = [kinds[choice.record - 1000] for choice in chosen]
    assert len(said) == min(count, len(set(kinds)))
    assert len(set(said)) == len(said)
    assert chosen == choose(pool, count, SelectionSettings(strategy=name), seed)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_priorities_are_numbers_that_fall_evenly_from_one(name):
    chosen = choose(make_pool(50, [a_text(n) for n in range(50)]), 4, SelectionSettings(strategy=name), 0)
    assert [choice.priority for choice in chosen] == [1.0, 0.75, 0.5, 0.25]
    assert {(choice.strategy, choice.reason) for choice in chosen} == {(name, "uncertain")}


def test_an_empty_pool_gives_an_empty_choice():
    pool = Pool(np.empty(0, np.int64), np.empty((0, 3), np.float32), np.empty(0, np.int64), texts_of=list)
    for name in set(STRATEGIES) - {"diverse-margin"}:
        assert choose(pool, 10, SelectionSettings(strategy=name, half_life_days=3), 0) == []


def test_texts_that_are_known_are_not_chosen_again():
    texts = [a_text(number, " again") for number in range(20)]
    known = [a_text(number, " before") for number in range(15)]
    chosen = choose(make_pool(20, texts), 10, SelectionSettings(), 0, known)
    assert sorted(choice.record - 1000 for choice in chosen) == [15, 16, 17, 18, 19]


def test_near_duplicates_stay_where_that_is_asked():
    texts = [a_text(1)] * 20
    kept = SelectionSettings(skip_near_duplicates=False)
    assert len(choose(make_pool(20, texts), 10, kept, 0)) == 10
    assert len(choose(make_pool(20, texts), 10, SelectionSettings(), 0)) == 1


def test_the_better_of_two_near_duplicates_is_chosen():
    texts = [a_text(number // 2, f" {number % 2}") for number in range(20)]
    pool = make_pool(20, texts)
    every = choose(pool, 20, SelectionSettings(strategy="margin", skip_near_duplicates=False), 0)
    best_of_pairs: dict[int, int] = {}
    for choice in every:
        best_of_pairs.setdefault((choice.record - 1000) // 2, choice.record)
    chosen = choose(pool, 10, SelectionSettings(strategy="margin"), 0)
    assert [choice.record for choice in chosen] == list(best_of_pairs.values())


def test_a_stream_of_one_template_is_looked_at_within_bounds():
    looked_at: list[int] = []

    def texts_of(records: np.ndarray) -> list[str]:
        looked_at.append(len(records))
        return ["always the same words"] * len(records)

    base = make_pool(10_000)
    pool = Pool(base.records, base.probabilities, base.published_at, texts_of=texts_of)
    assert len(choose(pool, 10, SelectionSettings(), 0)) == 1
    assert looked_at == [10, 10, 20, 40, 80]


def test_a_pool_without_texts_is_refused_where_near_duplicates_are_left_out():
    with pytest.raises(WrongUse, match="has none"):
        choose(make_pool(5), 2, SelectionSettings(), 0)


def test_of_chains_of_near_duplicates_the_first_stays():
    assert distinct(["a b c d e f g h", "x y", "a b c d e f g i", "A, b c d e f g h!", "z"]) == [0, 1, 4]
    assert distinct(["x y", "z"], known=["X y."]) == [1]
    assert distinct([]) == []


def test_a_half_life_halves():
    pool = make_pool(4, age_days=[0, 3, 6, 1e6])
    weights = recency_weights(pool, 3)
    assert weights is not None
    assert weights[:3].tolist() == [1, 0.5, 0.25]
    assert weights[3] > 0
    assert recency_weights(pool, None) is None


def test_a_draw_takes_recent_reviews_more_often():
    ages = [0.0] * 100 + [10.0] * 100
    pool = make_pool(200, age_days=ages)
    plain = SelectionSettings(strategy="random", skip_near_duplicates=False)
    recent = plain.model_copy(update={"half_life_days": 5.0})
    old = [
        sum(choice.record >= 1100 for seed in range(50) for choice in choose(pool, 10, setting, seed)) / 500
        for setting in (plain, recent)
    ]
    assert 0.4 < old[0] < 0.6
    assert 0.12 < old[1] < 0.3  # a fifth: four recent ones for an old one


@pytest.mark.parametrize("name", ["margin", "entropy"])
def test_an_old_review_has_to_be_as_much_more_uncertain_as_it_counts_less(name):
    probabilities = np.array([[0.5, 0.5], [0.8, 0.2]], np.float32)
    published_at = np.array([0, 5 * DAY])
    pool = Pool(np.arange(2), probabilities, published_at)
    for half_life_days, first in ((20.0, 0), (1.0, 1)):
        asked = SelectionSettings(strategy=name, half_life_days=half_life_days, skip_near_duplicates=False)
        assert choose(pool, 1, asked, 0)[0].record == first


@pytest.mark.parametrize(
    ("is_zero_shot", "labels", "strategy"),
    [
        (True, 0, "label-descriptions"),
        (True, 99, "label-descriptions"),
        (True, 100, "margin"),
        (False, 0, "margin"),
    ],
)
def test_label_descriptions_lead_the_first_draws_of_a_zero_shot_adapter_alone(is_zero_shot, labels, strategy):
    asked = SelectionSettings(strategy="margin", first_labels=100, uniform_share=0.3)
    found = as_labels_come(asked, labels, is_zero_shot=is_zero_shot)
    assert found == asked.model_copy(update={"strategy": strategy})
