"""Drift reports over time, one report, and its new reviews for the annotation queue."""

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from starlette.responses import Response

from console.access import Actor, Operator, Parts, Viewer, log_of
from console.drift_reports.drawn import DrawnReports
from console.drift_reports.wording import headline, in_words, strongest_finding
from console.parts import ConsoleParts
from console.problems import Missing
from console.rendering import done, page
from console.review_query import ReviewQuery
from reviews.account import LONGEST_REASON
from reviews.drift import DriftReport, Verdict, to_queue
from reviews.errors import WrongUse
from storage.drift_reports import DriftReportStore
from storage.labels.queue_contents import QueueContents

router = APIRouter()

PAGE = 50
MOST_QUEUED = 1_000


@router.get("/drift")
def list_reports(
    request: Request,
    parts: Parts,
    _who: Viewer,
    task: Annotated[str | None, Query(max_length=256)] = None,
    verdict: Annotated[Verdict | None, Query()] = None,
    before: Annotated[int | None, Query(ge=1, lt=2**31)] = None,
) -> Response:
    """The reports so far, the newest first."""
    found = DriftReportStore(parts.database).latest(task, verdict, PAGE + 1, before)
    values = {
        "reports": [(report, headline(report), _strongest(report)) for report in found[:PAGE]],
        "task": task,
        "tasks": parts.tasks,
        "verdict": verdict,
        "request_before": before,
        "older": found[PAGE - 1].id if len(found) > PAGE else None,
    }
    return page(request, "drift.html", values)


@router.get("/drift/{report_id}")
def show_report(request: Request, parts: Parts, _who: Viewer, report_id: int) -> Response:
    """One report."""
    report = find_report(parts, report_id)
    drawn: DrawnReports = request.app.state.drawn_reports
    values = {
        **drawn.values(report),
        "is_file": False,
        "queueable": min(MOST_QUEUED, len(report.to_label)),
        "suggested": min(parts.drift.queue_reviews, len(report.to_label)),
        "one": lambda review_id: ReviewQuery(task=report.windows.task, id=review_id).address("/reviews/one"),
    }
    return page(request, "drift_report.html", values)


@router.post("/drift/{report_id}/queue")
def queue_reviews(
    parts: Parts,
    who: Operator,
    report_id: int,
    *,
    count: Annotated[int, Form(ge=1, le=MOST_QUEUED)],
    reason: Annotated[str, Form(max_length=LONGEST_REASON)] = "",
) -> Response:
    """Queue the new reviews of a report to be labelled, as ``reviewloop drift report --queue`` does."""
    queued = queue_new_reviews(parts, find_report(parts, report_id), count, who, reason)
    return done(f"/drift/{report_id}", f"{queued:,} reviews were queued to be labelled.")


def _strongest(report: DriftReport) -> str:
    finding = strongest_finding(report)
    return in_words(finding) if finding else ""


def find_report(parts: ConsoleParts, report_id: int) -> DriftReport:
    """One report.

    Raises:
        Missing: If there is none of this number.
    """
    found = DriftReportStore(parts.database).get(report_id) if 0 < report_id < 2**31 else None
    if found is None:
        raise Missing(f"There is no drift report {report_id}.")
    return found


def queue_new_reviews(parts: ConsoleParts, report: DriftReport, count: int, who: Actor, reason: str) -> int:
    """Queue at most so many of a report's new reviews; how many are new in the queue, or further up.

    Raises:
        WrongUse: If the report has none.
    """
    items = to_queue(report, count)
    if not items:
        raise WrongUse(f"Report {report.id} names no reviews to label: its verdict is '{report.verdict}'.")
    subject = f"drift report {report.id}"
    with log_of(parts).decision(who.name, "drift.queue", subject, reason=reason, address=who.address):
        return QueueContents(parts.database).add(items)
