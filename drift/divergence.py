"""How far two samples are apart: of counts over the same categories, and of numbers."""

import numpy as np
from scipy.special import kolmogorov, rel_entr

from drift.rows import Floats
from drift.strata import effective_rows

_PSEUDO_COUNT = 0.5


def smoothed(counts: Floats) -> Floats:
    """float64 (categories), sum 1: shares with half a count added to each category (Jeffreys' prior).

    A category that one side happens not to have would otherwise make a logarithm endless; a tiny share put in
    its place, as many do, lets a single review decide.
    """
    return np.asarray((counts + _PSEUDO_COUNT) / (counts + _PSEUDO_COUNT).sum())


def population_stability_index(reference: Floats, window: Floats) -> float:
    """The symmetrised Kullback-Leibler divergence of smoothed counts, in nats; above 0.25 is much.

    Siddiqi: Credit Risk Scorecards (2006). On smoothing see :func:`smoothed`.

    Args:
        reference: float64 (categories): counts, weighted ones too.
        window: float64 (categories): counts.
    """
    one, other = smoothed(reference), smoothed(window)
    return float(((other - one) * np.log(other / one)).sum())


def jensen_shannon_terms(reference: Floats, window: Floats) -> Floats:
    """float64 (…, categories), not negative: each category's part of the Jensen-Shannon divergence, in bits.

    Lin: Divergence measures based on the Shannon entropy (IEEE Transactions on Information Theory 1991). As
    ``scipy.spatial.distance.jensenshannon``, for a side without any count too.

    Args:
        reference: float64 (…, categories): counts, weighted ones too.
        window: float64 (…, categories): counts.
    """
    one, other = (
        counts / np.maximum(1e-300, counts.sum(axis=-1, keepdims=True)) for counts in (reference, window)
    )
    middle = (one + other) / 2
    return np.asarray((rel_entr(one, middle) + rel_entr(other, middle)) / (2 * np.log(2)))


def jensen_shannon_distance(reference: Floats, window: Floats) -> Floats:
    """float64 (…), the root of the divergence, in [0, 1]: a metric. Endres, Schindelin (2003)."""
    return np.asarray(np.maximum(0.0, jensen_shannon_terms(reference, window).sum(axis=-1)) ** 0.5)


def homogeneity_p_value(reference: Floats, window: Floats) -> float:
    """How often chance alone makes counts as different: Pearson's chi-square test of homogeneity.

    Args:
        reference: float64 (categories): counts, scaled to the rows that they are worth.
        window: float64 (categories): counts.
    """
    kept = reference + window > 0
    if kept.sum() < 2 or not reference.sum() or not window.sum():
        return 1.0
    from scipy.stats import chi2_contingency

    return float(chi2_contingency(np.stack([reference[kept], window[kept]]), correction=False).pvalue)


def kolmogorov_smirnov(reference: Floats, window: Floats, weights: Floats) -> tuple[float, float]:
    """The greatest gap of two distribution functions, in [0, 1], and its p-value by the asymptotic one.

    Kolmogorov (1933), Smirnov (1939); with weights, which scipy's test does not take, the reference counts as
    the rows that it is worth, as in Monahan: Numerical Methods of Statistics (2011), section 12.4.

    Args:
        reference: float64 (reference rows).
        window: float64 (window rows).
        weights: float64 (reference rows), sum 1.
    """
    order = np.argsort(reference, kind="stable")
    cumulated = np.concatenate([[0.0], np.cumsum(weights[order])])
    points = np.unique(np.concatenate([reference, window]))
    below = cumulated[np.searchsorted(reference[order], points, side="right")]
    seen = np.searchsorted(np.sort(window), points, side="right") / len(window)
    statistic = float(np.abs(below - seen).max())
    rows, others = effective_rows(weights), len(window)
    return statistic, float(kolmogorov((rows * others / (rows + others)) ** 0.5 * statistic))
