"""Drift alerts: their content, and their delivery to the log, a webhook and a Kafka topic."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

import structlog

from console.drift_reports.wording import headline, since
from reviewloop.integrations.web_api import NoRedirect
from reviewloop.operations.settings import AlertSettings
from reviewloop.terminal import one_line
from reviews.drift import DriftReport
from reviews.errors import ReviewLoopError, Unavailable
from reviews.retry import Retry

_TOP_PARTS = 3
_HARMLESS = str.maketrans("<>@`*_|~", "‹›＠'∗‗¦∼")
"""In a chat, names of labels and tasks call nobody, and are neither links nor markup."""
ID_HEADER = "X-ReviewLoop-Id"
TIMESTAMP_HEADER = "X-ReviewLoop-Timestamp"
SIGNATURE_HEADER = "X-ReviewLoop-Signature"
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0
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


class Webhook:
    """Posts alerts to one address.

    Args:
        settings: The address, the secret and the patience.
        now: Seconds since 1970.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        settings: AlertSettings,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if settings.webhook_url is None:
            raise ValueError("No webhook is configured.")
        self._url = settings.webhook_url.get_secret_value()
        self._settings = settings
        self._now = now
        self._retry = Retry(
            "alert_not_taken",
            "alert_taken",
            longest_seconds=_LONGEST_PAUSE_SECONDS,
            first_seconds=_FIRST_PAUSE_SECONDS,
            wait=sleep,
            attempts=settings.webhook_attempts,
        )
        self._opener = build_opener(NoRedirect)

    def send(self, alert_id: str, body: bytes) -> None:
        """Post an alert; returns when the receiver said that it has it (a status of 200 to 299).

        Raises:
            Unavailable: If it did not after all attempts.
        """
        self._retry(lambda: self._attempt(alert_id, body))

    def _attempt(self, alert_id: str, body: bytes) -> None:
        try:
            self._post(alert_id, body)
        except (URLError, HTTPException, OSError) as err:  # HTTPError is a URLError
            problem = f"status {err.code}" if isinstance(err, HTTPError) else type(err).__name__
            # The host alone: paths of webhooks are often secrets.
            host = urlsplit(self._url).hostname
            raise Unavailable(
                f"The webhook at {host} did not take an alert ({problem}); see alerts.webhook_url."
            ) from err

    def _post(self, alert_id: str, body: bytes) -> None:
        timestamp = str(int(self._now()))
        headers = {"Content-Type": "application/json", ID_HEADER: alert_id, TIMESTAMP_HEADER: timestamp}
        if self._settings.webhook_secret is not None:
            secret = self._settings.webhook_secret.get_secret_value()
            headers[SIGNATURE_HEADER] = sign(secret, timestamp, body)
        request = Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310  http(s) by its type
        with self._opener.open(request, timeout=self._settings.webhook_timeout_seconds):
            pass


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """``sha256=`` and the hexadecimal HMAC-SHA256 (RFC 2104) of the timestamp, a dot and the body.

    The timestamp is signed too, so that a receiver can refuse what somebody recorded and sends again.
    """
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"sha256={digest}"


def alert_id(report: DriftReport) -> str:
    """The name that an alert keeps however often it is sent, so that receivers recognise a repetition."""
    return f"drift-report-{report.id}"


def to_alert(report: DriftReport) -> dict[str, Any]:
    """The alert as plain JSON values."""
    windows, measures = report.windows, report.measures
    command = f"reviewloop drift report --id {report.id} --format html --output drift.html"
    return {
        "id": alert_id(report),
        "text": _text(report, command),
        "kind": "drift",
        "task": windows.task,
        "adapter": measures.get("adapter"),
        "moved": measures.get("moved", []),
        "since": measures.get("since") or windows.since.isoformat(),
        "window": {
            "since": windows.since.isoformat(),
            "until": windows.until.isoformat(),
            "reviews": report.reviews,
        },
        "alarm": measures.get("alarm"),
        "findings": [
            {
                name: found[name]
                for name in ("measure", "effect", "adjusted_p_value", "reference", "window", "unit")
            }
            for found in measures.get("findings", [])
            if found["is_drift"]
        ],
        "attribution": {
            kind: [{"name": part["name"], "share": part["share"]} for part in parts[:_TOP_PARTS]]
            for kind, parts in report.attribution.items()
            if kind in {"products", "sources", "words", "clusters"}
        },
        "command": command,
    }


def _text(report: DriftReport, command: str) -> str:
    """The alert in two sentences and a command, as chats show a message."""
    began = f"{since(report).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    sentences = f"{headline(report)} Task {report.windows.task}, since {began}, {report.counted} reviews."
    return f"{one_line(sentences).translate(_HARMLESS)} {command}"


def to_body(alert: dict[str, Any]) -> bytes:
    """The alert as UTF-8 JSON."""
    return json.dumps(alert, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
