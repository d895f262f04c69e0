"""Pictures of a run as PNG: confusion matrix, reliability diagram, course of the training, a sweep."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.calibration import Floats

_BINS = 10


def confusion_png(counts: npt.NDArray[np.int64], names: Sequence[str], title: str) -> bytes:
    """True classes down, predicted ones across; colour is the share of the true class.

    Args:
        counts: int64 (classes, classes).
        names: Of the classes.
        title: Above it.
    """
    figure, axes = _figure(1.6 + len(names), 1.2 + len(names))
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    return _png(figure)


def reliability_png(probabilities: Floats, truth: npt.NDArray[np.integer], title: str) -> bytes:
    """Accuracy over confidence: on the diagonal, 70 % sure means right in 70 of 100 cases.

    Args:
        probabilities: float64 (rows, classes), calibrated.
        truth: integers (rows).
        title: Above it.
    """
    figure, (upper, lower) = _figure(4.5, 5.5, rows=2)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    filled = [number for number in range(_BINS) if (bin_of == number).any()]
    means = [confidence[bin_of == number].mean() for number in filled]
    shares = [right[bin_of == number].mean() for number in filled]
    # One standard error of a share; what a bin of few rows says is not much.
    errors = [
        (share * (1 - share) / (bin_of == number).sum()) ** 0.5
        for share, number in zip(shares, filled, strict=True)
    ]
    upper.plot([0, 1], [0, 1], color="grey", linestyle="dotted", label="perfect")
    upper.errorbar(means, shares, yerr=errors, marker="o", capsize=3, label="measured, ± 1 standard error")
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy", title=title)
    upper.legend(loc="upper left")
    lower.hist(confidence, bins=_BINS, range=(0, 1), color="lightgrey", edgecolor="grey")
    lower.set(xlim=(0, 1), xlabel="confidence", ylabel="rows")
    return _png(figure)


def course_png(history: Sequence[Mapping[str, float]]) -> bytes:
    """Training loss and validation macro-F1 by epoch."""
    figure, (upper, lower) = _figure(4.5, 4.5, rows=2)
    epochs = range(1, len(history) + 1)
    upper.plot(epochs, [epoch["loss"] for epoch in history], marker="o")
    upper.set(ylabel="training loss", xticks=epochs)
    lower.plot(epochs, [epoch["macro_f1"] for epoch in history], marker="o", label="macro-F1")
    lower.plot(epochs, [epoch["accuracy"] for epoch in history], marker="o", label="accuracy")
    lower.set(ylabel="validation", xlabel="epoch", xticks=epochs)
    lower.legend()
    return _png(figure)


def ranking_png(names: Sequence[str], values: Sequence[float], label: str) -> bytes:
    """One bar for each of several settings, in the order given, the first at the top.

    Args:
        names: Of the settings.
        values: What each reached.
        label: What the values are.
    """
    figure, axes = _figure(7, 1.2 + 0.35 * len(names))
    axes.barh(range(len(names)), values, color="steelblue")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    spread = (max(values) - min(values)) or 0.01
    axes.set(xlabel=label, xlim=(max(0, min(values) - spread), min(1, max(values) + 0.2 * spread)))
    return _png(figure)


def _figure(width: float, height: float, rows: int = 1) -> tuple[Any, Any]:
    # Not pyplot: it keeps every figure, and picks a window system.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, 1, height_ratios=None if rows == 1 else [3] + [1] * (rows - 1))


def _png(figure: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()
