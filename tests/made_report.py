"""A drift report of made-up reviews: clothes at first, then films."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

from drift.evaluation import evaluate
from drift.settings import DriftSettings
from drift.summary import explain, summarise
from reviews.drift import DriftReport, Windows
from tests.unit.drift.made_up import CLASSES, clothes, films

START = datetime(2026, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)


def made_report(task: str, adapter: str, product: str, **attribution: Any) -> DriftReport:
    """A report that says drift.

    Args:
        task: Its task.
        adapter: Which adapter predicted.
        product: What every second review of the window is about.
        attribution: In place of what was found.
    """
    window = films(300, first=600, positive=0.4)
    window = dataclasses.replace(window, products=[product, "film"] * 150)
    reference = clothes(600)
    found = evaluate(reference, window, DriftSettings(reference_reviews=500))
    measures = summarise(found, reference, window) | {
        "adapter": adapter,
        "alarm": None,
        "labels": list(CLASSES),
        "stretch_seconds": 3600.0,
        "course": [
            {
                "starts_at": (START + number * _HOUR).isoformat(), "reviews": 10 + number, "confidence": 0.8,
                "characters": 100.0 + number, "classes": {"negative": 0.25, "positive": 0.75},
                **({} if number == 3 else {"unknown_words": 0.1, "expected_accuracy": 0.7}),
            }
            for number in range(8)
        ],
    }  # fmt: skip
    windows = Windows(task, START, START + 4 * _HOUR, START + 4 * _HOUR, START + 8 * _HOUR)
    return DriftReport(windows, 300, "drift", measures, explain(found, window) | attribution, id=3)
