"""Alerts by HTTP POST, signed so that the receiver knows who sent them and when."""

import hashlib
import hmac
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from reviewloop.alerts.settings import AlertSettings
from reviews.errors import Unavailable
from reviews.retry import Retry

ID_HEADER = "X-ReviewLoop-Id"
TIMESTAMP_HEADER = "X-ReviewLoop-Timestamp"
SIGNATURE_HEADER = "X-ReviewLoop-Signature"

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0


class _NoRedirect(HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body: better an error that names the address."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Webhook:
    """Posts alerts to one address.

    Args:
        settings: The address, the secret and the patience.
        now: Seconds since 1970.
        sleep: Waits so many seconds.
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
        self._opener = build_opener(_NoRedirect)

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
