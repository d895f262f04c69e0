"""The quick fit: a linear head on frozen embeddings and answers, instead of an adapter. Sweeps in minutes.

Multinomial logistic regression; each class counts as much as another, however few rows it has.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats
from trainer.simulation.features import Features
from trainer.simulation.stream import Indices

Score = Callable[[Indices], Floats]
"""Rows → float64 (rows, labels): probabilities, rows sum to 1."""

STRENGTH = 0.003  # inverse to the penalty; columns are standardised
_UNSEEN = 1e-6


class HeadFit:
    """Fits heads on the same frozen features.

    Args:
        features: Of all rows of the stream.
        classes: How many labels there are.
    """

    def __init__(self, features: Features, classes: int) -> None:
        columns = features.columns.astype(np.float64)
        spread = columns.std(axis=0)
        self._columns = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1)
        self._classes = classes

    def __call__(self, rows: Indices, labels: Indices) -> Score:
        """The head fitted on these rows; a class without a row is all but impossible.

        Args:
            rows: int64 (labelled).
            labels: int64 (labelled), what the annotator said.
        """
        known = np.unique(labels)
        if len(known) < 2:
            return _constant(np.where(np.arange(self._classes) == known[0], 1.0, 0.0))
        weights, bias = self._solve(rows, labels)
        columns = self._columns

        def score(asked: Indices) -> Floats:
            logits = columns[asked] @ weights + bias
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            said = np.full((len(asked), self._classes), _UNSEEN)
            said[:, known] = powers / powers.sum(axis=1, keepdims=True)
            return np.asarray(said / said.sum(axis=1, keepdims=True))

        return score

    def _solve(self, rows: Indices, labels: Indices) -> tuple[npt.NDArray[np.float64], Floats]:
        """Weights (columns, known labels) and bias (known labels)."""
        from sklearn.linear_model import LogisticRegression

        fitted = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=500, tol=1e-3)
        fitted.fit(self._columns[rows], labels)
        weights, bias = fitted.coef_.T, fitted.intercept_
        if weights.shape[1] == 1:  # two classes: one column that tells them apart
            return np.hstack([np.zeros_like(weights), weights]), np.array([0.0, bias[0]])
        return weights, bias


def _constant(said: Floats) -> Score:
    return lambda asked: np.tile(said, (len(asked), 1))
