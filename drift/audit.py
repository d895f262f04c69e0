"""How good the classifier is on the audit slice, which people label whatever the classifier says."""

from dataclasses import dataclass

import numpy as np

from drift.expected_performance import performance
from drift.rows import Floats

_Z = 1.959963985  # 95 %


@dataclass(frozen=True, slots=True)
class AuditedAccuracy:
    """Accuracy on audit labels.

    Attributes:
        labels: How many there are.
        accuracy: Share of right answers; None without labels.
        low: Lower end of the 95 % interval.
        high: Upper end.
        macro_f1: Mean F1 over the classes that occur; None without labels.
    """

    labels: int
    accuracy: float | None
    low: float
    high: float
    macro_f1: float | None


def audited_accuracy(confusion: Floats) -> AuditedAccuracy:
    """Accuracy and macro-F1 on the labelled reviews of the audit slice.

    Args:
        confusion: float64 (classes, classes): how many there are, true classes down, predicted ones across.
    """
    labels = int(confusion.sum())
    if not labels:
        return AuditedAccuracy(0, None, 0.0, 1.0, None)
    reached = performance(confusion)
    low, high = wilson_interval(int(np.diag(confusion).sum()), labels)
    return AuditedAccuracy(labels, reached.accuracy, low, high, reached.macro_f1)


def wilson_interval(hits: int, trials: int, z: float = _Z) -> tuple[float, float]:
    """The score interval of a share, honest for few trials and near 0 and 1 too.

    Wilson: Probable inference, the law of succession, and statistical inference (JASA 1927).

    Args:
        hits: How often it happened.
        trials: Of how many times; at least 1.
        z: The normal quantile of the level.
    """
    share = hits / trials
    centre = share + z * z / (2 * trials)
    reach = z * (share * (1 - share) / trials + z * z / (4 * trials * trials)) ** 0.5
    scale = 1 + z * z / trials
    return max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale)
