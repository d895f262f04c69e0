"""What audit labels say of the two windows of a drift report."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from drift.audited import AuditAnswers, audited_performance, stored_predictions
from drift.rows import Floats, Integers
from reviews.drift import AuditedPrediction, DriftReport, PredictedLabel
from storage.windows import WindowStore

_STORED = 2_000
"""So many stored predictions of a window stand for all of them."""


def with_audit(windows: WindowStore, report: DriftReport) -> DriftReport:
    """The report with its adapter's accuracy and macro-F1 by the audit labels that exist by now.

    It is computed anew each time, since people answer after a report was stored.
    """
    about = report.windows
    answers = windows.audited(about.task, report.measures["adapter"], about.reference_since, about.until)
    audited = {
        "reference": _audited(windows, report, answers, about.reference_since, about.reference_until),
        "window": _audited(windows, report, answers, about.since, about.until),
    }
    return replace(report, measures={**report.measures, "audited": audited})


def _audited(
    windows: WindowStore,
    report: DriftReport,
    answers: Sequence[AuditedPrediction],
    since: datetime,
    until: datetime,
) -> dict[str, Any]:
    labels, task, version = report.measures["labels"], report.windows.task, report.measures["adapter"]
    within = [one for one in answers if since <= one.scored_at < until]
    known = [one for one in within if one.truth in labels and one.label in labels]
    span = windows.span(task, version, since, until) if known else None
    if span is None:
        return {"labels": 0, "accuracy": None, "macro_f1": None}
    truth = np.array([labels.index(one.truth) for one in known], np.int64)
    weights = np.array([one.draw_weight for one in known], np.float64)
    stored = windows.predicted(span, _STORED)
    found = audited_performance(
        AuditAnswers(truth, _predicted(known, labels), _probabilities(known, labels), weights),
        stored_predictions(_probabilities(stored, labels), _predicted(stored, labels)),
    )
    accuracy, macro_f1 = found.accuracy, found.macro_f1
    return {
        "labels": found.labels,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "macro_f1": macro_f1.value,
        "macro_f1_low": macro_f1.low,
        "macro_f1_high": macro_f1.high,
    }


def _predicted(rows: Sequence[AuditedPrediction | PredictedLabel], labels: Sequence[str]) -> Integers:
    return np.array([labels.index(one.label) for one in rows], np.int64)


def _probabilities(rows: Sequence[AuditedPrediction | PredictedLabel], labels: Sequence[str]) -> Floats:
    return np.array([one.probabilities for one in rows], np.float64).reshape(-1, len(labels))
