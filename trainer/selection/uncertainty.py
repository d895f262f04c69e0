"""How uncertain the model was of each row. Pure."""

import numpy as np

from trainer.selection.pool import Floats, Pool


def margin_uncertainty(pool: Pool) -> Floats:
    """float64 (rows) in [0, 1]: 1 less the margin between the two most probable labels.

    With a single label there is nothing to confuse: 0.
    """
    if pool.probabilities.shape[1] < 2:
        return np.zeros(len(pool))
    top_two = np.partition(pool.probabilities, -2, axis=1)[:, -2:].astype(np.float64)
    return np.clip(1 - (top_two[:, 1] - top_two[:, 0]), 0, 1)


def entropy_uncertainty(pool: Pool) -> Floats:
    """float64 (rows) in [0, 1]: Shannon entropy over the greatest possible; 0 with a single label."""
    labels = pool.probabilities.shape[1]
    if labels < 2:
        return np.zeros(len(pool))
    entropy = np.zeros(len(pool))
    for column in pool.probabilities.T:  # column by column: no second table of a million rows
        shares = np.clip(column.astype(np.float64), np.finfo(np.float64).tiny, 1)
        entropy -= shares * np.log(shares)
    return np.asarray(np.clip(entropy / np.log(labels), 0, 1))
