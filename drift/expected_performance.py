"""How good the classifier must be if its probabilities mean what they say: no label needed.

Confidence-based performance estimation, as in NannyML: a review predicted with 80 % is right with 80 %, so
the expected confusion matrix is a sum of probabilities. It holds while the classes look as they did; where
texts of another kind come, the probabilities themselves are wrong, and with them this estimate: a drift
alarm says so.
"""

from dataclasses import dataclass

import numpy as np

from drift.rows import Floats, Integers


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
        calibrated: float64 (rows, classes): probabilities that mean what they say, rows sum to 1.
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
