"""Overview, reviews and drift in a real Chromium: live numbers with a real worker, keys, queueing."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from playwright.sync_api import expect

from consumer.worker import Worker
from reviews.account import Role
from storage.adapters.registry import AdapterStore
from storage.drift_reports import DriftReportStore
from tests.browser.visits import Visits
from tests.integration.browser.conftest import Served, listening
from tests.integration.console.conftest import Site
from tests.integration.in_process import VERSION, open_in_process
from tests.integration.queued_reviews import TASK, answers, rows, store_reviews
from tests.made_report import made_report

_LIVE_MS = 30_000


def test_a_review_published_while_the_overview_is_open_appears_in_its_numbers(
    site: Site, database: str, topic: Callable[..., str], kafka_bootstrap: str, visits: Visits
) -> None:
    with open_in_process(kafka_bootstrap, database, topic()) as made:
        adapters = AdapterStore(made.database)
        adapters.activate(adapters.find(VERSION), expected=None, decided_by="test", reason="first")
        own = Site(replace(site.parts, kafka=made.kafka), site.admin, site._stack)
        made.publish([_review(number) for number in range(3)])
        with listening(own) as url, made.worker() as worker, _at_work(worker):
            page = Served(own, url, visits).page(Role.VIEWER)
            page.goto("/")
            storage = page.get_by_role("region", name="Storage and services")
            expect(storage).to_contain_text(re.compile(r"Records\s*3\b"), timeout=_LIVE_MS)
            expect(page.get_by_role("region", name="Active adapter")).to_contain_text(VERSION)

            made.publish([_review(number) for number in range(3, 8)])
            expect(storage).to_contain_text(re.compile(r"Records\s*8\b"), timeout=_LIVE_MS)
            expect(storage).to_contain_text("a worker stores reviews")
            expect(storage).to_contain_text("Kafka answers", timeout=_LIVE_MS)
            stream = page.get_by_role("region", name="Stream")
            expect(stream).to_contain_text("nothing waits", timeout=_LIVE_MS)


def test_one_key_corrects_a_label(served: Served) -> None:
    store_reviews(served.site.admin, ["It broke on the first day."], ["broken"])
    page = served.page(Role.ANNOTATOR, "ann")
    page.goto("/reviews")
    page.get_by_role("link", name="It broke").click()
    page.wait_for_url("**/reviews/one?*")  # with its script
    page.keyboard.press("1")
    expect(page.get_by_text("Saved as your answer: negative.")).to_be_visible()
    expect(page.get_by_text("they agree on")).to_be_visible()
    (record,) = [row[0] for row in rows(served.site.admin, "SELECT record FROM review")]
    assert answers(served.site.admin) == [(record, "negative", "ann", "console")]


def test_a_filter_is_sent_to_somebody_by_its_address_alone(served: Served) -> None:
    store_reviews(served.site.admin, ["A lamp."], product="lamp")
    store_reviews(served.site.admin, ["A chair."], product="chair")
    page = served.page(Role.VIEWER)
    page.goto("/reviews")
    page.get_by_label("Product").fill("lamp")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("A lamp.")).to_be_visible()
    other = served.page(Role.VIEWER, "somebody", scripts=False)
    other.goto(page.url)
    expect(other.get_by_text("A lamp.")).to_be_visible()
    expect(other.get_by_text("A chair.")).to_have_count(0)


def test_the_new_reviews_of_a_drift_report_are_queued_by_a_button(served: Served) -> None:
    records = store_reviews(served.site.admin, [f"A film, number {number}." for number in range(6)])
    report = made_report(TASK, "sentiment-0123456789ab", "film", examples=records[:3], to_label=records)
    number = DriftReportStore(served.site.admin).add(report).id
    page = served.page(Role.OPERATOR)
    page.goto("/")
    page.get_by_role("region", name="Drift").get_by_role("link", name="The stream has changed").click()
    assert page.url.endswith(f"/drift/{number}")
    page.get_by_text("Queue its new reviews").first.click()
    page.get_by_label("How many").fill("4")
    page.get_by_role("button", name="Queue its new reviews").click()
    expect(page.get_by_text("4 reviews were queued")).to_be_visible()
    assert rows(served.site.admin, "SELECT count(*) FROM label_task WHERE reason = 'drift'") == [(4,)]


@contextmanager
def _at_work(worker: Worker) -> Iterator[None]:
    thread = threading.Thread(target=worker.run, name="worker")
    thread.start()
    try:
        yield
    finally:
        worker._stopping.set()
        thread.join()


def _review(number: int) -> bytes:
    return json.dumps({"id": f"r{number}", "text": f"A text, number {number}."}).encode()
