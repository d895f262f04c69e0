"""How good predictions are: accuracy, macro-F1, per-class precision and recall. Pure numpy."""

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats, expected_calibration_error
from drift.performance import mean_over_classes


def confusion(
    truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int
) -> npt.NDArray[np.int64]:
    """int64 (classes, classes): rows are true classes, columns predicted ones."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def f1_scores(counts: npt.NDArray[np.int64]) -> Floats:
    """float64 (classes): harmonic mean of precision and recall; 0 for a class neither seen nor predicted."""
    hits = np.diag(counts).astype(float)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0))


def evaluate(probabilities: Floats, truth: npt.NDArray[np.integer]) -> dict[str, float]:
    """Accuracy, macro-F1, macro-precision, macro-recall and expected calibration error, each in [0, 1].

    What is called macro is the mean over the classes that occur among the rows.

    Args:
        probabilities: float64 (rows, classes).
        truth: integers (rows), the true classes.
    """
    counts = confusion(truth, probabilities.argmax(axis=1), probabilities.shape[1])
    hits, true, said = np.diag(counts), counts.sum(axis=1).astype(float), counts.sum(axis=0)
    return {
        "accuracy": float(hits.sum() / max(1, counts.sum())),
        "macro_f1": float(mean_over_classes(f1_scores(counts), true)),
        "macro_precision": float(mean_over_classes(hits / np.maximum(1, said), true)),
        "macro_recall": float(mean_over_classes(hits / np.maximum(1, true), true)),
        "calibration_error": expected_calibration_error(probabilities, truth),
    }
