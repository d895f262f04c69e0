"""Probabilities that mean what they say on this stream, learned from audit labels.

An adapter is calibrated on balanced data, and a stream is not balanced: where nine in ten reviews are
positive, "60 % positive" is far too little. A temperature and an additive correction of each class are fitted
to the audit labels of the reference: bias-corrected temperature scaling.

Alexandari, Kundaje, Shrikumar: Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label
Shift Adaptation (ICML 2020).
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


def calibrate(probabilities: npt.NDArray[np.floating], truth: Integers) -> Calibration:
    """The calibration that makes these labels most likely; none where there are fewer than 30 of them.

    Args:
        probabilities: (rows, classes), as the adapter gave them.
        truth: int64 (rows): the true classes; -1 where nobody knows.
    """
    known = truth != UNKNOWN
    classes = probabilities.shape[1]
    labels = int(known.sum())
    if labels < LEAST_LABELS:
        return Calibration(1.0, np.zeros(classes), labels)
    logs, target = _logs(probabilities[known]), truth[known]

    def loss(values: Floats) -> float:
        log_inverse, bias = values[0], values[1:]
        chosen = log_softmax(logs * np.exp(log_inverse) + bias, axis=1)[np.arange(labels), target]
        return float(-chosen.sum() + _PRIOR * (log_inverse**2 + (bias**2).sum() / 8))

    best = minimize(loss, np.zeros(1 + classes), method="L-BFGS-B").x
    return Calibration(float(np.exp(best[0])), np.asarray(best[1:]), labels)


def _logs(probabilities: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST)))
