"""Is the classifier as sure as before?"""

from drift.finding import Finding
from drift.kolmogorov_smirnov import kolmogorov_smirnov
from drift.pair import Pair

_FLOOR = 0.1


def confidence(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of the probability of the most probable class, in [0, 1]."""
    one, other = pair.reference.confidence, pair.window.confidence
    statistic, p_value = kolmogorov_smirnov(one, other, pair.weights)
    mean = float((one * pair.weights).sum())
    return Finding("confidence", "confidence", statistic, _FLOOR, p_value, mean, float(other.mean()), "mean")
