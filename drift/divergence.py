"""How far two distributions over the same categories are apart, from counts."""

import numpy as np
from scipy.special import kolmogorov
from scipy.stats import chi2

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
    """float64 (categories), not negative: what each category adds to the Jensen-Shannon divergence, in bits.

    Lin: Divergence measures based on the Shannon entropy (IEEE Transactions on Information Theory 1991).

    Args:
        reference: float64 (categories): counts, weighted ones too.
        window: float64 (categories): counts.
    """
    one, other = (counts / max(1e-300, counts.sum()) for counts in (reference, window))
    middle = (one + other) / 2
    safe = np.where(middle > 0, middle, 1.0)
    halves = (
        side * np.log2(np.where(side > 0, side, 1.0) / np.where(side > 0, safe, 1.0)) for side in (one, other)
    )
    return np.asarray(sum(halves) / 2)


def jensen_shannon_distance(reference: Floats, window: Floats) -> float:
    """The root of the divergence, in [0, 1]: a metric. Endres, Schindelin (same journal, 2003)."""
    return float(max(0.0, jensen_shannon_terms(reference, window).sum()) ** 0.5)


def homogeneity_p_value(reference: Floats, window: Floats) -> float:
    """How often chance alone makes counts as different: Pearson's chi-square test of homogeneity.

    Args:
        reference: float64 (categories): counts, scaled to the rows that they are worth.
        window: float64 (categories): counts.
    """
    together = reference + window
    kept = together > 0
    if kept.sum() < 2:
        return 1.0
    table = np.stack([reference[kept], window[kept]])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / max(1e-300, table.sum())
    statistic = ((table - expected) ** 2 / np.maximum(expected, 1e-12)).sum()
    return float(chi2.sf(statistic, kept.sum() - 1))


def kolmogorov_smirnov(reference: Floats, window: Floats, weights: Floats) -> tuple[float, float]:
    """The statistic in [0, 1] and its p-value, by the asymptotic distribution.

    Kolmogorov (1933), Smirnov (1939); with weights, the reference counts as the rows that it is worth, as in
    Monahan: Numerical Methods of Statistics (2011), section 12.4.

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
