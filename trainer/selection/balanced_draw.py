"""A draw that reaches every predicted label: as likely to take one as another, with a uniform share.

In most streams one label is praise and nine of ten reviews bear it; a random draw then teaches the others
from a handful. Drawn label by label, as the model sees them, rare labels are frequent among the answers, and
nothing hangs on the most uncertain reviews, whose labels are a matter of taste. The uniform share keeps a
chance for a label that the model does not see yet.

Balanced by the model's own labels: Bengar, van de Weijer, Fuentes, Raducanu: Class-Balanced Active Learning
for Image Classification (WACV 2022), here as a draw instead of an optimisation. The uniform share:
Beygelzimer, Dasgupta, Langford: Importance Weighted Active Learning (ICML 2009). Uncertainty within a label,
where asked for, as in :mod:`trainer.selection.power_margin`.
"""

import numpy as np

from trainer.selection.draws import weighted_draw
from trainer.selection.pool import Floats, Indices, Pool
from trainer.selection.uncertainty import margin_uncertainty

UNIFORM_SHARE = 0.4
EXPONENT = 0.0


def balanced_draw(
    pool: Pool,
    count: int,
    random: np.random.Generator,
    *,
    uniform_share: float = UNIFORM_SHARE,
    exponent: float = EXPONENT,
) -> Indices:
    """A draw without replacement, in proportion to :func:`balanced_probabilities`.

    Args:
        pool: The candidates.
        count: How many.
        random: What is drawn with.
        uniform_share: As there.
        exponent: As there.
    """
    probabilities = balanced_probabilities(pool, uniform_share, exponent)
    return weighted_draw(probabilities / probabilities.max(initial=0.0), count, random)


def balanced_probabilities(
    pool: Pool, uniform_share: float = UNIFORM_SHARE, exponent: float = EXPONENT
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
