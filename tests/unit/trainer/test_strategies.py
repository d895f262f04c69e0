"""What every strategy keeps, and what each alone promises."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reviews.errors import WrongUse
from trainer.selection.pool import Pool
from trainer.selection.strategies import (
    STRATEGIES,
    balanced_draw,
    balanced_probabilities,
    configured_strategy,
    draw_probabilities,
    label_descriptions,
    power_margin,
)
from trainer.settings import SelectionSettings, StrategyName

BY_NAME = pytest.mark.parametrize("name", STRATEGIES)


def make_pool(
    rows: int, labels: int = 3, seed: int = 0, embedded: float = 0.5, weights: bool = False
) -> Pool:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(labels, 0.4), rows).astype(np.float32)
    embedding_of = np.full(rows, -1, np.int64)
    has_one = random.random(rows) < embedded
    embedding_of[has_one] = random.permutation(has_one.sum())
    return Pool(
        records=random.permutation(rows).astype(np.int64) + (7 << 40),
        probabilities=probabilities,
        published_at=random.integers(1_700_000_000, 1_710_000_000, rows),
        embeddings=random.standard_normal((has_one.sum(), 4)).astype(np.float16),
        embedding_of=embedding_of,
        weights=random.random(rows) + 1e-3 if weights else None,
    )


def chosen(name: StrategyName, pool: Pool, count: int, seed: int = 0) -> np.ndarray:
    return STRATEGIES[name](pool, count, np.random.default_rng(seed))


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    rows, labels = draw(st.integers(0, 40)), draw(st.integers(1, 4))
    # Few different values, for many ties, and rows in which one label has it all.
    scores = draw(
        arrays.arrays(np.float32, (rows, labels), elements=st.sampled_from([0.0, 1.0, 2.0, 1e-6]))
    ) + np.float32(1e-30)
    embedded = draw(arrays.arrays(np.bool_, rows))
    embedding_of = np.where(embedded, np.cumsum(embedded) - 1, -1)
    vectors = draw(
        arrays.arrays(np.float16, (int(embedded.sum()), 2), elements=st.sampled_from([0.0, 1.0, -3.0]))
    )
    weights = draw(st.none() | arrays.arrays(np.float64, rows, elements=st.sampled_from([1.0, 0.5, 1e-301])))
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    records = np.arange(rows, dtype=np.int64)
    return Pool(records, probabilities, records * 3600, vectors, embedding_of, weights=weights)


@BY_NAME
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pool=pools(), count=st.integers(0, 50), seed=st.integers(0, 3))
def test_a_choice_has_as_many_rows_as_asked_or_there_are_each_once(name, pool, count, seed):
    positions = chosen(name, pool, count, seed)
    assert positions.dtype == np.int64
    assert len(positions) == min(count, len(pool))
    assert len(set(positions.tolist())) == len(positions)
    assert set(positions.tolist()) <= set(range(len(pool)))


@BY_NAME
def test_the_same_seed_gives_the_same_choice(name):
    pool = make_pool(500)
    assert chosen(name, pool, 40, seed=3).tolist() == chosen(name, pool, 40, seed=3).tolist()


@pytest.mark.parametrize("name", ["balanced-draw", "power-margin", "class-balanced", "random"])
def test_another_seed_gives_another_draw(name):
    pool = make_pool(500)
    assert chosen(name, pool, 40, seed=3).tolist() != chosen(name, pool, 40, seed=4).tolist()


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "diverse-margin"])
def test_asking_for_more_goes_on_where_asking_for_less_ended(name):
    pool = make_pool(300, weights=True)
    assert chosen(name, pool, 80).tolist()[:30] == chosen(name, pool, 30).tolist()


@BY_NAME
def test_a_strategy_leaves_the_pool_as_it_is(name):
    pool, same = make_pool(200), make_pool(200)
    chosen(name, pool, 20)
    assert np.array_equal(pool.probabilities, same.probabilities)
    assert np.array_equal(pool.embedding_of, same.embedding_of)


@BY_NAME
def test_a_row_that_counts_next_to_nothing_is_not_chosen(name):
    pool = make_pool(200)
    weights = np.where(np.arange(200) < 150, 1.0, 1e-12)
    weighted = Pool(
        pool.records, pool.probabilities, pool.published_at, pool.embeddings, pool.embedding_of, None, weights
    )
    # Half the pool is asked for; of the clusters' candidates, ten times as many, all rows are part.
    count = 5 if name == "diverse-margin" else 100
    assert chosen(name, weighted, count).max() < 150


def two_labels(*first: float) -> Pool:
    probabilities = np.array([[value, 1 - value] for value in first], np.float32)
    return Pool(np.arange(len(first)), probabilities, np.zeros(len(first), np.int64))


@pytest.mark.parametrize("name", ["margin", "entropy"])
def test_the_most_uncertain_comes_first(name):
    assert chosen(name, two_labels(0.9, 0.55, 0.3, 0.0, 1.0), 3).tolist() == [1, 2, 0]


def test_margin_looks_at_two_labels_and_entropy_at_all():
    probabilities = np.array([[0.5, 0.5, 0.0], [0.5, 0.26, 0.24]], np.float32)
    pool = Pool(np.arange(2), probabilities, np.zeros(2, np.int64))
    assert chosen("margin", pool, 1).tolist() == [0]
    assert chosen("entropy", pool, 1).tolist() == [1]


@pytest.mark.parametrize("name", ["margin", "entropy"])
def test_equal_scores_come_in_random_order(name):
    pool = two_labels(*[0.5] * 100)
    assert len({tuple(chosen(name, pool, 5, seed)) for seed in range(20)}) > 10


def test_each_predicted_label_gets_the_same_number_while_it_has_rows():
    probabilities = np.eye(3, dtype=np.float32)[[0] * 90 + [1] * 3 + [2] * 20]
    pool = Pool(np.arange(113), probabilities, np.zeros(113, np.int64))
    predicted = probabilities.argmax(axis=1)[chosen("class-balanced", pool, 23)]
    assert np.bincount(predicted).tolist() == [10, 3, 10]


def test_the_balanced_draw_reaches_each_predicted_label_as_often_but_for_the_uniform_share():
    probabilities = np.eye(3, dtype=np.float32)[[0] * 90 + [1] * 10]  # nobody is said to be of label 2
    pool = Pool(np.arange(100), probabilities, np.zeros(100, np.int64))
    chances = balanced_probabilities(pool, uniform_share=0.2)
    assert chances.sum() == pytest.approx(1)
    assert chances[:90].sum() == pytest.approx(0.2 * 0.9 + 0.8 / 2)
    draws = [np.random.default_rng(seed) for seed in range(2000)]
    first = [int(balanced_draw(pool, 1, random, uniform_share=0.2)[0]) for random in draws]
    assert np.mean(np.array(first) < 90) == pytest.approx(0.58, abs=0.04)


def test_the_balanced_draw_prefers_the_uncertain_of_a_label_only_where_asked_to():
    pool = two_labels(0.95, 0.55, 0.05, 0.45)
    even, by_margin = (balanced_probabilities(pool, 0.0, exponent) for exponent in (0.0, 1.0))
    assert even.tolist() == pytest.approx([0.25] * 4)
    assert by_margin.tolist() == pytest.approx([0.05, 0.45, 0.05, 0.45], abs=1e-6)
    certain = balanced_probabilities(two_labels(1.0, 1.0, 0.0), 0.0, 2.0)
    assert certain.tolist() == pytest.approx([0.25, 0.25, 0.5])


def test_of_ten_knots_of_uncertain_rows_each_sends_one():
    random = np.random.default_rng(1)
    knots = np.repeat(np.arange(10), 10)
    centres = 50 * random.standard_normal((10, 8))
    vectors = (centres[knots] + random.standard_normal((100, 8))).astype(np.float16)
    pool = Pool(
        np.arange(100), np.full((100, 2), 0.5, np.float32), np.zeros(100, np.int64), vectors, np.arange(100)
    )
    # Random starts may miss a knot; by margin alone, ten of a hundred rows meet six or seven of them.
    assert len(set(knots[chosen("diverse-margin", pool, 10)].tolist())) >= 9


def test_rows_without_an_embedding_get_their_share_of_the_places():
    pool = make_pool(1000, embedded=0.7)
    positions = chosen("diverse-margin", pool, 100)  # of all thousand
    assert pool.embedding_of is not None
    is_embedded = pool.embedding_of != -1
    assert is_embedded[positions].sum() == round(100 * is_embedded.mean())
    bare = positions[~is_embedded[positions]]
    ranked = chosen("margin", pool, 1000)
    assert bare.tolist() == ranked[~is_embedded[ranked]][: len(bare)].tolist()


def test_a_pool_without_embeddings_is_refused_by_the_strategy_that_needs_them():
    with pytest.raises(WrongUse, match="needs a pool with embeddings"):
        chosen("diverse-margin", two_labels(0.5, 0.6), 1)


def test_the_default_draws_a_share_uniformly_and_the_rest_by_the_square_of_the_uncertainty():
    pool = two_labels(0.5, 0.75, 1.0)  # margins 0, 0.5 and 1
    expected = 0.2 / 3 + 0.8 * np.array([1, 0.25, 0]) / 1.25
    assert np.allclose(draw_probabilities(pool), expected)


def test_the_default_includes_rows_as_often_as_successive_draws_would():
    pool = two_labels(0.5, 0.6, 0.75, 0.9, 1.0, 1.0)
    times, count = 4000, 3
    random = np.random.default_rng(5)
    ours, reference = np.zeros(6), np.zeros(6)
    probabilities = draw_probabilities(pool)
    for _ in range(times):
        ours[power_margin(pool, count, random)] += 1
        # numpy draws one after the other without replacement, in proportion to those still there.
        reference[random.choice(6, count, replace=False, p=probabilities)] += 1
    spread = np.sqrt(2 * 0.25 / times)  # of the difference of two shares, at most
    assert np.abs(ours - reference).max() / times < 4.5 * spread
    assert (np.diff(ours[:5]) < 0).all()  # and more certain rows are rarer


def test_the_first_of_the_power_draw_follows_its_probabilities():
    pool, random = two_labels(0.5, 0.6, 0.75, 1.0), np.random.default_rng(6)
    first = np.bincount([power_margin(pool, 1, random)[0] for _ in range(4000)], minlength=4) / 4000
    assert np.abs(first - draw_probabilities(pool)).max() < 4.5 * np.sqrt(0.25 / 4000)


@pytest.mark.parametrize("name", ["balanced-draw", "power-margin"])
def test_the_settings_reach_the_draws(name):
    pool = two_labels(*[0.5] * 20, *[1.0] * 200)
    only_uncertain = configured_strategy(SelectionSettings(strategy=name, uniform_share=0.0, exponent=2.0))
    assert only_uncertain(pool, 20, np.random.default_rng(0)).max() < 20
    uniform = configured_strategy(SelectionSettings(strategy=name, uniform_share=1.0))
    assert uniform(pool, 20, np.random.default_rng(0)).max() >= 20


def test_where_the_model_is_sure_of_everything_the_power_draw_is_at_random():
    pool = two_labels(*[1.0] * 50)
    assert np.allclose(draw_probabilities(pool), 1 / 50)


def test_every_strategy_that_can_be_set_is_there():
    assert set(STRATEGIES) == set(StrategyName.__args__)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"published_at": np.zeros(2, np.int64)}, "not all 3 long"),
        ({"probabilities": np.full((3, 2), np.nan, np.float32)}, "Record 10 has a probability"),
        ({"probabilities": np.zeros((3, 0), np.float32)}, "a label at least"),
        ({"embeddings": np.zeros((1, 2), np.float16)}, "embedding_of as well"),
        ({"weights": np.array([1.0, 0.0, 1.0])}, "positive, finite"),
    ],
)
def test_a_pool_that_does_not_fit_together_is_refused(columns, said):
    sound = {
        "records": np.arange(10, 13),
        "probabilities": np.full((3, 2), 0.5, np.float32),
        "published_at": np.zeros(3, np.int64),
    }
    Pool(**sound)
    with pytest.raises(WrongUse, match=said):
        Pool(**(sound | columns))


def test_label_descriptions_takes_the_most_similar_of_each_label_whatever_all_rows_resemble():
    random = np.random.default_rng(3)
    logits = random.standard_normal((1_000, 3)) + np.array([-6.0, -3.0, 4.0])  # a stream of the last label
    logits[:20, 0] += 3.5  # and twenty of the first, that no probability of one half tells
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    pool = Pool(np.arange(1_000), probabilities.astype(np.float32), np.zeros(1_000, np.int64))
    chosen = label_descriptions(pool, 30, np.random.default_rng(0), uniform_share=0.0)
    assert np.isin(chosen, np.arange(20)).sum() >= 8


def test_label_descriptions_leaves_the_uniform_share_to_chance():
    pool = make_pool(5_000)
    alone = label_descriptions(pool, 600, np.random.default_rng(1), uniform_share=0.0)
    mixed = label_descriptions(pool, 600, np.random.default_rng(1), uniform_share=0.4)
    assert 0.5 < np.isin(mixed, alone).mean() < 0.75
