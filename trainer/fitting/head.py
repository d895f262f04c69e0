"""A head alone, fitted on frozen features in seconds: penalised multinomial logistic regression.

With few labels it is better than a fit of LoRA and varies less, as nothing below it moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats, softmax
from trainer.data.splitting import stratified_split

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
"""Of the fit, inverse to the penalty on standardised columns; cross-validation chooses one."""
USUAL_STRENGTH = 0.003  # where there are too few rows to choose by
_FOLDS = 5
_IMPOSSIBLE = -25.0  # the logit of a class without rows; those of the others are 0 on average
_TINY = 1e-12

Features = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear head on features as they are: whatever scaled them is part of weights and bias.

    Attributes:
        weights: float64 (classes, features).
        bias: float64 (classes).
        strength: Of the fit, inverse to the penalty; None for a head that was not fitted.
    """

    weights: Floats
    bias: Floats
    strength: float | None = None

    def logits(self, features: Features) -> Floats:
        """float64 (rows, classes)."""
        return np.asarray(features.astype(np.float64) @ self.weights.T + self.bias)


def fit_head(
    features: Features,
    labels: Labels,
    classes: int,
    weights: npt.NDArray[np.floating] | None = None,
    *,
    groups: Sequence[int] | None = None,
    seed: int = 0,
) -> Head:
    """The head with the penalty that predicts left-out rows best; the same for the same arguments.

    All classes have the same total weight, however few rows one has. A class without a row is all but
    impossible.

    Args:
        features: (rows, features); at least one row.
        labels: integers (rows), in [0, classes).
        classes: How many classes the head has.
        weights: (rows), positive: how much a row counts beside others of its class; None: all the same.
        groups: The group of each row; a group is never divided between folds. None: each row by itself.
        seed: Of the folds.
    """
    known, labels = np.unique(labels, return_inverse=True)
    own = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    if len(known) < 2:
        return _widened(np.zeros((1, features.shape[1])), np.zeros(1), known, classes, USUAL_STRENGTH)
    folds = np.array(
        stratified_split(
            labels.tolist(), range(len(labels)) if groups is None else groups, seed, [1 / _FOLDS] * _FOLDS
        )
    )
    strength = _best_strength(features, labels, own, folds)
    found, bias = _solve(features, labels, own, [strength])[0]
    return _widened(found, bias, known, classes, strength)


def _best_strength(features: Features, labels: Labels, own: Floats, folds: Labels) -> float:
    """By the weighted log-likelihood of rows that were left out, in turns."""
    losses, counted = np.zeros(len(STRENGTHS)), 0
    for fold in range(_FOLDS):
        left_out = folds == fold
        if not left_out.any() or len(np.unique(labels[~left_out])) < labels.max() + 1:
            continue  # a class would be unknown
        counted += 1
        truth = labels[left_out]
        fitted = _solve(features[~left_out], labels[~left_out], own[~left_out], STRENGTHS)
        weights = _balanced(labels, own)[left_out]
        for index, (found, bias) in enumerate(fitted):
            said = softmax(features[left_out].astype(np.float64) @ found.T + bias)
            losses[index] -= (weights * np.log(np.maximum(said[np.arange(len(truth)), truth], _TINY))).sum()
    return STRENGTHS[int(losses.argmin())] if counted else USUAL_STRENGTH


def _solve(
    features: Features, labels: Labels, own: Floats, strengths: Sequence[float]
) -> list[tuple[Floats, Floats]]:
    """For each strength, weights (classes, features) and bias (classes), each class's mean over classes 0."""
    from sklearn.linear_model import LogisticRegression

    columns = features.astype(np.float64)
    weights = _balanced(labels, own)
    centre = np.average(columns, axis=0, weights=weights)
    spread = np.sqrt(np.average((columns - centre) ** 2, axis=0, weights=weights))
    scale = np.where(spread > _TINY, spread, 1.0)
    columns = (columns - centre) / scale
    fitter, found = LogisticRegression(max_iter=1000, tol=1e-4, warm_start=True), []
    for strength in strengths:
        fitter.set_params(C=strength).fit(columns, labels, sample_weight=weights)
        coefficients, bias = fitter.coef_, fitter.intercept_
        if len(coefficients) == 1:  # of two classes, one column that tells them apart
            coefficients, bias = np.vstack([-coefficients, coefficients]) / 2, np.append(-bias, bias) / 2
        coefficients = coefficients / scale
        found.append((coefficients, bias - coefficients @ centre))
    return found


def _balanced(labels: Labels, own: Floats) -> Floats:
    """float64 (rows): 1 on average, the same in total for each class."""
    totals = np.bincount(labels, weights=own)
    return np.asarray(own * (len(labels) / (len(totals) * totals))[labels])


def _widened(found: Floats, bias: Floats, known: Labels, classes: int, strength: float) -> Head:
    """The head of all classes: those without a row are all but impossible."""
    weights, biases = np.zeros((classes, found.shape[1])), np.full(classes, _IMPOSSIBLE)
    weights[known], biases[known] = found - found.mean(axis=0), bias - bias.mean()
    return Head(weights, biases, strength)
