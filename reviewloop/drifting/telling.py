"""From stored reports of drift to everybody who is to act on them."""

from reviewloop.alerts.sending import Alerts
from reviewloop.drifting.queueing import to_queue
from reviews.drift import DriftReport
from storage.drift_reports import DriftReportStore
from storage.label_tasks import LabelTaskStore


def tell(reports: DriftReportStore, queue: LabelTaskStore, alerts: Alerts, queue_reviews: int) -> int:
    """Queue what each new report of drift wants labelled, and tell people of it.

    Args:
        reports: Knows which reports nobody was told of yet.
        queue: Takes reviews of the new region; those that were queued before stay as they are.
        alerts: Tells people.
        queue_reviews: At most so many reviews of each report.

    Returns:
        How many reports.

    Raises:
        ReviewLoopError: If one could not be told of; the others were, and that one is later.
    """

    def tell_one(report: DriftReport) -> None:
        queue.add(to_queue(report, queue_reviews))
        alerts.send(report)

    return reports.tell(tell_one)
