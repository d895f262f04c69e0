"""A draw in proportion to uncertainty, with a uniform share.

The most uncertain reviews are also those whose label is a matter of taste: taken first, they teach noise, and
the model may end worse than with a random draw. Drawn in proportion, they are frequent but not alone, and the
uniform share keeps a chance for what the model is wrongly sure of.

The draw: Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron, Gal: Stochastic Batch Acquisition: A
Simple Baseline for Deep Active Learning (TMLR 2023), "power" acquisition. The uniform share: Beygelzimer,
Dasgupta, Langford: Importance Weighted Active Learning (ICML 2009), whose query probability never falls below
a minimum.
"""

import numpy as np

from trainer.selection.draws import weighted_draw
from trainer.selection.pool import Floats, Indices, Pool
from trainer.selection.uncertainty import margin_uncertainty

UNIFORM_SHARE = 0.4
EXPONENT = 2.0


def power_margin(
    pool: Pool,
    count: int,
    random: np.random.Generator,
    *,
    uniform_share: float = UNIFORM_SHARE,
    exponent: float = EXPONENT,
) -> Indices:
    """A draw without replacement, in proportion to :func:`draw_probabilities`.

    Args:
        pool: The candidates.
        count: How many.
        random: What is drawn with.
        uniform_share: As there.
        exponent: As there.
    """
    probabilities = draw_probabilities(pool, uniform_share, exponent)
    return weighted_draw(probabilities / probabilities.max(initial=0.0), count, random)


def draw_probabilities(
    pool: Pool, uniform_share: float = UNIFORM_SHARE, exponent: float = EXPONENT
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
