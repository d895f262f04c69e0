"""Wiring of drift reports: stored rows, reporter, alerts and annotation queue."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from broker.publisher import publish_alert
from reviewloop.drift_reports.reporter import Reporter
from reviewloop.operations.alerts import Alerts, Channel, Webhook
from reviewloop.settings import Settings
from reviewloop.wiring.registry import open_database
from reviewloop.wiring.topics import review_topics
from reviews.drift import DriftReport, to_queue
from reviews.errors import WrongUse
from storage.database import Database
from storage.drift_reports import DriftReportStore
from storage.labels.queue_contents import QueueContents
from storage.windows import WindowStore


@dataclass(frozen=True, slots=True)
class DriftParts:
    """What reports of one task need.

    Attributes:
        windows: Reads stored rows.
        reports: Stores reports, and knows which of them were not announced yet.
        reporter: Makes reports of the task.
        alerts: Announces reports.
        queue: Takes reviews to be labelled.
        queue_reviews: How many of them an alarm queues.
    """

    windows: WindowStore
    reports: DriftReportStore
    reporter: Reporter
    alerts: Alerts
    queue: QueueContents
    queue_reviews: int

    def announce(self) -> int:
        """Queue the reviews that each new report of drift wants labelled, and send its alert.

        Returns:
            How many reports were announced.

        Raises:
            ReviewLoopError: If an alert could not be sent; the others were, and the next call tries again.
        """
        return self.reports.announce(self._announce_one)

    def _announce_one(self, report: DriftReport) -> None:
        self.queue.add(to_queue(report, self.queue_reviews))
        self.alerts.send(report)


@contextmanager
def open_drift_parts(settings: Settings, task: str) -> Iterator[DriftParts]:
    """The parts for one task; their database is closed at the end.

    Raises:
        WrongUse: If no database is configured, or alerts would go to a topic that is read.
    """
    with open_database(settings) as database:
        yield drift_parts(database, settings, task)


def drift_parts(database: Database, settings: Settings, task: str) -> DriftParts:
    """The parts for one task, on an open database.

    Raises:
        WrongUse: If alerts would go to a topic that is read.
    """
    windows, reports = WindowStore(database), DriftReportStore(database)
    return DriftParts(
        windows,
        reports,
        Reporter(windows, reports, settings.drift, task, settings.trainer.nightly.shares),
        Alerts(dict(_channels(settings))),
        QueueContents(database),
        settings.drift.queue_reviews,
    )


def _channels(settings: Settings) -> Iterator[tuple[str, Channel]]:
    """Kafka and the webhook, each where it is configured."""
    topic = settings.alerts.topic
    if topic == settings.kafka.labels_topic or topic in review_topics(settings).names:
        raise WrongUse(f"Alerts cannot go to '{topic}', which is read: name another topic in alerts.topic.")
    if settings.kafka.bootstrap_servers is not None:
        yield "kafka", lambda name, body: publish_alert(settings.kafka, topic, name, body)
    if settings.alerts.webhook_url is not None:
        yield "webhook", Webhook(settings.alerts).send
