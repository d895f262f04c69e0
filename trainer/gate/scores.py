"""Accuracy and macro-F1 of weighted rows. Pure numpy."""

import numpy as np

from trainer.gate.evidence import Floats, Integers
from trainer.gate.settings import Metric


def tallies(truth: Integers, said: Integers, labels: int) -> Floats:
    """float64 (rows, 2 labels): for each label whether a row is a hit, and how often it is meant or said.

    Both metrics follow from their weighted sums over rows, so resampling rows is a product of matrices.
    """
    columns = np.arange(labels)
    is_true, is_said = truth[:, None] == columns, said[:, None] == columns
    return np.hstack([is_true & is_said, is_true.astype(np.float64) + is_said])


def score(sums: Floats, rows: float | Floats, metric: Metric) -> Floats:
    """The metric, float64 (…), from weighted sums of :func:`tallies`, float64 (…, 2 labels).

    F1 of a label that is neither meant nor said is 0, as in :mod:`trainer.metrics`.

    Args:
        sums: Sums of the rows' tallies.
        rows: Sum of the rows' weights, float64 (…).
        metric: Which one.
    """
    hits, seen = np.split(sums, 2, axis=-1)
    if metric == "accuracy":
        return np.asarray(hits.sum(axis=-1) / rows)
    return np.asarray((2 * hits / np.where(seen > 0, seen, 1)).mean(axis=-1))
