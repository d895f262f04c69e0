"""Accuracy and macro-F1 of weighted rows. Pure numpy."""

import numpy as np

from drift.performance import mean_over_classes
from trainer.gate.evidence import Floats, Integers
from trainer.gate.settings import Metric


def tallies(truth: Integers, said: Integers, labels: int) -> Floats:
    """float64 (rows, 3 labels): for each label whether a row is a hit, is true, and is said to be.

    Both metrics follow from their weighted sums over rows, so resampling rows is a product of matrices.
    """
    columns = np.arange(labels)
    is_true, is_said = truth[:, None] == columns, said[:, None] == columns
    return np.hstack([is_true & is_said, is_true, is_said]).astype(np.float64)


def score(sums: Floats, rows: float | Floats, metric: Metric) -> Floats:
    """The metric, float64 (…), from weighted sums of :func:`tallies`, float64 (…, 3 labels).

    Macro-F1 is the mean over the labels that occur, as in :mod:`trainer.metrics`.

    Args:
        sums: Sums of the rows' tallies.
        rows: Sum of the rows' weights, float64 (…).
        metric: Which one.
    """
    hits, true, said = np.split(sums, 3, axis=-1)
    if metric == "accuracy":
        return np.asarray(hits.sum(axis=-1) / rows)
    seen = true + said
    return mean_over_classes(2 * hits / np.where(seen > 0, seen, 1), true)
