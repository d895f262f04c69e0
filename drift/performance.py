"""How good the classifier is by what its probabilities promise.

Expected: confidence-based performance estimation, as in NannyML. A review predicted with 80 % is right with
80 %, so the expected confusion matrix is a sum of probabilities. It holds while the classes look as they did;
where texts of another kind come, the probabilities themselves are wrong, and with them this estimate: a drift
alarm says so.

Calibrated: an adapter is calibrated on balanced data, and a stream is not balanced: where nine in ten reviews
are positive, "60 % positive" is far too little. A temperature and an additive correction of each class are
fitted to the audit labels of the reference: bias-corrected temperature scaling. Alexandari, Kundaje,
Shrikumar: Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift Adaptation (ICML
2020).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from drift.rows import UNKNOWN, Floats, Integers

LEAST_LABELS = 30
_PRIOR = 1.0  # the correction of a class without labels stays near none: as if by one observation
_SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class Performance:
    """Accuracy and macro-F1, each in [0, 1].

    Attributes:
        accuracy: Share of right answers.
        macro_f1: Mean F1 over the classes that occur.
    """

    accuracy: float
    macro_f1: float


def expected_performance(calibrated: Floats, predicted: Integers) -> Performance:
    """What to expect of these predictions.

    Args:
        calibrated: float64 (rows, classes): calibrated probabilities; rows sum to 1.
        predicted: int64 (rows): the classes that were stored.
    """
    classes = calibrated.shape[1]
    confusion = np.zeros((classes, classes))  # true class down, predicted one across
    for column in range(classes):
        confusion[:, column] = calibrated[predicted == column].sum(axis=0)
    return performance(confusion)


def performance(confusion: Floats) -> Performance:
    """Accuracy and macro-F1 of a confusion matrix.

    Args:
        confusion: float64 (classes, classes): true classes down, predicted ones across; expected counts too.
    """
    hits = np.diag(confusion)
    true, said = confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = mean_over_classes(2 * hits / np.maximum(true + said, 1e-300), true)
    return Performance(float(hits.sum() / max(1e-300, confusion.sum())), float(f1))


def mean_over_classes(scores: Floats, true: Floats) -> Floats:
    """The mean of scores over the classes that occur; 0 where none does.

    A class without a row says nothing of a classifier: with it, a perfect one would not reach 1. Answers that
    name such a class are wrong for another class and count there. It is scikit-learn's macro average with the
    labels of the truth, so that two classifiers on the same rows are compared on the same classes.

    Args:
        scores: float64 (…, classes).
        true: float64 (…, classes): how many rows, or what weight, each class has.

    Returns:
        float64 (…).
    """
    occurs = true > 0
    sums = np.where(occurs, scores, 0.0).sum(axis=-1)
    return np.asarray(sums / np.maximum(1, occurs.sum(axis=-1)), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Turns an adapter's probabilities into those of a stream.

    Attributes:
        inverse_temperature: Multiplies log-probabilities.
        bias: float64 (classes): added to them.
        labels: From how many audit labels it was learned.
    """

    inverse_temperature: float
    bias: Floats
    labels: int

    def apply(self, probabilities: npt.NDArray[np.floating]) -> Floats:
        """float64 (rows, classes), rows sum to 1, from probabilities of the same shape."""
        return np.asarray(softmax(_logs(probabilities) * self.inverse_temperature + self.bias, axis=1))


def calibrate(
    probabilities: npt.NDArray[np.floating], truth: Integers, weights: Floats | None = None
) -> Calibration:
    """The calibration that makes these labels most likely; none where there are fewer than 30 of them.

    Args:
        probabilities: (rows, classes), as the adapter gave them.
        truth: int64 (rows): the true classes; -1 where nobody knows.
        weights: float64 (rows), positive: how much each row counts, where some were drawn with greater
            chances than others; None: each the same.
    """
    known = truth != UNKNOWN
    classes = probabilities.shape[1]
    labels = int(known.sum())
    if labels < LEAST_LABELS:
        return Calibration(1.0, np.zeros(classes), labels)
    logs, target = _logs(probabilities[known]), truth[known]
    counting = np.ones(labels) if weights is None else weights[known]
    # In all as many rows as would say as much if each counted the same: Kish, Survey Sampling (1965).
    counting = counting * counting.sum() / (counting**2).sum()

    def loss(values: Floats) -> float:
        log_inverse, bias = values[0], values[1:]
        chosen = log_softmax(logs * np.exp(log_inverse) + bias, axis=1)[np.arange(labels), target]
        return float(-(counting @ chosen) + _PRIOR * (log_inverse**2 + (bias**2).sum() / 8))

    best = minimize(loss, np.zeros(1 + classes), method="L-BFGS-B").x
    return Calibration(float(np.exp(best[0])), np.asarray(best[1:]), labels)


def _logs(probabilities: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST)))
