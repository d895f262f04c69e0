"""Dead letters in a browser: their bytes are seen, one is corrected and replayed, many settled at once."""

import base64
import json
from typing import Any

import pytest

from tests.browser.visits import Visits, accessibility_violations
from tests.integration.browser.conftest import Served
from tests.integration.console.conftest import Site
from tests.integration.in_process import InProcess, Stream

_NEVER = {"window_messages": 10, "max_invalid_share": 1, "max_invalid_run": 0}
HOSTILE = b'{"id": "3", "text": "<script>alert(1)</script>\x1b[31m", "stars": 11}'
BAD = [
    b'{"id": "1", "text": "Good.", "stars": 6}',
    b"\xff\xfe<script>alert(1)</script>",
    HOSTILE,
    None,
    *(b'{"id": "n%d"}' % number for number in range(4)),
]


@pytest.fixture
def failed(stream: Stream) -> InProcess:
    """A topic with a record of each kind that no worker can read, and one that was accepted."""
    made = stream()
    made.publish([*BAD, b'{"id": "fine", "text": "Fine."}'], key=b"k")
    made.consume(breaker=_NEVER)
    return made


def _record(site: Site, offset: int) -> int:
    return int(site.sql(f"SELECT record FROM dead_letter WHERE record % 1048576 = {offset}")[0][0])


def _states(site: Site) -> dict[str, int]:
    return dict(map(tuple, site.sql("SELECT state, count(*) FROM dead_letter GROUP BY 1")))


def test_a_record_is_corrected_with_what_the_page_offers_and_a_worker_stores_its_review(
    failed: InProcess, served: Served
) -> None:
    page = served.page("operator")
    page.goto("/dead-letters")
    page.get_by_role("link", name="bad_stars").first.click()
    page.get_by_role("link", name=f"{failed.topic}:0:0").click()
    assert "Only the field 'stars' is wrong: it is 6." in page.locator("main").inner_text()
    page.get_by_role("link", name="Put this into the form").click()
    assert json.loads(page.get_by_label("Value, as JSON in UTF-8").input_value()) == {
        "id": "1",
        "text": "Good.",
    }
    page.get_by_role("button", name="Replay with this value").click()
    page.get_by_text("Published anew.").wait_for()

    assert failed.consume(breaker=_NEVER).accepted == 1
    page.reload()
    assert page.locator(".badge", has_text="replayed").count() == 1
    assert page.get_by_role("button", name="Replay with this value").count() == 0
    rows = failed.sql("SELECT review_id, text FROM scored_reviews ORDER BY review_id")
    assert rows == [("1", "Good."), ("fine", "Fine.")]
    (entry,) = served.site.sql("SELECT actor, action, subject, outcome FROM audit_log")
    assert tuple(entry) == ("operator of the tests", "dead_letters.replay", f"{failed.topic}:0:0", "done")


def test_a_value_that_the_parser_refuses_is_not_published_and_stays_in_the_form(
    failed: InProcess, served: Served, visits: Visits
) -> None:
    visits.expect_error("status of 422")
    page = served.page("operator")
    page.goto(f"/dead-letters/{_record(served.site, 0)}")
    page.get_by_label("Value, as JSON in UTF-8").fill('{"id": "1", "text": " "}')
    page.get_by_role("button", name="Replay with this value").click()
    assert "must contain at least one visible character" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Value, as JSON in UTF-8").input_value() == '{"id": "1", "text": " "}'
    assert failed.consume(breaker=_NEVER).accepted == 0
    assert _states(served.site) == {"waiting": len(BAD)}


def test_bytes_are_shown_and_nothing_in_them_runs(failed: InProcess, served: Served) -> None:
    page = served.page("viewer", dark=True)
    page.goto(f"/dead-letters/{_record(served.site, 1)}")
    assert "not UTF-8 from byte 0" in page.locator("table.bytes").inner_text()
    assert "ff fe 3c 73 63 72 69 70" in page.locator("table.bytes").inner_text()
    assert accessibility_violations(page) == []
    page.goto(f"/dead-letters/{_record(served.site, 2)}")
    assert page.locator("main script").count() == 0
    assert "\x1b" not in page.content()
    assert page.get_by_role("button", name="Replay").count() == 0, "a viewer only looks"
    page.goto(f"/dead-letters/{_record(served.site, 3)}")
    assert "tombstone" in page.locator("main").inner_text()


def test_many_are_discarded_with_one_reason_and_all_of_a_reason_are_replayed(
    failed: InProcess, served: Served
) -> None:
    page = served.page("operator")
    page.goto("/dead-letters?stage=parse&reason=missing_text")
    page.get_by_label(f"{failed.topic}:0:4").check()
    page.get_by_label(f"{failed.topic}:0:6").check()
    page.locator("#ticked-sheet summary").click()
    page.locator("#ticked-sheet textarea").fill("the old app")
    page.locator("#ticked-sheet").get_by_role("button", name="Discard").click()
    page.get_by_text("Discarded 2 dead letters.").wait_for()
    assert _states(served.site) == {"waiting": 6, "discarded": 2}

    page.locator("#all-sheet summary").click()
    page.locator("#all-sheet").get_by_role("button", name="Replay").click()
    page.get_by_text("Published 2 anew.").wait_for()
    failed.consume(breaker=_NEVER)
    assert _states(served.site) == {"waiting": 6, "discarded": 2, "superseded": 2}

    page.goto("/dead-letters?state=discarded")
    assert "the old app" in page.locator("main").inner_text()


def test_one_box_ticks_all_and_a_form_without_a_tick_or_without_a_reason_says_so(
    failed: InProcess, served: Served, visits: Visits
) -> None:
    visits.expect_error("status of 422")
    page = served.page("operator")
    page.goto("/dead-letters")
    page.get_by_label("Tick all").check()
    assert page.locator("input[name=record]:checked").count() == len(BAD)
    page.get_by_label("Tick all").uncheck()
    page.locator("#ticked-sheet summary").click()
    page.locator("#ticked-sheet").get_by_role("button", name="Replay").click()
    page.get_by_text("No dead letter is chosen").wait_for()
    page.go_back()
    page.get_by_label("Tick all").check()
    page.locator("#ticked-sheet summary").click()
    page.locator("#ticked-sheet").get_by_role("button", name="Discard").click()
    page.get_by_text("The reason is empty").wait_for()
    assert _states(served.site) == {"waiting": len(BAD)}


def test_without_scripts_the_same_can_be_done(failed: InProcess, served: Served) -> None:
    page = served.page("operator", scripts=False)
    page.goto(f"/dead-letters/{_record(served.site, 5)}")
    page.locator("#discard summary").click()
    page.locator("#discard textarea").fill("nobody knows it")
    page.locator("#discard").get_by_role("button", name="Discard").click()
    assert "Discarded." in page.locator("main").inner_text()
    assert _states(served.site)["discarded"] == 1


def test_programs_read_correct_and_discard_them(failed: InProcess, site: Site) -> None:
    client = site.program("operator")
    reasons = {row["reason"]: row["letters"] for row in client.get("/api/v1/dead-letters/reasons").json()}
    assert reasons == {"missing_text": 4, "bad_stars": 1, "not_utf8": 1, "not_json": 1, "tombstone": 1}
    seen: list[Any] = []
    address = "/api/v1/dead-letters?limit=3"
    while True:
        piece = client.get(address).json()
        seen += piece["items"]
        if piece["next"] is None:
            break
        address = f"/api/v1/dead-letters?limit=3&cursor={piece['next']}"
    assert len({item["record"] for item in seen}) == len(BAD)

    one = client.get(f"/api/v1/dead-letters/{_record(site, 0)}").json()
    assert base64.b64decode(one["value_base64"]) == BAD[0]
    body = {"records": [one["record"]], "value_base64": one["hints"][0]["corrected_base64"]}
    assert client.post("/api/v1/dead-letters/replay", json=body).json() == {"published": 1, "cut": []}
    assert failed.consume(breaker=_NEVER).accepted == 1
    again = client.post("/api/v1/dead-letters/replay", json=body)
    assert (again.status_code, "replayed already" in again.json()["detail"]) == (422, True)

    others = [item["record"] for item in seen if item["reason"] == "missing_text"]
    body = {"records": others, "reason": "no text"}
    assert client.post("/api/v1/dead-letters/discard", json=body).json() == {"discarded": 4}
    assert client.get("/api/v1/dead-letters/1").status_code == 404
    assert client.get("/api/v1/dead-letters?cursor=bm9uZQ").status_code == 422
    viewer = site.program("viewer")
    assert viewer.post("/api/v1/dead-letters/discard", json=body).status_code == 403
