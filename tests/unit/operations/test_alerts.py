"""Alerts: what they say, how they are signed and tried again, and who is told once."""

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError, URLError

import pytest
from pydantic import SecretStr, ValidationError

from reviewloop.operations.alerts import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    Alerts,
    Webhook,
    alert_id,
    to_alert,
    to_body,
)
from reviewloop.operations.settings import AlertSettings
from reviews.drift import DriftReport, Windows
from reviews.errors import Unavailable

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
REPORT = DriftReport(
    Windows("sentiment", START, START + DAY, START + DAY, START + 2 * DAY),
    1234,
    "drift",
    {
        "adapter": "sentiment-1",
        "moved": ["texts"],
        "since": "2026-01-02T03:00:00+00:00",
        "findings": [
            {
                "measure": name, "effect": 0.5, "adjusted_p_value": 1e-9, "reference": 1, "window": 2,
                "unit": "mean", "floor": 0.1, "is_drift": moved,
            }
            for name, moved in (("text length", True), ("languages", False))
        ],
    },
    {"words": [{"name": "film", "share": 0.4}], "examples": [1, 2], "to_label": [3]},
    id=7,
)  # fmt: skip


class FakeOpener:
    """Answers with these errors in turn, then takes everything."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.requests: list = []

    def open(self, request, timeout):
        self.requests.append(request)
        if self.errors:
            raise self.errors.pop(0)
        return _Closing()


class _Closing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def _webhook(opener: FakeOpener, pauses: list[float]) -> Webhook:
    settings = AlertSettings(
        webhook_url=SecretStr("https://example.org/secret/path"), webhook_secret=SecretStr("key")
    )
    webhook = Webhook(settings, now=lambda: 1_767_225_600.9, sleep=pauses.append)
    webhook._opener = opener
    return webhook


def test_a_post_is_signed_over_its_time_and_body():
    opener = FakeOpener()
    _webhook(opener, []).send("drift-report-7", b"{}")
    headers = {name.lower(): value for name, value in opener.requests[0].header_items()}
    expected = hmac.new(b"key", b"1767225600.{}", hashlib.sha256).hexdigest()
    assert headers[SIGNATURE_HEADER.lower()] == f"sha256={expected}"
    assert headers[TIMESTAMP_HEADER.lower()] == "1767225600"


def test_a_receiver_that_fails_is_tried_again_with_growing_pauses():
    pauses: list[float] = []
    opener = FakeOpener(URLError("refused"), HTTPError("", 503, "", {}, None))
    _webhook(opener, pauses).send("a", b"{}")
    assert len(opener.requests) == 3
    assert len(pauses) == 2
    assert pauses[1] > pauses[0] > 0


def test_after_all_attempts_the_error_names_the_host_and_not_the_secret_path():
    opener = FakeOpener(*[URLError("refused")] * 3)
    with pytest.raises(Unavailable, match=r"example\.org") as raised:
        _webhook(opener, []).send("a", b"{}")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://host/x", "nonsense", "https://"])
def test_only_web_addresses_are_taken(address):
    with pytest.raises(ValidationError):
        AlertSettings(webhook_url=SecretStr(address))


def test_an_alert_says_what_moved_and_holds_no_review():
    alert = to_alert(REPORT)
    assert alert["id"] == "drift-report-7"
    assert [found["measure"] for found in alert["findings"]] == ["text length"]
    assert alert["attribution"] == {"words": [{"name": "film", "share": 0.4}]}
    assert alert["window"]["reviews"] == 1234
    assert json.loads(to_body(alert)) == alert


def test_an_alert_has_a_text_that_a_chat_shows_and_whose_names_call_nobody():
    text = to_alert(REPORT)["text"]
    assert text == (
        "The stream has changed: people write other texts. Task sentiment, since 2026-01-02 03:00 UTC, "
        "1,234 reviews. reviewloop drift report --id 7 --format html --output drift.html"
    )
    windows = replace(REPORT.windows, task="<!channel> @here *x*\n\x1b[2J")
    text = to_alert(replace(REPORT, windows=windows))["text"]
    assert "Task ‹!channel› ＠here ∗x∗ ␛[2J, since" in text


def test_a_channel_that_fails_stops_no_other_and_those_that_had_it_do_not_get_it_again():
    sent: list[str] = []
    is_away = True

    def broken(name: str, body: bytes) -> None:
        if is_away:
            raise Unavailable("away")
        sent.append("broken")

    def whole(name: str, body: bytes) -> None:
        sent.append("whole")

    alerts = Alerts({"broken": broken, "whole": whole})
    with pytest.raises(Unavailable, match="broken: away"):
        alerts.send(REPORT)
    assert sent == ["whole"]
    is_away = False
    alerts.send(REPORT)
    assert sent == ["whole", "broken"]
    assert alert_id(REPORT) == "drift-report-7"
