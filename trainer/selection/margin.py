"""Smallest margin first.

Scheffer, Decomain, Wrobel: Active Hidden Markov Models for Information Extraction (IDA 2001).
"""

import numpy as np

from trainer.selection.pool import Indices, Pool
from trainer.selection.ranking import greatest
from trainer.selection.uncertainty import margin_uncertainty


def smallest_margin(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """The rows whose two most probable labels are closest. It collects label noise; see the default.

    Args:
        pool: The candidates.
        count: How many.
        random: Breaks ties.
    """
    return greatest(pool, margin_uncertainty(pool), count, random)
