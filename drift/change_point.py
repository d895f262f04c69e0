"""Since when a series of scores is another one."""

import numpy as np

from drift.rows import Floats

_EDGE = 0.02


def change_point(scores: Floats) -> int:
    """The row from which on the mean is another: the greatest standardised difference of both sides' means.

    The likelihood-ratio estimate for one change of a mean, Hinkley: Inference about the change-point in a
    sequence of random variables (Biometrika 1970). Edges of 2 % are left out, where a few rows decide.

    Args:
        scores: float64 (rows), in order; at least one.

    Returns:
        A row in [0, rows).
    """
    count = len(scores)
    edge = max(1, int(count * _EDGE))
    places = np.arange(edge, count - edge + 1)
    if len(places) < 1 or count < 2 * edge + 1:
        return 0
    sums = np.concatenate([[0.0], np.cumsum(scores - scores.mean())])
    statistic = np.abs(sums[places]) / (places * (count - places)) ** 0.5
    return int(places[statistic.argmax()])
