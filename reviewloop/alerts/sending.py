"""One alert to everybody who is to know; the drift report is the outbox."""

from collections.abc import Callable, Mapping

import structlog

from reviewloop.alerts.message import alert_id, to_alert, to_body
from reviews.drift import DriftReport
from reviews.errors import ReviewLoopError, Unavailable

log = structlog.get_logger()

Channel = Callable[[str, bytes], None]
"""Sends an alert's id and body, and returns when it is there."""


class Alerts:
    """Sends alerts by every channel; each goes on when another fails.

    What one channel has had is not sent there again while this process tries the others. A process that
    starts anew sends by all channels once more: at least once, with the same id.

    Args:
        channels: By name.
    """

    def __init__(self, channels: Mapping[str, Channel]) -> None:
        self._channels = dict(channels)
        self._done: set[tuple[int | None, str]] = set()

    def send(self, report: DriftReport) -> None:
        """Tell everybody of a report.

        Raises:
            Unavailable: If a channel does not take the alert; the others have it.
        """
        alert = to_alert(report)
        body = to_body(alert)
        if (report.id, "log") not in self._done:
            log.warning(
                "drift", **{name: alert[name] for name in ("id", "task", "adapter", "moved", "since")}
            )
            self._done.add((report.id, "log"))
        failed = []
        for name, send in self._channels.items():
            if (report.id, name) in self._done:
                continue
            try:
                send(alert_id(report), body)
            except ReviewLoopError as err:
                failed.append(f"{name}: {err}")
            else:
                self._done.add((report.id, name))
        if failed:
            raise Unavailable("An alert could not be sent. " + " ".join(failed))
