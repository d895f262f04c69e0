"""Do people use words that the reference does not know?"""

import numpy as np

from drift.finding import Finding
from drift.kolmogorov_smirnov import kolmogorov_smirnov
from drift.pair import Pair
from drift.words import Vocabulary

_FLOOR = 0.1


def unknown_words(pair: Pair) -> Finding:
    """The Kolmogorov-Smirnov statistic of the share of unknown words, in [0, 1].

    Each reference text is held against the words of all the others, so that it is as strange to them as a
    text of a window without drift.
    """
    vocabulary = Vocabulary(pair.reference.texts)
    one = vocabulary.unknown_shares(pair.reference.texts, of_reference=True).astype(np.float64)
    other = vocabulary.unknown_shares(pair.window.texts).astype(np.float64)
    statistic, p_value = kolmogorov_smirnov(one, other, pair.weights)
    return Finding(
        "unknown words",
        "texts",
        statistic,
        _FLOOR,
        p_value,
        float((one * pair.weights).sum()),
        float(other.mean()),
        "share of words",
    )
