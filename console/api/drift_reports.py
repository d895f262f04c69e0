"""Drift reports for programs."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from console.access import Operator, Parts, Viewer
from console.api.bodies import Body
from console.api.paging import Cursor, Limit, Piece, from_cursor, to_cursor
from console.drift_reports.wording import headline
from console.routes.drift import MOST_QUEUED, find_report, queue_new_reviews
from reviews.account import LONGEST_REASON
from reviews.drift import DriftReport, Verdict
from storage.drift_reports import DriftReportStore

router = APIRouter(tags=["drift"])


class ApiDriftReport(BaseModel):
    """One evaluation of a window of the stream."""

    id: int
    task: str
    verdict: Verdict
    headline: str
    since: datetime
    until: datetime
    reviews: int
    created_at: datetime | None
    to_label: int = Field(description="How many of its new reviews can be queued to be labelled.")


class ApiWholeReport(ApiDriftReport):
    """With all measures, as `reviewloop drift report --format json` prints them."""

    measures: dict[str, Any]
    attribution: dict[str, Any]


class ApiQueueOrder(Body):
    """How many of the new reviews to queue, and why."""

    count: int = Field(ge=1, le=MOST_QUEUED)
    reason: str = Field(default="", max_length=LONGEST_REASON)


class ApiQueued(BaseModel):
    """How many items are new in the queue, or further up."""

    queued: int


@router.get("/drift-reports")
def read_reports(
    parts: Parts,
    _who: Viewer,
    task: Annotated[str | None, Query(max_length=256)] = None,
    verdict: Annotated[Verdict | None, Query()] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Piece[ApiDriftReport]:
    """The reports, the newest first."""
    position = from_cursor(cursor, (int,))
    before = position[0] if position else None
    found = DriftReportStore(parts.database).latest(task, verdict, limit + 1, before)
    return Piece[ApiDriftReport](
        items=[ApiDriftReport(**_summary(report)) for report in found[:limit]],
        next=to_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/drift-reports/{report_id}")
def read_report(parts: Parts, _who: Viewer, report_id: int) -> ApiWholeReport:
    """One report."""
    report = find_report(parts, report_id)
    whole = {"measures": dict(report.measures), "attribution": dict(report.attribution)}
    return ApiWholeReport(**_summary(report), **whole)


@router.post("/drift-reports/{report_id}/queue")
def queue_reviews(parts: Parts, who: Operator, report_id: int, order: ApiQueueOrder) -> ApiQueued:
    """Queue new reviews of a report to be labelled."""
    report = find_report(parts, report_id)
    return ApiQueued(queued=queue_new_reviews(parts, report, order.count, who, order.reason))


def _summary(report: DriftReport) -> dict[str, Any]:
    return {
        "id": report.id,
        "task": report.windows.task,
        "verdict": report.verdict,
        "headline": headline(report),
        "since": report.windows.since,
        "until": report.windows.until,
        "reviews": report.reviews,
        "created_at": report.created_at,
        "to_label": len(report.to_label),
    }
