"""Greatest entropy first.

Lewis, Gale: A Sequential Algorithm for Training Text Classifiers (SIGIR 1994), for two labels; Settles:
Active Learning Literature Survey (Wisconsin, 2009), section 3.1, for more.
"""

import numpy as np

from trainer.selection.pool import Indices, Pool
from trainer.selection.ranking import greatest
from trainer.selection.uncertainty import entropy_uncertainty


def greatest_entropy(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """The rows whose probabilities are spread most evenly. It collects label noise; see the default.

    Args:
        pool: The candidates.
        count: How many.
        random: Breaks ties.
    """
    return greatest(pool, entropy_uncertainty(pool), count, random)
