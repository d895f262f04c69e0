"""The greatest scores first. Pure."""

import numpy as np

from trainer.selection.pool import Floats, Indices, Pool


def greatest(pool: Pool, uncertainty: Floats, count: int, random: np.random.Generator) -> Indices:
    """int64 (min(count, rows)): positions of the greatest scores, the greatest first.

    A row's score is its uncertainty times its weight: one that counts half for its age has to be twice as
    uncertain. Rows with the same score come in random order, not in the table's.

    Args:
        pool: The candidates.
        uncertainty: float64 (rows), not negative.
        count: How many.
        random: What ties are broken with.
    """
    scores = uncertainty * pool.counting
    shuffled = random.permutation(len(scores))
    return shuffled[np.argsort(-scores[shuffled], kind="stable")[:count]]
