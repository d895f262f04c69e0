"""The greatest gap between two empirical distribution functions, one of them weighted."""

import numpy as np
from scipy.special import kolmogorov

from drift.rows import Floats
from drift.seasonal import effective_rows


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
