"""What to label next because of a drift: new texts, spread over everything that is new."""

import numpy as np
import numpy.typing as npt

from drift.rows import Integers


def choose_to_label(
    new_rows: Integers, records: Integers, rows: npt.NDArray[np.floating], count: int, seed: int = 0
) -> Integers:
    """Record numbers to be labelled, the first to be labelled first.

    The first is drawn at random, each next one in proportion to its squared distance from those already
    chosen: the start of k-means++ (Arthur, Vassilvitskii, SODA 2007), so that ten near-identical texts are
    not labelled ten times and outliers are not all there is.

    Args:
        new_rows: int64 (new): rows of the window that look new.
        records: int64 (window): the records of the window.
        rows: (new, columns): a vector for each of ``new_rows``.
        count: How many are wanted.
        seed: Of the draw.

    Returns:
        int64, at most ``count``, each once.
    """
    random = np.random.default_rng(seed)
    chosen: list[int] = []
    distance = np.ones(len(new_rows))
    for _ in range(min(count, len(new_rows))):
        if distance.sum() <= 0:  # what is left is identical to something chosen
            distance = np.ones(len(new_rows))
            distance[chosen] = 0
        place = int(random.choice(len(new_rows), p=distance / distance.sum()))
        chosen.append(place)
        distance = np.minimum(distance, ((rows - rows[place]) ** 2).sum(axis=1))
        distance[chosen] = 0
    return np.asarray(records[new_rows[chosen]], np.int64)
