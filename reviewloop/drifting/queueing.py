"""Reviews to label because of a drift, as items of the queue."""

from reviews.drift import DriftReport
from reviews.label_task import NewTask

_STRATEGY = "drift"
_TOP_PRIORITY = 1.0


def to_queue(report: DriftReport, count: int) -> list[NewTask]:
    """At most so many items, the first to be labelled with the greatest priority.

    Args:
        report: With the verdict ``drift``; any other has none.
        count: How many are wanted.
    """
    records = report.to_label[:count]
    return [
        NewTask(record, report.windows.task, "drift", _STRATEGY, _TOP_PRIORITY - rank / (10 * len(records)))
        for rank, record in enumerate(records)
    ]
