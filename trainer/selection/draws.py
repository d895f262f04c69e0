"""Weighted draws without replacement. Pure.

Efraimidis, Spirakis: Weighted random sampling with a reservoir (Information Processing Letters 2006): the
rows with the smallest ``exponential variate / weight`` are a draw, one after the other, in proportion to the
weights of those still there. The same as the Gumbel top-k trick.
"""

import numpy as np

from trainer.selection.pool import Floats, Indices

# Rows of weight 0 come last, in random order, and no division overflows.
_SMALLEST_WEIGHT = 1e-150


def draw_order(weights: Floats, random: np.random.Generator) -> Floats:
    """float64 (rows): the moment at which each row is drawn; a draw of any size takes the smallest.

    Args:
        weights: float64 (rows), not negative, finite, at most about 1.
        random: What is drawn with: one variate a row.
    """
    return random.standard_exponential(len(weights)) / np.maximum(weights, _SMALLEST_WEIGHT)


def weighted_draw(weights: Floats, count: int, random: np.random.Generator) -> Indices:
    """int64 (min(count, rows)): positions, in the order in which they are drawn, each once.

    Args:
        weights: float64 (rows), as in :func:`draw_order`.
        count: How many.
        random: What is drawn with.
    """
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
