"""Drift from the topic to the alert: real Kafka, real PostgreSQL, a webhook that really listens."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from reviewloop.drift_reports.watch import DriftWatch
from reviewloop.drift_reports.wiring import DriftParts, open_drift_parts
from reviewloop.operations.alerts import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from reviewloop.settings import Settings, load_settings
from reviews.adapter import AdapterVersion
from reviews.drift import DriftReport, Windows
from reviews.errors import Unavailable, WrongUse
from reviews.label import Label
from reviews.queue_item import NewItem
from reviews.slices import SliceShares, slice_of
from storage.adapters.registry import AdapterStore
from storage.drift_reports import DriftReportStore
from storage.labels.queue_contents import QueueContents
from storage.labels.store import LabelStore
from storage.learning.runs import read_pending
from tests.conftest import TopicFactory
from tests.integration.in_process import VERSION, InProcess, Stream, read_topic
from tests.unit.drift.made_up import clothing_review, film_review

SECRET = "only the receiver knows"
REFERENCE = 300


class Listener:
    """A webhook's receiver; answers with these statuses, and 200 after them."""

    def __init__(self, statuses: list[int]) -> None:
        self.posts: list[tuple[Message, bytes]] = []
        listener = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.posts.append((self.headers, body))
                self.send_response(statuses.pop(0) if statuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

        self.server = HTTPServer(("127.0.0.1", 0), Answer)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hook"


@contextmanager
def listening(*statuses: int) -> Iterator[Listener]:
    listener = Listener(list(statuses))
    thread = threading.Thread(target=listener.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.server.shutdown()
        listener.server.server_close()


@pytest.fixture
def alerts_topic(topic: TopicFactory) -> str:
    return topic(prefix="alerts")


def _settings(
    monkeypatch: pytest.MonkeyPatch, made: InProcess, topic: str | None = None, webhook: str | None = None
) -> Settings:
    values = {
        **made.environment(),
        "REVIEWLOOP_DRIFT__REFERENCE_REVIEWS": str(REFERENCE),
        "REVIEWLOOP_DRIFT__WATCH__CALIBRATION_STREAMS": "10",
    }
    if topic is not None:
        values["REVIEWLOOP_ALERTS__TOPIC"] = topic
    if webhook is not None:
        values |= {"REVIEWLOOP_ALERTS__WEBHOOK_URL": webhook, "REVIEWLOOP_ALERTS__WEBHOOK_SECRET": SECRET}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def _activate(made: InProcess) -> None:
    adapters = AdapterStore(made.database)
    adapters.activate(adapters.find(VERSION), expected=None, decided_by="test", reason="first")


def _activate_another(made: InProcess) -> None:
    adapters = AdapterStore(made.database)
    other = AdapterVersion("other-1", "sentiment", ("no", "so-so", "yes"), "none", None, "9" * 64)
    adapters.add(other, {"a": b""})
    adapters.activate(other, expected=adapters.active("sentiment"), decided_by="test", reason="another")


def _publish(made: InProcess, values: list[dict[str, Any]]) -> None:
    made.publish([json.dumps(value).encode() for value in values])
    made.consume(max_batch_reviews=100)


def _referred(stream: Stream, monkeypatch: pytest.MonkeyPatch, **settings: str) -> InProcess:
    """A stream of which as many reviews are scored as are its reference."""
    made = stream()
    _activate(made)
    _settings(monkeypatch, made)
    for name, value in settings.items():
        monkeypatch.setenv(f"REVIEWLOOP_{name}", value)
    _publish(made, _clothes(0, REFERENCE))
    return made


def _report_of(made: InProcess, run: Any, *options: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(run(made, "drift", "report", "--format", "json", *options))
    return report


def _clothes(first: int, count: int) -> list[dict[str, Any]]:
    return [clothing_review(number) for number in range(first, first + count)]


def _films(first: int, count: int) -> list[dict[str, Any]]:
    return [film_review(number) for number in range(first, first + count)]


def _watch(parts: DriftParts, settings: Settings) -> DriftWatch:
    return DriftWatch(parts.windows, parts.reports, parts.reporter, settings.drift, "sentiment")


def _step_through(watch: DriftWatch) -> list[DriftReport]:
    found: list[DriftReport] = []
    while True:
        reviews, reports = watch.step()
        found += reports
        if not reviews:
            return found


def test_films_after_clothes_raise_one_alert_on_topic_and_webhook_and_the_report_names_them(
    stream: Stream, alerts_topic: str, monkeypatch: pytest.MonkeyPatch, run, tmp_path: Path
) -> None:
    made = stream()
    _activate(made)
    with listening(500) as listener:
        settings = _settings(monkeypatch, made, alerts_topic, listener.address)
        with open_drift_parts(settings, "sentiment") as parts:
            _publish(made, _clothes(0, REFERENCE))
            _publish(made, _clothes(REFERENCE, 200))
            watch = _watch(parts, settings)
            assert _step_through(watch) == []  # the stream is what it was

            _publish(made, _films(1000, 200))
            reports = _step_through(watch)
            assert len(reports) == 1
            assert parts.announce() == 1

        # A process that starts anew sees the same stream and the same alarm, and tells nobody twice.
        with open_drift_parts(settings, "sentiment") as parts:
            assert _step_through(_watch(parts, settings)) == []
            assert parts.announce() == 0

    record = read_topic(str(made.kafka.bootstrap_servers), alerts_topic, 2, seconds=3)
    assert len(record) == 1
    alert = json.loads(record[0].value)
    assert record[0].key.decode() == alert["id"] == f"drift-report-{reports[0].id}"
    assert "texts" in alert["moved"]
    assert alert["attribution"]["sources"][0]["name"] == "cinema"
    assert any(word["name"] in {"film", "actors", "plot", "scene"} for word in alert["attribution"]["words"])

    first, second = listener.posts  # the receiver refused once
    assert first[1] == second[1] == record[0].value
    headers, body = second
    assert headers[ID_HEADER] == alert["id"]
    assert headers[SIGNATURE_HEADER] == sign(SECRET, headers[TIMESTAMP_HEADER], body)

    queued = made.sql(
        "SELECT r.source, count(*) FROM label_task t JOIN review r USING (record) "
        "WHERE t.reason = 'drift' GROUP BY 1 ORDER BY 2 DESC"
    )
    assert sum(count for _, count in queued) == settings.drift.queue_reviews
    _activate_another(made)  # the report stays what it is when another adapter serves
    page = tmp_path / "drift.html"
    run(made, *alert["command"].split()[1:-1], page)
    assert queued[0][0] == "cinema"
    assert queued[0][1] >= 0.75 * settings.drift.queue_reviews
    assert "cinema" in page.read_text()
    assert made.sql("SELECT count(*) FROM drift_report WHERE verdict = 'drift'") == [(1,)]


def test_the_reference_grows_to_whole_days_and_the_watch_begins_again_with_it(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stream()
    _activate(made)
    settings = _settings(monkeypatch, made)
    _publish(made, _clothes(0, REFERENCE))
    _publish(made, _clothes(REFERENCE, 200))
    day = timedelta(days=1)
    with made.database.begin() as connection:
        for table, column in (
            ("adapter_activation", "activated_at"),
            ("prediction", "scored_at"),
            ("review", "received_at"),
        ):
            connection.execute(text(f"UPDATE {table} SET {column} = {column} - interval '25 hours'"))
    with open_drift_parts(settings, "sentiment") as parts, capture_logs() as logs:
        watch = _watch(parts, settings)
        assert _step_through(watch) == []
        _publish(made, _clothes(REFERENCE + 200, 200))
        assert watch.step() == (200, [])  # these show that a day has passed
        promotion = parts.reporter.active()
        assert watch.step() == (200, [])  # and are held against that day
        assert watch.step() == (0, [])
        passed = (0 * day, 0.9 * day, day, 6.9 * day, 7 * day, 30 * day)
        since = promotion.activated_at
        ends = [parts.reporter.reference(promotion, since + time).until - since for time in passed]
        report = parts.reporter.report(since=since + 0.9 * day)
    began = [log["reference"] for log in logs if log["event"] == "drift_watch_began"]
    assert began == [REFERENCE, REFERENCE + 200]
    assert ends[0] == ends[1] < day
    assert ends[2:] == [day, day, 7 * day, 7 * day]
    assert report.windows.reference_until - since == ends[0]  # by then no day had passed
    assert report.reviews == 200
    assert report.measures["seasons"] == {"saw_week": False, "compared": 200}


def test_the_same_windows_are_computed_once_and_shown_again(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, run
) -> None:
    made = stream()
    _activate(made)
    _settings(monkeypatch, made)
    # One transaction has one time, however many batches it stores: what is read apart is published apart.
    _publish(made, _clothes(0, REFERENCE))
    _publish(made, _clothes(REFERENCE, 250))
    arguments = ("drift", "report", "--format", "json")

    first = json.loads(run(made, *arguments))
    assert first["verdict"] == "stable"
    assert first["window"]["reviews"] == 250

    monkeypatch.setattr(
        "reviewloop.drift_reports.reporter.evaluate", lambda *_: pytest.fail("computed again")
    )
    assert json.loads(run(made, *arguments)) == first
    rows = [json.loads(line) for line in run(made, "drift", "list").splitlines()]
    assert [(row["id"], row["verdict"]) for row in rows] == [(first["id"], "stable")]


def test_too_few_reviews_are_unknown_and_no_alarm(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, run
) -> None:
    made = stream()
    _activate(made)
    settings = _settings(monkeypatch, made)
    _publish(made, _clothes(0, 120))

    found = json.loads(run(made, "drift", "report", "--format", "json"))
    assert found["verdict"] == "unknown"
    with open_drift_parts(settings, "sentiment") as parts:
        assert _watch(parts, settings).step() == (0, [])


def test_an_alert_that_nobody_takes_waits_in_its_row_until_somebody_does(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = stream()
    reports = DriftReportStore(made.database)
    told: list[int | None] = []
    for number in range(3):
        reports.add(_report(number, "drift" if number else "stable"))

    def refuse(_: DriftReport) -> None:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        reports.announce(refuse)
    assert made.sql("SELECT count(alerted_at) FROM drift_report") == [(0,)]

    def refuse_the_newest(report: DriftReport) -> None:
        if report.id == 3:
            raise Unavailable("away")
        told.append(report.id)

    with pytest.raises(Unavailable):
        reports.announce(refuse_the_newest)
    assert told == [2], "what one report runs into holds up no other"
    assert reports.announce(lambda report: told.append(report.id)) == 1
    assert told == [2, 3]
    assert reports.announce(lambda report: told.append(report.id)) == 0


def test_whoever_looks_tells_nobody_unless_an_alert_is_asked_for(
    stream: Stream, alerts_topic: str, monkeypatch: pytest.MonkeyPatch, run
) -> None:
    made = stream()
    _activate(made)
    settings = _settings(monkeypatch, made, alerts_topic)
    _publish(made, _clothes(0, REFERENCE))
    _publish(made, _films(1000, 300))
    looked = _report_of(made, run)
    assert looked["verdict"] == "drift"
    with open_drift_parts(settings, "sentiment") as parts:
        assert parts.announce() == 0
    assert not read_pending(made.database, "sentiment").is_drifting
    assert made.sql("SELECT count(*) FROM label_task") == [(0,)]

    again = _report_of(made, run, "--alert")
    assert again["id"] == looked["id"], "computed once"
    assert read_pending(made.database, "sentiment").is_drifting
    assert made.sql("SELECT count(alerted_at) FROM drift_report") == [(1,)]
    assert made.sql("SELECT DISTINCT reason FROM label_task") == [("drift",)]
    _activate_another(made)
    assert not read_pending(made.database, "sentiment").is_drifting, "the adapter that drifted serves no more"


def test_accuracy_counts_every_audit_label_that_came_since_the_report_too(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, run
) -> None:
    shares = {f"{section}__AUDIT_SHARE": "0.3" for section in ("TRAINER__NIGHTLY", "CONSUMER__EMBEDDINGS")}
    made = _referred(stream, monkeypatch, DRIFT__SAMPLE_REVIEWS="500", **shares)
    _publish(made, _clothes(REFERENCE, 900))
    first = _report_of(made, run)
    assert first["measures"]["looked_at"]["window"] < 600 < first["window"]["reviews"]
    assert first["measures"]["audited"]["window"]["labels"] == 0

    window = made.sql(
        "SELECT record, review_id, label FROM prediction JOIN review USING (record) "
        "WHERE (record & 4095) >= 300 ORDER BY record"
    )
    in_slice = [
        record for record, review_id, _ in window if slice_of(review_id, SliceShares(audit=0.3)) == "audit"
    ]
    audited = in_slice[::2]  # the others came by themselves
    QueueContents(made.database).add(
        [NewItem(record, "sentiment", "audit", "random", 0.5) for record in audited]
    )
    said = {record: label for record, _, label in window}
    wrong = {
        record: next(name for name in first["measures"]["labels"] if name != said[record])
        for record in audited[:40]
    }
    now = datetime.now(UTC)
    LabelStore(made.database).add(
        [Label(record, "sentiment", wrong.get(record, said[record]), "ann", "test", now) for record in said]
    )
    again = _report_of(made, run)
    assert again["id"] == first["id"]
    found = again["measures"]["audited"]["window"]
    assert found["labels"] == len(audited) > 100
    # The stored predictions of the window move it a little.
    assert found["accuracy"] == pytest.approx(1 - 40 / len(audited), abs=0.03)
    assert found["low"] < found["accuracy"] < found["high"]
    assert found["macro_f1_low"] < found["macro_f1"] < found["macro_f1_high"]


def test_a_window_reaches_back_for_enough_reviews_and_never_into_the_reference(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, run
) -> None:
    made = _referred(stream, monkeypatch, DRIFT__REFERENCE_DAYS="0")
    for day in range(10):
        _publish(made, _clothes(REFERENCE + 50 * day, 50))
    made.sql(
        "UPDATE prediction p SET scored_at = scored_at + ((p.record & 1023) - 300) / 50 * interval '1 day' "
        "WHERE (p.record & 1023) >= 300 RETURNING 1"
    )
    found = _report_of(made, run)
    assert found["verdict"] == "stable"
    assert found["window"]["reviews"] == 200, "four days, as a day has 50"

    earlier = _report_of(made, run, "--since", "2020-01-01")
    assert earlier["window"]["since"] == earlier["reference"]["until"]
    assert earlier["window"]["reviews"] == 500
    with pytest.raises(WrongUse, match="before the reference does"):
        _report_of(made, run, "--until", "2020-01-01")
    chosen = ("--reference-since", "1970-01-01", "--reference-until", earlier["reference"]["until"])
    asked = _report_of(made, run, *chosen)
    assert asked["reference"] == {
        "since": "1970-01-01T00:00:00+00:00",
        "until": earlier["reference"]["until"],
    }
    assert asked["measures"]["looked_at"]["reference"] == REFERENCE
    with pytest.raises(WrongUse, match=r"The reference ends .* before it begins"):
        _report_of(made, run, "--reference-since", "2026-03-02", "--reference-until", "2026-03-01")
    with pytest.raises(WrongUse, match="leave out --since, --until, --reference-since"):
        run(made, "drift", "report", "--id", 1, "--reference-since", "2026-03-02")
    with pytest.raises(WrongUse, match="no drift report 99"):
        run(made, "drift", "report", "--id", 99)


def _report(number: int, verdict: Any) -> DriftReport:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    day = timedelta(days=1)
    windows = Windows("sentiment", start, start + day, start + day, start + day * (2 + number))
    return DriftReport(windows, 1000, verdict, wants_alert=True)
