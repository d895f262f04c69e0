"""What a finished run leaves for people: pictures and one HTML page."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer import html_report as html
from trainer.fitting.outputs import write_whole
from trainer.plots import confusion_png, course_png, reliability_png

if TYPE_CHECKING:
    from trainer.fitting.run import Answers

PAGE = "report.html"


def write_report(directory: Path, record: Mapping[str, Any], answers: Mapping[str, "Answers"]) -> None:
    """Three pictures (confusion matrix, reliability, course of the training) and a page that holds them.

    Args:
        directory: The run's directory.
        record: See :func:`trainer.fitting.run_directory.record`.
        answers: By split; pictures are of the last one.

    Raises:
        TrainingStopped: If the disk refuses.
    """
    split, said = list(answers.items())[-1]
    counts = np.array(record["confusion"][split])
    pictures = {
        "confusion_matrix.png": confusion_png(counts, record["labels"], f"{split} rows"),
        "reliability.png": reliability_png(said.probabilities, said.truth, f"{split} rows"),
        "course.png": course_png(record["epochs"]),
    }
    for name, content in pictures.items():
        write_whole(directory / name, content)
    write_whole(directory / PAGE, _page(record, split, pictures))


def metric_rows(metrics: Mapping[str, float], split: str) -> list[tuple[str, float, str]]:
    """Name, value and 95 % interval (where there is one) of a split's metrics."""
    rows = []
    for name in ("accuracy", "macro_f1", "macro_precision", "macro_recall", "calibration_error"):
        value = metrics[f"{split}_{name}"]
        low, high = metrics.get(f"{split}_{name}_low"), metrics.get(f"{split}_{name}_high")
        interval = f"{low:.4f} to {high:.4f}" if low is not None and high is not None else ""
        limit = metrics.get(f"{split}_calibration_limit")
        if name == "calibration_error" and limit is not None:
            interval = f"perfect calibration stays under {limit:.4f}"
        rows.append((name.replace("_", " "), value, interval))
    return rows


def _page(record: Mapping[str, Any], split: str, pictures: Mapping[str, bytes]) -> bytes:
    epochs = [(number, *epoch.values()) for number, epoch in enumerate(record["epochs"], start=1)]
    about = {"base": record["base"]["name"], "epoch kept": record["epoch_kept"]}
    about |= {"temperature": record["temperature"], **record["resources"]}
    data = [(name, rows["rows"], rows["sha256"][:12]) for name, rows in record["data"].items()]
    sections = [
        (f"On the {split} rows", html.table(("", "value", "95 %"), metric_rows(record["metrics"], split))),
        ("Confusion matrix", html.picture(pictures["confusion_matrix.png"], "confusion matrix")),
        ("Reliability", html.picture(pictures["reliability.png"], "accuracy over confidence")),
        ("Epochs", html.table(("epoch", *record["epochs"][0]), epochs)),
        ("Course", html.picture(pictures["course.png"], "loss and validation metrics by epoch")),
        ("Run", html.pairs(about)),
        ("Data", html.table(("split", "rows", "sha256"), data)),
        ("Recipe", html.pairs(record["recipe"])),
    ]
    return html.page(record["adapter"].get("version") or "Full fine-tuning", sections)
