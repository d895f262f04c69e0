"""Overview, reviews and drift over HTTP: what pages and programs see of a real database."""

import csv
import io
import re
import socketserver
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from console.app import make_routes
from reviews.account import Role
from reviews.dead_letter import DeadLetter
from reviews.stream_records import PartitionRange
from storage.drift_reports import DriftReportStore
from storage.labels.store import LabelStore
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.integration.console.conftest import BASE, Site
from tests.integration.queued_reviews import TASK, answers, queue_reviews, rows, store_reviews
from tests.made_report import made_report

HOSTILE = (
    '<img src=x onerror="alert(1)">',
    "a\u202eb\x1b[31m",
    "'; DROP TABLE review; --",
    "=1+1",
    "x" * 2_500,
)


def _text(page: str) -> str:
    """What a reader sees of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def _get(client: TestClient, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


@pytest.fixture
def viewer(site: Site) -> TestClient:
    return site.client(Role.VIEWER)


def test_the_overview_of_an_empty_database_says_what_to_do_first(viewer: TestClient) -> None:
    shown = _text(_get(viewer, "/"))
    assert "No adapter is active for the task 'sentiment': workers cannot score reviews." in shown
    assert "reviewloop adapters add DIR --activate" in shown


def test_the_overview_has_the_numbers_of_what_is_stored(site: Site, viewer: TestClient) -> None:
    queue_reviews(site.admin, 12)
    for number in range(4):
        LabelStore(site.admin).answer(f"review-{number}", TASK, "positive", "ann")
    LabelStore(site.admin).answer("review-1", TASK, "negative", "bob")
    (position,) = PartitionStore(site.admin).list_positions()
    start = position.next_offset
    letter = DeadLetter(start, "parse", "bad_text", "Not a text.", b"x", None, datetime.now(UTC), 0)
    part = PartitionRange(position.partition_id, start, start + 1, [], [letter])
    assert not ReviewWriter(site.admin).write([part]).lost
    PartitionStore(site.admin).record_gap(position.partition_id, start + 1, start + 4)

    shown = _text(_get(viewer, "/overview/live"))
    assert "sentiment-0123456789ab since just now , decided by test" in shown
    assert "first Quality" in shown  # the reason of the activation
    assert "Answers today 5" in shown
    assert "Agreement 0%" in shown
    assert "Dead letters that wait 1 bad_text 1" in shown
    assert "Gaps 1 3 records lost to retention" in shown
    assert "3 records were lost to Kafka's retention" in shown
    assert "Records 16" in shown
    assert "Open items 9" in shown  # three have their answer, and the tie waits for one more


def test_the_status_says_the_same_to_programs(site: Site) -> None:
    store_reviews(site.admin, ["one", "two"])
    program = site.program(Role.VIEWER)
    deadline = time.monotonic() + 60
    while (found := program.get("/api/v1/status").json())["expected_macro_f1"] is None:
        if found["quality"] is None and time.monotonic() < deadline and found["stream"]["records"] < 2:
            time.sleep(0.1)
            continue
        break
    assert found["serving"]["version"] == "sentiment-0123456789ab"
    assert found["stream"]["records"] == 2
    assert found["queue"] == {"open_items": 0, "answers_today": 0, "agreement": None}
    assert "No review waits to be labelled" in " ".join(one["what"] for one in found["troubles"])
    assert program.get("/api/v1/status?task=nothing").status_code == 422


def test_a_kafka_that_does_not_answer_is_said_and_keeps_no_page_waiting(site: Site) -> None:
    store_reviews(site.admin, ["one"])
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as closing:
        threading.Thread(target=closing.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{closing.server_address[1]}"
        away = site.parts.kafka.model_copy(update={"bootstrap_servers": address})
        routes = make_routes(replace(site.parts, kafka=away))
        client = TestClient(routes, base_url=BASE)
        client.cookies = site.client(Role.VIEWER).cookies
        deadline = time.monotonic() + 60
        while "Kafka does not answer" not in (shown := _text(_get(client, "/"))):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        routes.state.overviews.close()
        closing.shutdown()
    assert address in shown
    assert "Records 1" in shown


def test_filters_are_in_the_address_and_pages_continue(site: Site, viewer: TestClient) -> None:
    store_reviews(site.admin, [f"Text {number} of lamps" for number in range(60)], product="lamp")
    store_reviews(site.admin, [f"Text {number} of chairs" for number in range(3)], product="chair")
    first = _get(viewer, "/reviews?product=lamp&text=&label=&human=&min_confidence=")
    assert first.count("of lamps") == 50
    assert "of chairs" not in first
    further = re.search(r'href="(/reviews\?[^"]+)" rel="next"', first)
    assert further is not None
    assert "product=lamp" in unescape(further[1])
    second = _get(viewer, unescape(further[1]))
    assert second.count("of lamps") == 10
    assert 'rel="next"' not in second
    assert "of chairs" in _get(viewer, "/reviews?text=CHAIRS")
    assert "No review matches." in _get(viewer, "/reviews?uncertain=true&label=negative")


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("since=yesterday", "is not a time"),
        ("adapter=nothing", "is not registered"),
        ("after=nonsense", "cursor"),
        ("min_confidence=2", "less than or equal to 1"),
        ("human=maybe", "labelled"),
    ],
)
def test_a_filter_that_means_nothing_says_so(viewer: TestClient, query: str, part: str) -> None:
    assert part in unescape(_get(viewer, f"/reviews?{query}", 422))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_texts_and_ids_of_any_kind_are_shown_and_never_obeyed(
    site: Site, viewer: TestClient, hostile: str
) -> None:
    review_id = hostile[:200]
    store_reviews(site.admin, [hostile], [review_id], product=hostile[:200], source=hostile[:200])
    LabelStore(site.admin).answer(review_id, TASK, "negative", hostile[:100])
    one = f"/reviews/one?id={quote(review_id)}"
    for path in ("/", "/reviews", one, f"/reviews/like?id={quote(review_id)}"):
        page = _get(viewer, path)
        assert "<img" not in page
        assert not set(page) & {"\x1b", "\u202e"}, path
    assert _text(_get(viewer, one)).count("x" * 2_500) == hostile.count("x" * 2_500)


def test_a_download_has_what_is_seen_and_no_cell_that_a_spreadsheet_runs(
    site: Site, viewer: TestClient
) -> None:
    store_reviews(site.admin, ["=HYPERLINK(1)", "plain", "other"], ["=id", "b", "c"], product="-2+3")
    answer = viewer.get("/reviews.csv?product=-2%2B3")
    assert answer.headers["content-disposition"] == 'attachment; filename="reviews.csv"'
    found = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["text"] for row in found} == {"'=HYPERLINK(1)", "plain", "other"}
    assert {row["review_id"] for row in found} == {"'=id", "b", "c"}
    assert {row["product"] for row in found} == {"'-2+3"}


def test_a_download_ends_at_its_limit(
    site: Site, viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("console.routes.reviews.MOST_DOWNLOADED", 4)
    monkeypatch.setattr("console.routes.reviews._DOWNLOAD_AT_ONCE", 2)
    store_reviews(site.admin, [f"t{number}" for number in range(7)])
    assert len(viewer.get("/reviews.csv").text.splitlines()) == 5


def test_an_answer_given_on_a_reviews_page_is_that_users_label(site: Site) -> None:
    store_reviews(site.admin, ["first", "other"], ["a b/c", "other"])
    annotator = site.client(Role.ANNOTATOR, "ann")
    given = {"id": "a b/c", "task": TASK, "label": "negative"}
    answer = annotator.post("/reviews/one/label", data=given)
    assert (answer.status_code, answer.headers["location"]) == (303, "/reviews/one?task=sentiment&id=a+b%2Fc")
    (record,) = [row[0] for row in rows(site.admin, "SELECT record FROM review WHERE review_id = 'a b/c'")]
    assert answers(site.admin) == [(record, "negative", "ann", "console")]
    shown = _text(_get(annotator, answer.headers["location"]))
    assert "Saved as your answer: negative." in shown
    assert "they agree on negative" in shown
    assert "differs" in _text(_get(annotator, "/reviews?human=differs"))
    assert annotator.post("/reviews/one/label", data={**given, "label": "nothing"}).status_code == 422
    assert annotator.post("/reviews/one/label", data={**given, "id": "nobody's"}).status_code == 404
    assert annotator.post("/reviews/one/label", data={**given, "label": "unsure"}).status_code == 303
    assert answers(site.admin)[1:] == [(record, None, "ann", "console")]


def test_programs_page_through_all_reviews_by_cursors(site: Site) -> None:
    store_reviews(site.admin, [f"t{number}" for number in range(25)])
    program, seen, cursor = site.program(Role.VIEWER), [], None
    while True:
        asked = {"limit": "10", "label": "positive", **({"cursor": cursor} if cursor else {})}
        found = program.get("/api/v1/reviews", params=asked).json()
        seen += [item["review_id"] for item in found["items"]]
        cursor = found["next"]
        if cursor is None:
            break
    assert seen == [f"review-{number}" for number in reversed(range(25))]
    history = program.get("/api/v1/reviews/one", params={"id": "review-3"}).json()
    assert [version["text"] for version in history["versions"]] == ["t3"]
    assert history["predictions"][0]["labels"] == ["negative", "neutral", "positive"]
    assert program.get("/api/v1/reviews/one?id=nothing").status_code == 404
    assert program.get("/api/v1/reviews/like?id=review-3").json() == []


def test_a_drift_report_is_shown_and_its_new_reviews_are_queued_by_an_operator(site: Site) -> None:
    records = store_reviews(site.admin, [f"A film, number {number}." for number in range(8)])
    report = DriftReportStore(site.admin).add(
        made_report(TASK, "sentiment-0123456789ab", HOSTILE[0], examples=records[:4], to_label=records)
    )
    viewer, operator = site.client(Role.VIEWER), site.client(Role.OPERATOR, "olga")
    assert "people write other texts" in _get(viewer, "/drift?verdict=drift")
    assert "No report with this verdict." in _get(viewer, "/drift?verdict=stable")
    shown = _get(viewer, f"/drift/{report.id}")
    assert shown.count('role="img"') == 10
    assert "A film, number 3." in shown
    assert "A film, number 4." not in shown
    assert "<img" not in shown
    assert not re.search(r"<[^>]+ style=", shown)
    assert "Queue its new reviews" not in shown
    assert "Queue its new reviews" in _get(operator, f"/drift/{report.id}")
    overview = _text(_get(viewer, "/"))
    assert "The stream has changed: people write other texts" in overview
    assert "Strongest measure:" in overview
    assert overview.count("A film, number") == 3

    answer = operator.post(f"/drift/{report.id}/queue", data={"count": "5", "reason": "new films"})
    assert answer.status_code == 303, answer.text
    assert "5 reviews were queued" in _text(_get(operator, answer.headers["location"]))
    queued = rows(site.admin, "SELECT record, reason, strategy FROM label_task ORDER BY priority DESC")
    assert queued == [(record, "drift", "drift") for record in records[:5]]
    logged = rows(site.admin, "SELECT actor, action, subject, reason, outcome FROM audit_log")
    assert logged == [("olga", "drift.queue", f"drift report {report.id}", "new films", "done")]
    program = site.program(Role.OPERATOR)
    # Three are new, and four of the others move up.
    assert program.post(f"/api/v1/drift-reports/{report.id}/queue", json={"count": 8}).json() == {"queued": 7}
    assert _get(viewer, "/drift/999", 404)


def test_programs_read_drift_reports(site: Site) -> None:
    store_reviews(site.admin, ["x"])
    made = made_report(TASK, "sentiment-0123456789ab", "p", examples=[], to_label=[])
    for day in range(3):
        windows = replace(made.windows, until=made.windows.until + timedelta(days=day))
        DriftReportStore(site.admin).add(replace(made, windows=windows))
    program = site.program(Role.VIEWER)
    first = program.get("/api/v1/drift-reports", params={"limit": 2}).json()
    second = program.get("/api/v1/drift-reports", params={"limit": 2, "cursor": first["next"]}).json()
    numbers = [item["id"] for item in first["items"] + second["items"]]
    assert (numbers, second["next"]) == ([3, 2, 1], None)
    whole = program.get("/api/v1/drift-reports/2").json()
    assert whole["verdict"] == "drift"
    assert whole["measures"]["findings"]


def test_reviews_are_filtered_by_the_values_of_attributes_on_the_page_and_in_the_api(
    site: Site, viewer: TestClient
) -> None:
    queue_reviews(site.admin, 6)
    for number, attributes in enumerate(
        ('{"market": "de", "tier": 1}', '{"market": "de"}', '{"market": "d"}')
    ):
        site.sql(
            "UPDATE review SET attributes = CAST(:given AS jsonb) WHERE review_id = :id RETURNING record",
            given=attributes, id=f"review-{number}",
        )  # fmt: skip

    def found(*asked: str) -> set[str]:
        query = "&".join(f"attribute={quote(one)}" for one in asked)
        rows_ = viewer.get(f"/api/v1/reviews?{query}").json()["items"]
        shown = _get(viewer, f"/reviews?{query}")
        ids = {row["review_id"] for row in rows_}
        assert {f"review-{number}" for number in range(6) if f"review-{number}" in shown} == ids
        return ids

    assert found("market=de") == {"review-0", "review-1"}
    assert found("market=de", "tier=1") == {"review-0"}
    assert found("market=d") == {"review-2"}
    assert found("market=fr") == set()
    assert viewer.get("/api/v1/reviews?attribute=market").status_code == 422
