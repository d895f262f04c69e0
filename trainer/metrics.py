"""How good predictions are, and how sure that is: metrics, bootstrap intervals, calibration by chance."""

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats, expected_calibration_error
from drift.performance import mean_over_classes

Interval = tuple[float, float]
_RESAMPLES = 2000
_SIMULATIONS = 300
_TINY = 1e-12


def evaluate(
    probabilities: Floats, truth: npt.NDArray[np.integer], weights: Floats | None = None
) -> dict[str, float]:
    """Accuracy, macro-F1, macro-precision, macro-recall and expected calibration error, each in [0, 1].

    What is called macro is the mean over the classes that occur among the rows.

    Args:
        probabilities: float64 (rows, classes).
        truth: integers (rows), the true classes.
        weights: float64 (rows), positive: how much each row counts; None: each the same.
    """
    counts = confusion(truth, probabilities.argmax(axis=1), probabilities.shape[1], weights)
    hits, true, said = np.diag(counts), counts.sum(axis=1).astype(float), counts.sum(axis=0)
    return {
        "accuracy": float(hits.sum() / max(_TINY, counts.sum())),
        "macro_f1": float(mean_over_classes(f1_scores(counts), true)),
        "macro_precision": float(mean_over_classes(hits / np.maximum(_TINY, said), true)),
        "macro_recall": float(mean_over_classes(hits / np.maximum(_TINY, true), true)),
        "calibration_error": expected_calibration_error(probabilities, truth, weights),
    }


def confusion(
    truth: npt.NDArray[np.integer],
    predicted: npt.NDArray[np.integer],
    classes: int,
    weights: Floats | None = None,
) -> Floats:
    """float64 (classes, classes): rows are true classes, columns predicted ones; each row by its weight."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (truth, predicted), 1.0 if weights is None else weights)
    return counts


def f1_scores(counts: Floats) -> Floats:
    """float64 (classes): harmonic mean of precision and recall; 0 for a class neither seen nor predicted."""
    hits = np.diag(counts).astype(float)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    return np.asarray(np.divide(2 * hits, total, out=np.zeros_like(hits), where=total > 0))


def standard_error_of_difference(
    first: npt.NDArray[np.integer], second: npt.NDArray[np.integer], truth: npt.NDArray[np.integer]
) -> float:
    """The standard error of the difference in macro-F1 between two predictions of the same rows.

    By the infinitesimal jackknife: a row counts by what a little more weight of it would change. Efron: The
    Jackknife, the Bootstrap and Other Resampling Plans (1982), chapter 6.

    Args:
        first: integers (rows), predicted classes.
        second: The same.
        truth: integers (rows), the true classes.
    """
    changes = _changes_of_macro_f1(first, truth) - _changes_of_macro_f1(second, truth)
    return float(np.sqrt((changes**2).sum()))


def _changes_of_macro_f1(predicted: npt.NDArray[np.integer], truth: npt.NDArray[np.integer]) -> Floats:
    """float64 (rows): the derivative of macro-F1 by each row's weight; the sum is 0."""
    known = np.unique(truth)
    is_true, is_said = truth[:, None] == known, predicted[:, None] == known  # (rows, classes)
    total = is_true.sum(axis=0) + is_said.sum(axis=0)
    f1 = 2 * (is_true & is_said).sum(axis=0) / total
    changes = (2.0 * (is_true & is_said) - f1 * (1.0 * is_true + is_said)) / total
    return np.asarray(changes.sum(axis=1) / max(1, len(known)))


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
