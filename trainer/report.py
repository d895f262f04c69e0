"""The report of a training run: charts and one HTML page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pages import charts
from pages.rendering import render
from trainer.fitting.fit_data import SplitPredictions
from trainer.fitting.outputs import write_whole

PAGE = "report.html"

_TEMPLATE = Path(__file__).with_name("report.html")
_METRICS = ("accuracy", "macro_f1", "macro_precision", "macro_recall", "calibration_error")


def write_report(
    directory: Path, record: Mapping[str, Any], predictions: Mapping[str, SplitPredictions]
) -> None:
    """Three pictures (confusion matrix, reliability, course of the training) and a page that holds them.

    Args:
        directory: The run's directory.
        record: See :func:`trainer.fitting.run_directory.record`.
        predictions: By split; pictures are of the last one.

    Raises:
        TrainingStopped: If the disk refuses.
    """
    split, said = list(predictions.items())[-1]
    labels, counts = record["labels"], record["confusion"][split]
    pictures = {
        "confusion_matrix": charts.confusion_matrix(np.array(counts), labels, f"{split} rows"),
        "reliability": charts.reliability(said.probabilities, said.truth, f"{split} rows"),
        "course": charts.training_course(record["epochs"]),
    }
    for name, picture in pictures.items():
        write_whole(directory / f"{name}.png", picture.png())
    about = {"base": record["base"]["name"], "epoch kept": record["epoch_kept"]}
    about |= {"temperature": record["temperature"], **record["resources"]}
    values = {
        "record": record,
        "split": split,
        "metrics": metric_rows(record["metrics"], split),
        "confusion": [(label, *row) for label, row in zip(labels, counts, strict=True)],
        "epochs": [(number, *epoch.values()) for number, epoch in enumerate(record["epochs"], start=1)],
        "about": about,
        **pictures,
    }
    write_whole(directory / PAGE, render(_TEMPLATE, values).encode())


def metric_rows(metrics: Mapping[str, float], split: str) -> list[tuple[str, float, str]]:
    """Name, value and 95 % interval (where there is one) of a split's metrics."""
    rows = []
    for name in _METRICS:
        low, high = metrics.get(f"{split}_{name}_low"), metrics.get(f"{split}_{name}_high")
        interval = f"{low:.4f} to {high:.4f}" if low is not None and high is not None else ""
        limit = metrics.get(f"{split}_calibration_limit")
        if name == "calibration_error" and limit is not None:
            interval = f"perfect calibration stays under {limit:.4f}"
        rows.append((name.replace("_", " "), metrics[f"{split}_{name}"], interval))
    return rows
