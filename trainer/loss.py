"""What a batch costs: cross-entropy with class weights and label smoothing."""

import numpy as np
import numpy.typing as npt
import torch


def class_weights(labels: npt.NDArray[np.integer], classes: int, mode: str) -> npt.NDArray[np.float32]:
    """float32 (classes): what a row of each class weighs; 1 on average over the rows.

    Args:
        labels: integers (rows).
        classes: How many classes there are; one without rows weighs 1.
        mode: ``none`` for equal weights, ``balanced`` for rows / (classes with rows · rows of the class).
    """
    counts = np.bincount(labels, minlength=classes)
    if mode == "none":
        return np.ones(classes, np.float32)
    present = max(1, int((counts > 0).sum()))
    return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 1.0).astype(np.float32)


def summed_loss(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """float32 (): the weighted sum of the rows' cross-entropies, in nats.

    Args:
        logits: (rows, classes).
        targets: int64 (rows).
        weights: float32 (rows).
        smoothing: Share of a label's weight that is spread over all classes.
    """
    each = torch.nn.functional.cross_entropy(
        logits.float(), targets, reduction="none", label_smoothing=smoothing
    )
    return (each * weights).sum()
