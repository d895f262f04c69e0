"""As many of each predicted label: a stratified draw, against streams in which one label is rare.

Balanced by the model's own labels as in Bengar, van de Weijer, Fuentes, Raducanu: Class-Balanced Active
Learning for Image Classification (WACV 2022), without their optimisation.
"""

import numpy as np

from trainer.selection.draws import stratified_draw
from trainer.selection.pool import Indices, Pool


def class_balanced(pool: Pool, count: int, random: np.random.Generator) -> Indices:
    """Rounds through the predicted labels, one random row of each, the labels in random order in a round.

    A label with too few rows leaves its places to the others.

    Args:
        pool: The candidates; weights count among rows of one predicted label.
        count: How many.
        random: What is drawn with.
    """
    predicted = pool.probabilities.argmax(axis=1).astype(np.int64)
    return stratified_draw(predicted, pool.counting / pool.counting.max(initial=1.0), count, random)
