"""A head alone, fitted on frozen features in seconds: penalised multinomial logistic regression.

Hastie, Tibshirani, Friedman: The Elements of Statistical Learning (2009), chapter 4.4. With few labels it is
hard to beat by LoRA and varies less, as nothing below it moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from classifier.calibration import Floats, softmax
from trainer.data.splitting import stratified_split

STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
"""Of the fit, inverse to the penalty on standardised columns; cross-validation chooses one."""
USUAL_STRENGTH = 0.003  # where there are too few rows to choose by
_FOLDS = 5
ENOUGH_NEW = 30
"""So many new rows are enough to calibrate by these alone."""
ENOUGH_NEW_OF_EACH = 10
"""So many of each label are enough for penalty and bias: there all labels weigh the same."""
_MOST_STEPS = 1000
_IMPOSSIBLE = -25.0  # the logit of a class without rows; those of the others are 0 on average
_TINY = 1e-12
_A_FEW = 0.01  # a share; so that a label that is never predicted, or never occurs, is no infinite step
_STEPS = tuple(0.5 * 0.98**step for step in range(300))

Features = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A linear head on features as they are: whatever scaled them is part of weights and bias.

    Attributes:
        weights: float64 (classes, features).
        bias: float64 (classes).
        strength: Of the fit, inverse to the penalty; None for a head that was not fitted.
        left_out: float64 (rows, classes): for each row that it was fitted on, the logits of a fit without
            that row and those of its fold. None where there was one class, so that nothing was fitted.
    """

    weights: Floats
    bias: Floats
    strength: float | None = None
    left_out: Floats | None = None

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
    centre: Head | None = None,
    speaks_for: npt.NDArray[np.floating] | None = None,
    is_new: npt.NDArray[np.bool_] | None = None,
) -> Head:
    """The head with the penalty that predicts left-out rows best; the same for the same arguments.

    All classes have the same total weight, however few rows one has.

    Args:
        features: (rows, features); at least one row.
        labels: integers (rows), in [0, classes).
        classes: How many classes the head has.
        weights: (rows), positive: how much a row counts beside others of its class; None: all the same.
        groups: The group of each row; a group is never divided between folds. None: each row by itself.
        seed: Of the folds.
        centre: The head from which it moves as far as the rows ask for: the penalty is on the difference.
            Of a class without a row it is kept. None: the penalty is on the weights, and a class without a
            row is all but impossible.
        speaks_for: (rows), positive: how many reviews of the stream each row speaks for, up to a factor. Then
            the bias is such that labels are predicted as often as they occur. None: as often as each other.
        is_new: (rows): whether neither the centre nor what the features come from was trained on the row. A
            fit without a row that they know is no surprise to predict it well, so penalty and bias are chosen
            by new rows, where there are enough. None: all are new.
    """
    own = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    known, labels = np.unique(labels, return_inverse=True)
    if len(known) < 2:
        nothing = Head(np.zeros((1, features.shape[1])), np.zeros(1), USUAL_STRENGTH)
        return _widened(nothing, known, classes) if centre is None else centre
    start = None if centre is None else Head(centre.weights[known], centre.bias[known])
    rows = _Rows(features.astype(np.float64), labels, own, start, len(known))
    parts = stratified_split(
        labels.tolist(), range(len(labels)) if groups is None else groups, seed, [1 / _FOLDS] * _FOLDS
    )
    folds, judged = np.array(parts), judged_by(labels, is_new, ENOUGH_NEW_OF_EACH)
    strength = _best_strength(rows, folds, judged)
    found, left_out = Head(*rows.solve([strength])[0], strength), rows.left_out(folds, strength)
    if speaks_for is not None:
        counts = np.asarray(speaks_for, np.float64)[judged]
        shift = shift_to_shares(left_out[judged], labels[judged], counts)
        found, left_out = replace(found, bias=found.bias + shift), left_out + shift
    if start is None or centre is None:
        return _widened(replace(found, left_out=left_out), known, classes)
    # What moved is 0 on average over the classes, so those that are kept do not move beside them.
    moved, bias = found.weights - start.weights, found.bias - start.bias
    weights, biases = centre.weights.copy(), centre.bias.copy()
    weights[known] += moved - moved.mean(axis=0)
    biases[known] += bias - bias.mean()
    said = centre.logits(features)
    left_out = left_out - said[:, known]
    said[:, known] += left_out - left_out.mean(axis=1, keepdims=True)
    return Head(weights, biases, strength, said)


def judged_by(
    labels: Labels, is_new: npt.NDArray[np.bool_] | None, of_each: int = 0
) -> npt.NDArray[np.bool_]:
    """By which rows a fit is judged, bool (rows): the new ones, where there are enough, else all.

    Args:
        labels: integers (rows).
        is_new: (rows), as of :func:`fit_head`.
        of_each: So many new ones of each label that occurs have to be there.
    """
    everything = np.ones(len(labels), np.bool_)
    if is_new is None or is_new.sum() < ENOUGH_NEW:
        return everything
    counts = np.bincount(labels[is_new], minlength=labels.max() + 1)
    return everything if counts[np.unique(labels)].min() < of_each else is_new


def _best_strength(rows: "_Rows", folds: Labels, judged: npt.NDArray[np.bool_]) -> float:
    """By the weighted log-likelihood of rows that were left out, in turns."""
    losses, counted = np.zeros(len(STRENGTHS)), 0
    weights = np.zeros(len(judged))
    weights[judged] = rows.part(judged).balanced()
    for fold in range(_FOLDS):
        left_out = (folds == fold) & judged
        known, truth = rows.part(folds != fold), rows.labels[left_out]
        if not left_out.any() or (rows.centre is None and len(np.unique(known.labels)) < rows.classes):
            continue  # a class would be unknown
        counted += 1
        for index, (found, bias) in enumerate(known.solve(STRENGTHS)):
            said = softmax(rows.features[left_out] @ found.T + bias)[np.arange(len(truth)), truth]
            losses[index] -= (weights[left_out] * np.log(np.maximum(said, _TINY))).sum()
    return STRENGTHS[int(losses.argmin())] if counted else USUAL_STRENGTH


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """What a head is fitted on.

    Attributes:
        features: float64 (rows, features).
        labels: integers (rows).
        own: float64 (rows), positive: the weight of a row beside others of its class.
        centre: Where the penalty is zero; None: at weights of zero.
        classes: How many there are.
    """

    features: Floats
    labels: Labels
    own: Floats
    centre: Head | None
    classes: int

    def part(self, chosen: npt.NDArray[np.bool_]) -> "_Rows":
        """Some of the rows."""
        features, labels, own = self.features[chosen], self.labels[chosen], self.own[chosen]
        return replace(self, features=features, labels=labels, own=own)

    def balanced(self) -> Floats:
        """float64 (rows): weights of 1 on average, the same in total for each class that has rows."""
        totals = np.bincount(self.labels, weights=self.own, minlength=self.classes)
        each = len(self.labels) / (np.count_nonzero(totals) * np.where(totals > 0, totals, 1))
        return np.asarray(self.own * each[self.labels])

    def left_out(self, folds: Labels, strength: float) -> Floats:
        """float64 (rows, classes): logits of each row by a fit without its fold."""
        logits = np.empty((len(self.labels), self.classes))
        for fold in np.unique(folds):
            is_out = folds == fold
            others = self if is_out.all() else self.part(~is_out)
            weights, bias = others.solve([strength])[0]
            logits[is_out] = self.features[is_out] @ weights.T + bias
        return logits

    def solve(self, strengths: Sequence[float]) -> list[tuple[Floats, Floats]]:
        """For each strength, weights (classes, features) and bias (classes)."""
        weights = self.balanced()
        middle = np.average(self.features, axis=0, weights=weights)
        spread = np.sqrt(np.average((self.features - middle) ** 2, axis=0, weights=weights))
        scale = np.where(spread > _TINY, spread, 1.0)
        columns = (self.features - middle) / scale
        start = np.zeros((len(columns), self.classes))
        first, base = np.zeros((self.classes, columns.shape[1])), np.zeros(self.classes)
        if self.centre is not None:
            start, first, base = self.centre.logits(self.features), self.centre.weights, self.centre.bias
        found = []
        for strength in strengths:
            moved, bias = _minimum(columns, self.labels, weights, start, strength)
            moved = moved / scale
            found.append((first + moved, base + bias - moved @ middle))
        return found


def _minimum(
    columns: Floats, labels: Labels, weights: Floats, start: Floats, strength: float
) -> tuple[Floats, Floats]:
    """What is added to the logits at the start, so that the penalised loss is least.

    Args:
        columns: float64 (rows, columns), standardised.
        labels: integers (rows).
        weights: float64 (rows).
        start: float64 (rows, classes): logits that the head adds to.
        strength: Of the fit, inverse to the penalty.

    Returns:
        Weights (classes, columns) and bias (classes).
    """
    classes, width, rows = start.shape[1], columns.shape[1], np.arange(len(labels))

    def loss(flat: Floats) -> tuple[float, Floats]:
        moved, bias = flat[: classes * width].reshape(classes, width), flat[classes * width :]
        logits = start + columns @ moved.T + bias
        said = softmax(logits)
        value = -(weights * np.log(np.maximum(said[rows, labels], _TINY))).sum()
        value += (moved**2).sum() / (2 * strength)
        said[rows, labels] -= 1.0
        error = said * weights[:, None]
        slope = np.concatenate([(error.T @ columns + moved / strength).ravel(), error.sum(axis=0)])
        return float(value) / len(rows), slope / len(rows)

    options = {"maxiter": _MOST_STEPS, "gtol": 1e-6, "ftol": 1e-12}
    best = minimize(loss, np.zeros(classes * (width + 1)), jac=True, method="L-BFGS-B", options=options).x
    return best[: classes * width].reshape(classes, width), best[classes * width :]


def shift_to_shares(logits: Floats, labels: Labels, speaks_for: Floats) -> Floats:
    """float64 (classes): what is added to a bias so that labels are predicted as often as they occur.

    Fits give all labels the same weight, and so predict rare ones too often: in a stream with nine positive
    reviews in ten, most of what is called negative is none. Where predictions have the labels' own shares, as
    many rows are called a label by mistake as are missed, which is near the best F1: Lipton, Elkan,
    Naryanaswamy: Optimal Thresholding of Classifiers to Maximize F1 Measure (ECML PKDD 2014).

    Args:
        logits: float64 (rows, classes), of rows that the fit did not see.
        labels: integers (rows).
        speaks_for: float64 (rows), positive.
    """
    classes, total = logits.shape[1], speaks_for.sum()
    wanted = np.log(np.bincount(labels, speaks_for, classes) / total + _A_FEW)
    shift = np.zeros(classes)
    for step in _STEPS:
        predicted = np.bincount((logits + shift).argmax(axis=1), speaks_for, classes) / total
        shift += step * (wanted - np.log(predicted + _A_FEW))
    return np.asarray(shift - shift.mean())


def _widened(found: Head, known: Labels, classes: int) -> Head:
    """The head of all classes: those without a row are all but impossible."""
    weights, biases = np.zeros((classes, found.weights.shape[1])), np.full(classes, _IMPOSSIBLE)
    weights[known] = found.weights - found.weights.mean(axis=0)
    biases[known] = found.bias - found.bias.mean()
    if found.left_out is None:
        return Head(weights, biases, found.strength)
    left_out = np.full((len(found.left_out), classes), _IMPOSSIBLE)
    left_out[:, known] = found.left_out - found.left_out.mean(axis=1, keepdims=True)
    return Head(weights, biases, found.strength, left_out)
