"""Sums over rows drawn again with replacement: the paired bootstrap."""

import numpy as np

from trainer.gate.evidence import Floats

_CELLS_AT_ONCE = 2_000_000


def resampled_sums(columns: Floats, resamples: int, seed: int) -> Floats:
    """float64 (resamples, columns): what the columns sum to on rows drawn with replacement.

    Both adapters' numbers of a row stand in one row of ``columns``, so they are drawn together. Koehn:
    Statistical Significance Tests for Machine Translation Evaluation (EMNLP 2004); Efron, Tibshirani: An
    Introduction to the Bootstrap (1993), chapter 8.

    Args:
        columns: float64 (rows, columns). Their order does not matter: they are drawn from in sorted order.
        resamples: How many times all rows are drawn.
        seed: Of the draws.
    """
    rows = len(columns)
    ordered = columns[np.lexsort(columns.T)] if rows else columns
    random, sums = np.random.default_rng(seed), []
    chunk = max(1, _CELLS_AT_ONCE // max(1, rows))
    for first in range(0, resamples, chunk):
        size = min(chunk, resamples - first)
        drawn = random.integers(0, max(1, rows), (size, rows)) + np.arange(size)[:, None] * rows
        times = np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows)
        sums.append(times @ ordered)
    return np.concatenate(sums)
