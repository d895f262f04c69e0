"""Puts the parts of drift together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reviewloop.settings import Settings
from reviewloop.wiring import open_database

if TYPE_CHECKING:
    from reviewloop.alerts.sending import Alerts, Channel
    from reviewloop.drifting.reporting import Reporter
    from reviews.drift import DriftReport
    from storage.database import Database
    from storage.drift_reports import DriftReportStore
    from storage.labels.annotation_queue import LabelTaskStore
    from storage.windows import WindowStore


@dataclass(frozen=True, slots=True)
class Drifting:
    """What the commands need.

    Attributes:
        windows: Reads stored rows.
        reports: Keeps reports, and knows which of them people were not told of.
        reporter: Makes reports of one task.
        alerts: Tells people.
        queue: Takes reviews to be labelled.
        queue_reviews: How many of them an alarm queues.
    """

    windows: "WindowStore"
    reports: "DriftReportStore"
    reporter: "Reporter"
    alerts: "Alerts"
    queue: "LabelTaskStore"
    queue_reviews: int

    def tell(self) -> int:
        """Queue what each new report of drift wants labelled, and tell people of it.

        Returns:
            How many reports.

        Raises:
            ReviewLoopError: If one could not be told of; the others were, and that one is later.
        """
        return self.reports.tell(self._tell_one)

    def _tell_one(self, report: "DriftReport") -> None:
        from reviewloop.drifting.queueing import to_queue

        self.queue.add(to_queue(report, self.queue_reviews))
        self.alerts.send(report)


@contextmanager
def open_drifting(settings: Settings, task: str) -> "Iterator[Drifting]":
    """The parts for one task, their database closed at the end.

    Raises:
        WrongUse: If no database is configured, or alerts would go where reviews are read from.
    """
    with open_database(settings) as database:
        yield drifting_on(database, settings, task)


def drifting_on(database: "Database", settings: Settings, task: str) -> Drifting:
    """The parts for one task, on a database that is open.

    Raises:
        WrongUse: If alerts would go where reviews are read from.
    """
    from reviewloop.alerts.sending import Alerts
    from reviewloop.drifting.reporting import Reporter
    from storage.drift_reports import DriftReportStore
    from storage.labels.annotation_queue import LabelTaskStore
    from storage.windows import WindowStore

    alerts = Alerts(dict(_channels(settings)))
    windows, reports = WindowStore(database), DriftReportStore(database)
    reporter = Reporter(windows, reports, settings.drift, task, settings.trainer.nightly.shares)
    queue = LabelTaskStore(database)
    return Drifting(windows, reports, reporter, alerts, queue, settings.drift.queue_reviews)


def _channels(settings: Settings) -> "Iterator[tuple[str, Channel]]":
    """Kafka and the webhook, each where it is configured."""
    from broker.publisher import publish_alert
    from reviewloop.alerts.webhook import Webhook
    from reviews.errors import WrongUse

    topic = settings.alerts.topic
    if topic in {settings.kafka.reviews_topic, settings.kafka.labels_topic}:
        raise WrongUse(f"Alerts cannot go to '{topic}', which is read: name another topic in alerts.topic.")
    if settings.kafka.bootstrap_servers is not None:
        yield "kafka", lambda name, body: publish_alert(settings.kafka, topic, name, body)
    if settings.alerts.webhook_url is not None:
        yield "webhook", Webhook(settings.alerts).send
