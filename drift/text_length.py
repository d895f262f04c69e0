"""Do people write longer or shorter texts?"""

import numpy as np

from drift.finding import Finding
from drift.kolmogorov_smirnov import kolmogorov_smirnov
from drift.pair import Pair

_FLOOR = 0.1


def text_length(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of characters a text, in [0, 1]."""
    one, other = (side.lengths.astype(np.float64) for side in (pair.reference, pair.window))
    statistic, p_value = kolmogorov_smirnov(one, other, pair.weights)
    mean = float((one * pair.weights).sum())
    return Finding(
        "text length", "texts", statistic, _FLOOR, p_value, mean, float(other.mean()), "characters, mean"
    )
