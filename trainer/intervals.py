"""How sure a measurement on so many rows is: bootstrap intervals, and what chance does to calibration."""

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats, expected_calibration_error
from drift.performance import mean_over_classes
from trainer.metrics import confusion

Interval = tuple[float, float]
_RESAMPLES = 2000
_SIMULATIONS = 300


def metric_intervals(
    probabilities: Floats, truth: npt.NDArray[np.integer], seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Bootstrap percentile intervals of accuracy, macro-F1, macro-precision and macro-recall.

    Drawing rows with replacement is drawing cells of the confusion matrix from a multinomial distribution.
    Efron, Tibshirani: An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        probabilities: float64 (rows, classes).
        truth: integers (rows).
        seed: Of the resampling.
        level: Share of the resamples inside.
    """
    if len(truth) == 0:
        return {}
    classes = probabilities.shape[1]
    counts = confusion(truth, probabilities.argmax(axis=1), classes).ravel()
    drawn = np.random.default_rng(seed).multinomial(len(truth), counts / counts.sum(), _RESAMPLES)
    drawn = drawn.reshape(_RESAMPLES, classes, classes)  # (resamples, true class, predicted class)
    hits = drawn.diagonal(axis1=1, axis2=2).astype(float)
    true, said = drawn.sum(axis=2), drawn.sum(axis=1)
    samples = {
        "accuracy": hits.sum(axis=1) / len(truth),
        "macro_f1": mean_over_classes(2 * hits / np.maximum(1, true + said), true),
        "macro_precision": mean_over_classes(hits / np.maximum(1, said), true),
        "macro_recall": mean_over_classes(hits / np.maximum(1, true), true),
    }
    tail = 50 * (1 - level)
    return {
        name: (float(np.percentile(values, tail)), float(np.percentile(values, 100 - tail)))
        for name, values in samples.items()
    }


def calibration_limit(probabilities: Floats, seed: int = 0, level: float = 0.95) -> float:
    """The calibration error that a perfectly calibrated model stays under with this probability.

    Its error is not 0 on finitely many rows. Labels are drawn from the probabilities themselves: a model that
    gave these and was right about them shows such errors.
    Vaicenavicius et al.: Evaluating model calibration in classification (AISTATS 2019).

    Args:
        probabilities: float64 (rows, classes).
        seed: Of the simulation.
        level: Share of the simulations under the limit.
    """
    random = np.random.default_rng(seed)
    cumulated = probabilities.cumsum(axis=1)[:, :-1]
    errors = [
        expected_calibration_error(
            probabilities, (random.random((len(probabilities), 1)) > cumulated).sum(axis=1)
        )
        for _ in range(_SIMULATIONS)
    ]
    return float(np.quantile(errors, level)) if len(probabilities) else 0.0
