"""Drift reports for pages: their charts are drawn once, their audit labels counted each time."""

import math
from typing import Any

from console.drift_reports.audit import with_audit
from console.drift_reports.page import page_values
from console.drift_reports.wording import accuracy
from console.remembered import Remembered
from reviews.drift import DriftReport
from storage.database import Database
from storage.windows import WindowStore


class DrawnReports:
    """What the template shows of each report; a stored report does not change, its audit labels do.

    Args:
        database: Where from.
    """

    def __init__(self, database: Database) -> None:
        self._windows = WindowStore(database)
        self._drawn: Remembered[dict[str, Any]] = Remembered(math.inf)

    def values(self, report: DriftReport) -> dict[str, Any]:
        """For ``drift_body.html``."""
        values = self._drawn.get(report.id, lambda: self._draw(report))
        audited = with_audit(self._windows, report).measures["audited"]
        return {**values, "audited": {side: accuracy(found) for side, found in audited.items()}}

    def _draw(self, report: DriftReport) -> dict[str, Any]:
        wanted = report.attribution.get("examples", [])
        found = self._windows.by_record(report.windows.task, wanted) if wanted else {}
        values = page_values(report, [found[record] for record in wanted if record in found])
        for charts in ("courses", "shapes"):
            values[charts] = [(name, picture.drawn()) for name, picture in values[charts]]
        return values
