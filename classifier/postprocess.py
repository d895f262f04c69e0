"""Logits to predictions: calibrated probabilities, margin, entropy. Pure numpy."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats, softmax
from reviews.prediction import Prediction


def margins(probabilities: Floats) -> Floats:
    """float64 (rows): the greatest probability less the second greatest."""
    top_two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(top_two[:, 1] - top_two[:, 0])


def entropies(probabilities: Floats) -> Floats:
    """float64 (rows): Shannon entropy in nats; a probability of 0 adds nothing."""
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(np.maximum(0.0, -(probabilities * logs).sum(axis=1)))


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
