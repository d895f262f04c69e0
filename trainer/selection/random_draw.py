"""Random: every review may be drawn, what the model says of it does not matter. The strategy to beat."""

import numpy as np

from trainer.selection.draws import weighted_draw
from trainer.selection.pool import Indices, Pool


def random_draw(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """A draw without replacement, in proportion to the pool's weights.

    Args:
        pool: The candidates.
        count: How many.
        random: What is drawn with.
    """
    return weighted_draw(pool.counting / pool.counting.max(initial=1.0), count, random)
