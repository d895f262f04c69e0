"""Logits to predictions: calibrated probabilities, margin, entropy; and the temperature that calibrates.

Temperature scaling: Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks (ICML 2017).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reviews.prediction import Prediction

Floats = npt.NDArray[np.float64]
_GOLDEN = (5**0.5 - 1) / 2


def to_predictions(
    logits: npt.NDArray[np.float32],
    *,
    task: str,
    labels: Sequence[str],
    temperature: float,
    truncated: npt.NDArray[np.bool_],
    adapter_version: str,
) -> list[Prediction]:
    """One prediction per row of logits.

    Args:
        logits: float32 (rows, labels).
        task: The adapter's task.
        labels: Names of the columns.
        temperature: What the logits are divided by.
        truncated: bool (rows).
        adapter_version: Whose logits they are.
    """
    return from_probabilities(
        softmax(logits, temperature),
        task=task,
        labels=labels,
        truncated=truncated,
        adapter_version=adapter_version,
    )


def from_probabilities(
    probabilities: Floats,
    *,
    task: str,
    labels: Sequence[str],
    truncated: npt.NDArray[np.bool_],
    adapter_version: str,
) -> list[Prediction]:
    """One prediction per row of probabilities: float64 (rows, labels), rows sum to 1."""
    if len(probabilities) == 0:
        return []
    best = probabilities.argmax(axis=1).tolist()
    columns = zip(
        probabilities.tolist(), best, margins(probabilities).tolist(), entropies(probabilities).tolist(),
        truncated.tolist(), strict=True,
    )  # fmt: skip
    return [
        Prediction(task, labels[top], row[top], tuple(row), margin, entropy, cut, adapter_version)
        for row, top, margin, entropy, cut in columns
    ]


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Probabilities: float64 (rows, labels), rows sum to 1, from logits of the same shape."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def margins(probabilities: Floats) -> Floats:
    """float64 (rows): the greatest probability less the second greatest."""
    top_two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(top_two[:, 1] - top_two[:, 0])


def entropies(probabilities: Floats) -> Floats:
    """float64 (rows): Shannon entropy in nats; a probability of 0 adds nothing."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(np.maximum(0.0, -(probabilities * logs).sum(axis=1)))


def fit_temperature(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], low: float = 0.05, high: float = 20.0
) -> float:
    """The temperature that makes the true labels most likely, within bounds.

    Args:
        logits: (rows, labels), of rows that were not trained on.
        labels: integers (rows), the true classes.
        low: Least temperature.
        high: Greatest temperature.

    Returns:
        A number to divide logits by; 1.0 without rows.
    """
    if len(labels) == 0:
        return 1.0
    # The likelihood is convex in 1/T, hence has one minimum in log T too: golden-section search finds it.
    left, right = np.log(low), np.log(high)
    while right - left > 1e-5:
        inner = right - _GOLDEN * (right - left)
        outer = left + _GOLDEN * (right - left)
        if negative_log_likelihood(logits, labels, np.exp(inner)) < negative_log_likelihood(
            logits, labels, np.exp(outer)
        ):
            right = outer
        else:
            left = inner
    return float(np.exp((left + right) / 2))


def negative_log_likelihood(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], temperature: float
) -> float:
    """Mean negative log-likelihood of the true labels, in nats."""
    scaled = np.asarray(logits, np.float64) / temperature
    top = scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return float(np.mean(log_sum - scaled[np.arange(len(labels)), labels]))


def expected_calibration_error(
    probabilities: Floats, labels: npt.NDArray[np.integer], weights: Floats | None = None, bins: int = 15
) -> float:
    """Mean gap between confidence and accuracy over equally wide bins of confidence, in [0, 1].

    Args:
        probabilities: float64 (rows, classes).
        labels: integers (rows), the true classes.
        weights: float64 (rows), positive: how much each row counts; None: each the same.
        bins: How many.
    """
    if not len(labels):
        return 0.0
    confidence = probabilities.max(axis=1)
    gaps = confidence - (probabilities.argmax(axis=1) == labels)
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    counting = np.ones(len(labels)) if weights is None else weights
    return float(np.abs(np.bincount(bin_of, counting * gaps, bins)).sum() / counting.sum())
