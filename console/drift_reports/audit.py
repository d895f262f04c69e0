"""What audit labels say of the two windows of a drift report."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import numpy as np

from drift.performance import audited_accuracy
from reviews.drift import DriftReport
from storage.windows import WindowStore


def with_audit(windows: WindowStore, report: DriftReport) -> DriftReport:
    """The report with its adapter's accuracy on the audit labels that exist by now.

    It is computed anew each time, since people answer after a report was stored.
    """
    about = report.windows
    audited = {
        "reference": _audited(windows, report, about.reference_since, about.reference_until),
        "window": _audited(windows, report, about.since, about.until),
    }
    return replace(report, measures={**report.measures, "audited": audited})


def _audited(windows: WindowStore, report: DriftReport, since: datetime, until: datetime) -> dict[str, Any]:
    labels = report.measures["labels"]
    counts = windows.audit_counts(report.windows.task, report.measures["adapter"], since, until)
    known = [[counts.get((truth, predicted), 0) for predicted in labels] for truth in labels]
    return asdict(audited_accuracy(np.array(known, np.float64)))
