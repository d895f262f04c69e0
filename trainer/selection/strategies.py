"""The strategies: which reviews are worth a label. Each is a :data:`trainer.selection.pool.Strategy`.

Lowest margin or greatest entropy first collects label noise: the most uncertain reviews are those whose label
is a matter of taste, and the model may end worse than with a random draw. The draws take the uncertain, or
the rare labels, in proportion; their uniform share keeps a chance for what the model is wrongly sure of
(Beygelzimer, Dasgupta, Langford: Importance Weighted Active Learning, ICML 2009).

Weighted draws without replacement: Efraimidis, Spirakis: Weighted random sampling with a reservoir
(Information Processing Letters 2006): the rows with the smallest ``exponential variate / weight`` are a draw,
one after the other, in proportion to the weights of those still there. The same as the Gumbel top-k trick.
"""

import warnings
from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from reviews.errors import WrongUse
from trainer.selection.pool import (
    NOT_EMBEDDED,
    Floats,
    Indices,
    Pool,
    Strategy,
    entropy_uncertainty,
    margin_uncertainty,
)
from trainer.settings import SelectionSettings, StrategyName

# Rows of weight 0 come last, in random order, and no division overflows.
_SMALLEST_WEIGHT = 1e-150
PREFILTER = 10  # so many times the asked number of rows are clustered (Zhdanov's beta)
UNIFORM_SHARE = 0.2
POWER_EXPONENT = 2.0
BALANCED_EXPONENT = 0.0
_EXPONENTS: Mapping[StrategyName, float] = {
    "balanced-draw": BALANCED_EXPONENT,
    "power-margin": POWER_EXPONENT,
}


def draw_order(weights: Floats, random: np.random.Generator) -> Floats:
    """float64 (rows): the moment at which each row is drawn; a draw of any size takes the smallest.

    Args:
        weights: float64 (rows), not negative, finite, at most about 1.
        random: What is drawn with: one variate a row.
    """
    return random.standard_exponential(len(weights)) / np.maximum(weights, _SMALLEST_WEIGHT)


def weighted_draw(weights: Floats, count: int, random: np.random.Generator) -> Indices:
    """int64 (min(count, rows)): positions, in the order in which they are drawn, each once."""
    moments = draw_order(weights, random)
    count = min(count, len(moments))
    if count == 0:
        return np.empty(0, np.int64)
    first = np.argpartition(moments, count - 1)[:count]
    return first[np.argsort(moments[first], kind="stable")].astype(np.int64)


def stratified_draw(strata: Indices, weights: Floats, count: int, random: np.random.Generator) -> Indices:
    """As many of each stratum: rounds through the strata, a drawn row of each, in random order in a round.

    A stratum with too few rows leaves its places to the others.

    Args:
        strata: int64 (rows): the stratum of each row.
        weights: float64 (rows), as in :func:`draw_order`: they count among the rows of one stratum.
        count: How many.
        random: What is drawn with.
    """
    by_stratum = np.lexsort((draw_order(weights, random), strata))
    _, first_at, sizes = np.unique(strata[by_stratum], return_index=True, return_counts=True)
    rounds = np.empty(len(strata), np.int64)
    rounds[by_stratum] = np.arange(len(strata)) - np.repeat(first_at, sizes)
    return np.lexsort((random.random(len(strata)), rounds))[:count].astype(np.int64)


def greatest(pool: Pool, uncertainty: Floats, count: int, random: np.random.Generator) -> Indices:
    """int64 (min(count, rows)): positions of the greatest scores, the greatest first.

    A row's score is its uncertainty times its weight: one that counts half for its age has to be twice as
    uncertain. Rows with the same score come in random order, not in the table's.

    Args:
        pool: The candidates.
        uncertainty: float64 (rows), not negative.
        count: How many.
        random: What ties are broken with.
    """
    scores = uncertainty * pool.counting
    shuffled = random.permutation(len(scores))
    return shuffled[np.argsort(-scores[shuffled], kind="stable")[:count]]


def random_draw(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """Random: a draw in proportion to the pool's weights, whatever the model says. The strategy to beat."""
    return weighted_draw(pool.counting / pool.counting.max(initial=1.0), count, random)


def smallest_margin(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """The rows whose two most probable labels are closest.

    Scheffer, Decomain, Wrobel: Active Hidden Markov Models for Information Extraction (IDA 2001).
    """
    return greatest(pool, margin_uncertainty(pool), count, random)


def greatest_entropy(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """The rows whose probabilities are spread most evenly.

    Lewis, Gale: A Sequential Algorithm for Training Text Classifiers (SIGIR 1994), for two labels; Settles:
    Active Learning Literature Survey (Wisconsin, 2009), section 3.1, for more.
    """
    return greatest(pool, entropy_uncertainty(pool), count, random)


def diverse_margin(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """One row of each cluster of uncertain rows, the smallest margin first.

    Zhdanov: Diverse mini-batch Active Learning (2019): of the ``10 * count`` most uncertain rows make
    ``count`` clusters and take the row nearest to each centre; the clusters by mini-batches (Sculley:
    Web-Scale K-Means Clustering, WWW 2010). Rows without an embedding cannot be clustered. They are not left
    out, which would make the choice depend on what was embedded: they get as large a share of the places as
    they have of the most uncertain rows, and fill it by margin alone.

    Raises:
        WrongUse: If the pool was read without embeddings.
    """
    if pool.embeddings is None or pool.embedding_of is None:
        raise WrongUse("The strategy 'diverse-margin' needs a pool with embeddings: read it with them.")
    uncertain = greatest(pool, margin_uncertainty(pool), PREFILTER * count, random)
    if len(uncertain) <= count:
        return uncertain
    is_embedded = pool.embedding_of[uncertain] != NOT_EMBEDDED
    embedded = uncertain[is_embedded]
    clusters = min(round(count * is_embedded.mean()), len(embedded))
    representatives = embedded[
        _representatives(pool.embeddings[pool.embedding_of[embedded]], clusters, random)
    ]
    return _filled(uncertain, representatives, uncertain[~is_embedded], count)


def _filled(uncertain: Indices, representatives: Indices, others: Indices, count: int) -> Indices:
    """The representatives, then rows without embedding, then any: ``count`` of them in order of margin."""
    preferred = np.concatenate((representatives, others, uncertain))
    _, first_at = np.unique(preferred, return_index=True)
    taken = preferred[np.sort(first_at)[:count]]
    return uncertain[np.isin(uncertain, taken)]


def _representatives(
    embeddings: npt.NDArray[np.float16], clusters: int, random: np.random.Generator
) -> Indices:
    """int64 (at most clusters): the row nearest to each centre; of equal embeddings there are fewer."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    if clusters == 0:
        return np.empty(0, np.int64)
    model = MiniBatchKMeans(
        clusters, n_init=1, batch_size=max(1024, 3 * clusters), random_state=int(random.integers(2**31))
    )
    rows = embeddings.astype(np.float32)
    with warnings.catch_warnings():
        # Fewer different embeddings than clusters: those without a row are filled by margin.
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = model.fit_predict(rows)
    distances = np.square(rows - model.cluster_centers_[labels]).sum(axis=1)
    order = np.lexsort((distances, labels))
    _, first_of_cluster = np.unique(labels[order], return_index=True)
    return order[first_of_cluster].astype(np.int64)


def class_balanced(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """Rounds through the predicted labels, one random row of each, the labels in random order in a round.

    A label with too few rows leaves its places to the others. Balanced by the model's own labels as in
    Bengar, van de Weijer, Fuentes, Raducanu: Class-Balanced Active Learning for Image Classification (WACV
    2022), without their optimisation.
    """
    predicted = pool.probabilities.argmax(axis=1).astype(np.int64)
    return stratified_draw(predicted, pool.counting / pool.counting.max(initial=1.0), count, random)


def power_margin(
    pool: Pool,
    count: int,
    random: np.random.Generator,
    *,
    uniform_share: float = UNIFORM_SHARE,
    exponent: float = POWER_EXPONENT,
) -> Indices:
    """A draw without replacement, in proportion to :func:`draw_probabilities`.

    Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron, Gal: Stochastic Batch Acquisition: A Simple
    Baseline for Deep Active Learning (TMLR 2023), "power" acquisition.
    """
    probabilities = draw_probabilities(pool, uniform_share, exponent)
    return weighted_draw(probabilities / probabilities.max(initial=0.0), count, random)


def draw_probabilities(
    pool: Pool, uniform_share: float = UNIFORM_SHARE, exponent: float = POWER_EXPONENT
) -> Floats:
    """float64 (rows), sums to 1: the chance of each row to be drawn first.

    ``share / rows + (1 - share) * (1 - margin) ** exponent / their sum``, both parts times the row's weight.
    Where no row is uncertain at all, the draw is uniform.

    Args:
        pool: The candidates.
        uniform_share: In [0, 1].
        exponent: How much more the uncertain count; 0 is uniform as well.
    """
    uniform = pool.counting
    uncertain = uniform * margin_uncertainty(pool) ** exponent
    if not uncertain.any():
        return np.asarray(uniform / max(uniform.sum(), 1.0))
    return np.asarray(
        uniform_share * uniform / uniform.sum() + (1 - uniform_share) * uncertain / uncertain.sum()
    )


def balanced_draw(
    pool: Pool,
    count: int,
    random: np.random.Generator,
    *,
    uniform_share: float = UNIFORM_SHARE,
    exponent: float = BALANCED_EXPONENT,
) -> Indices:
    """A draw without replacement, in proportion to :func:`balanced_probabilities`.

    In most streams one label is nine reviews of ten. Drawn label by label, as the model sees them, rare
    labels are frequent among the answers: Bengar and others as for :func:`class_balanced`.
    """
    probabilities = balanced_probabilities(pool, uniform_share, exponent)
    return weighted_draw(probabilities / probabilities.max(initial=0.0), count, random)


def balanced_probabilities(
    pool: Pool, uniform_share: float = UNIFORM_SHARE, exponent: float = BALANCED_EXPONENT
) -> Floats:
    """float64 (rows), sums to 1: the chance of each row to be drawn first.

    ``share / rows + (1 - share) / labels * u / sum of u over the rows of its label``, with ``u = (1 - margin)
    ** exponent`` and the labels that are predicted at all; both parts times the row's weight. Rows of a label
    none of which is uncertain are drawn evenly.

    Args:
        pool: The candidates.
        uniform_share: In [0, 1].
        exponent: How much more the uncertain count among the rows of one label; 0: not at all.
    """
    if not len(pool):
        return np.empty(0)
    uniform, predicted = pool.counting, pool.probabilities.argmax(axis=1)
    labels = pool.probabilities.shape[1]
    # So little that it only counts where all else is nothing.
    weighed = uniform * np.maximum(margin_uncertainty(pool) ** exponent, np.finfo(np.float64).eps)
    sums = np.bincount(predicted, weighed, labels)
    balanced = weighed / sums[predicted] / np.count_nonzero(sums)
    return np.asarray(uniform_share * uniform / uniform.sum() + (1 - uniform_share) * balanced)


def label_descriptions(
    pool: Pool, count: int, random: np.random.Generator, *, uniform_share: float = UNIFORM_SHARE
) -> Indices:
    """A uniform share, and otherwise the row that is most similar to each label, the labels in turn.

    Meant for the probabilities of a zero-shot adapter, whose logits are similarities to descriptions of the
    labels. Of a label that is rare in the stream, the first answers then hold more than its share. The
    uniform share keeps a chance for reviews that no description resembles.

    Args:
        pool: The candidates.
        count: How many.
        random: What is drawn with.
        uniform_share: In [0, 1].
    """
    rows, scores = len(pool), standardised_similarities(pool)
    is_uniform = random.random(rows) < uniform_share
    uniform = iter(weighted_draw(pool.counting / pool.counting.max(initial=1.0), rows, random))
    # A row that counts half for its age has to be twice as similar.
    weighed = (scores - scores.min(axis=0, initial=0.0)) * pool.counting[:, None]
    most_similar = [iter(np.argsort(-column, kind="stable")) for column in weighed.T]
    taken, turn = dict[int, None](), 0
    while len(taken) < min(count, rows):
        if is_uniform[len(taken)]:
            order = uniform
        else:
            order, turn = most_similar[turn % len(most_similar)], turn + 1
        taken[next(int(row) for row in order if int(row) not in taken)] = None
    return np.fromiter(taken, np.int64, len(taken))


def standardised_similarities(pool: Pool) -> Floats:
    """float64 (rows, labels): how similar each row is to each label, in standard deviations over the pool.

    That is the logit without the row's mean, which probabilities do not tell; so that a label that all rows
    resemble is not the most similar one of all.
    """
    logits = np.log(np.maximum(pool.probabilities.astype(np.float64), np.finfo(np.float32).tiny))
    logits -= logits.mean(axis=1, keepdims=True)
    if not len(pool):
        return logits
    spreads = logits.std(axis=0)
    return np.asarray((logits - logits.mean(axis=0)) / np.where(spreads > 0, spreads, 1.0))


STRATEGIES: Mapping[StrategyName, Strategy] = {
    "balanced-draw": balanced_draw,
    "power-margin": power_margin,
    "margin": smallest_margin,
    "entropy": greatest_entropy,
    "diverse-margin": diverse_margin,
    "class-balanced": class_balanced,
    "label-descriptions": label_descriptions,
    "random": random_draw,
}
"""Each with its paper's, or the default, parameters."""


def parameters(settings: SelectionSettings) -> dict[str, float]:
    """The parameters of a draw, its own exponent where the settings have none; none of others."""
    if settings.strategy == "label-descriptions":
        return {"uniform_share": settings.uniform_share}
    own = _EXPONENTS.get(settings.strategy)
    if own is None:
        return {}
    exponent = own if settings.exponent is None else settings.exponent
    return {"uniform_share": settings.uniform_share, "exponent": exponent}


def configured_strategy(settings: SelectionSettings) -> Strategy:
    """The strategy that the settings name, with its parameters."""
    return partial(STRATEGIES[settings.strategy], **parameters(settings))
