"""The order of training rows: random from epoch to epoch, yet similar lengths together. Pure."""

import numpy as np
import numpy.typing as npt

_CHUNK_BATCHES = 50


def length_grouped_batches(
    lengths: npt.NDArray[np.integer], batch_size: int, seed: int, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """One epoch of batches, each index once, the same for the same seed and epoch.

    Rows are shuffled, cut into chunks of 50 batches and sorted by length within each: a batch then needs
    little padding, while which rows meet still changes with every epoch. Batches are shuffled at the end.

    Args:
        lengths: integers (rows), tokens of each row.
        batch_size: Rows in a batch; the last may be smaller.
        seed: Of the whole run.
        epoch: Which epoch, from 0.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    batches: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(order), batch_size * _CHUNK_BATCHES):
        chunk = order[start : start + batch_size * _CHUNK_BATCHES]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
    return [batches[index] for index in random.permutation(len(batches))]
