"""The label page in a real Chromium: keys, two annotators, a killed console, and what stays hidden."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, expect
from pydantic import SecretStr

from reviews.account import Role
from storage.database import Database
from storage.labels.guidelines import GuidelineStore
from storage.labels.queue_contents import QueueContents
from storage.settings import DatabaseSettings
from tests.browser.visits import Visits, accessibility_violations, overflow_pixels
from tests.console_process import ConsoleProcess, console_process
from tests.integration.queued_reviews import (
    TASK,
    answers,
    execute,
    queue_reviews,
    rows,
    states,
    store_reviews,
    wanted,
)

_NO_ANSWER = "net::ERR_"
Open = Callable[..., Page]


@pytest.fixture
def store(database: str) -> Iterator[Database]:
    """The database of the console."""
    opened = Database(DatabaseSettings(url=SecretStr(database)))
    yield opened
    opened.close()


@pytest.fixture
def console(database: str, tmp_path: Path, browser: Browser) -> Iterator[ConsoleProcess]:
    """A console as a process of its own; without a browser there is no need for it."""
    with console_process(database, tmp_path) as started:
        yield started


@pytest.fixture
def label_page(console: ConsoleProcess, visits: Visits) -> Open:
    """Opens the page of an annotator with a review on it."""

    def open_one(name: str = "ann", role: Role = Role.ANNOTATOR, **how: object) -> Page:
        user, context = console.log_in(name, role), visits.context(**how)
        cookie, secret = user.cookie
        context.add_cookies([{"name": cookie, "value": secret, "url": console.address}])
        return visit(context, console)

    return open_one


def visit(context: BrowserContext, console: ConsoleProcess, query: str = "") -> Page:
    """The page in this browser, when a review is on it."""
    page = context.new_page()
    page.goto(f"{console.address}/label{query}")
    expect(page.locator("#item")).not_to_have_attribute("data-record", "")
    return page


def press(page: Page, keys: str) -> None:
    """Press keys, each when a review is on the screen."""
    for key in keys:
        expect(page.locator("#item")).not_to_have_attribute("data-record", "")
        page.keyboard.press(key)


def saved(page: Page) -> None:
    """Wait until nothing is left to be saved."""
    for _ in range(100):
        if page.evaluate("Object.keys(localStorage).length") == 0:
            return
        page.wait_for_timeout(100)
    raise AssertionError(page.evaluate("JSON.stringify(localStorage)"))


def test_twenty_reviews_are_labelled_by_keys_alone_undone_and_redone(
    store: Database, label_page: Open
) -> None:
    records = queue_reviews(store, 22)
    page = label_page()
    press(page, "1" * 6 + "2" * 6 + "p" * 4 + "u" * 2 + "s" + "1")
    press(page, "zzz")  # the last answer, the skip, an unsure one
    press(page, "3" + "2" + "1")
    saved(page)
    said = dict(rows(store, "SELECT record, label FROM label_consensus ORDER BY record"))
    wanted = ["negative"] * 6 + ["neutral"] * 6 + ["positive"] * 4 + [None, "positive", "neutral", "negative"]
    assert [said[record] for record in records[:20]] == wanted
    assert {name for _, _, name, _ in answers(store)} == {"ann"}
    assert Counter(source for *_, source in answers(store)) == {"console": 22, "undo": 2}
    assert rows(store, "SELECT count(*) FROM label_skip") == [(0,)]
    assert states(store) == ["done"] * 20 + ["open"] * 2
    expect(page.locator("#today")).to_have_text("20")


def test_what_was_done_before_a_reload_can_be_taken_back(store: Database, label_page: Open) -> None:
    records = queue_reviews(store, 5)
    page = label_page()
    press(page, "12")
    saved(page)
    page.reload()
    expect(page.locator("#item")).to_have_attribute("data-record", str(records[2]))
    press(page, "z")
    expect(page.locator("#item")).to_have_attribute("data-record", str(records[1]))
    press(page, "z")
    expect(page.locator("#item")).to_have_attribute("data-record", str(records[0]))
    press(page, "z")
    expect(page.locator("#told")).to_have_text("There is nothing to take back.")
    press(page, "33")
    saved(page)
    assert [label for _, label, _, _ in answers(store)] == [
        "negative", "neutral", None, None, "positive", "positive",
    ]  # fmt: skip


def test_two_browsers_at_once_never_get_one_review(store: Database, label_page: Open) -> None:
    queue_reviews(store, 24)
    ann, bob = label_page("ann"), label_page("bob")
    seen: dict[str, list[str]] = {"ann": [], "bob": []}
    for _ in range(24):
        for name, page in (("ann", ann), ("bob", bob)):
            record = page.locator("#item").get_attribute("data-record")
            if record:
                seen[name].append(record)
                page.keyboard.press("1")
    saved(ann)
    saved(bob)
    assert not set(seen["ann"]) & set(seen["bob"])
    given = Counter((name, str(record)) for record, _, name, _ in answers(store))
    assert given == Counter((name, record) for name, records in seen.items() for record in records)
    assert min(map(len, seen.values())) >= 8


def test_a_console_that_is_killed_in_mid_session_loses_no_answer(
    store: Database, console: ConsoleProcess, label_page: Open, visits: Visits
) -> None:
    records = queue_reviews(store, 12)
    visits.expect_error(_NO_ANSWER)
    page = label_page()
    press(page, "12")
    console.kill()
    press(page, "31s")
    expect(page.locator("#trouble-text")).to_contain_text("keeps that, and tries again")
    press(page, "z3")
    console.start()
    page.get_by_role("button", name="Try now").click()
    saved(page)
    expect(page.locator("#trouble")).to_be_hidden()
    said = dict(rows(store, "SELECT record, label FROM label_consensus"))
    assert [said[record] for record in records[:5]] == [
        "negative", "neutral", "positive", "negative", "positive",
    ]  # fmt: skip
    assert len(answers(store)) == 5


def test_answers_survive_a_closed_page_and_are_saved_by_the_next_one(
    store: Database, console: ConsoleProcess, label_page: Open, visits: Visits
) -> None:
    queue_reviews(store, 12)
    visits.expect_error(_NO_ANSWER)
    page = label_page()
    console.kill()
    press(page, "123")
    page.close()
    assert answers(store) == []
    console.start()
    again = visit(page.context, console)
    saved(again)
    assert [label for _, label, _, _ in answers(store)] == ["negative", "neutral", "positive"]
    press(again, "z")
    saved(again)
    assert [label for _, label, _, _ in answers(store)][3:] == [None]


def test_answers_of_somebody_who_was_logged_out_are_saved_after_the_next_log_in(
    store: Database, console: ConsoleProcess, label_page: Open, visits: Visits
) -> None:
    queue_reviews(store, 12)
    visits.expect_error("401")
    visits.expect_error("403")  # leases given back by the page of the session before
    page = label_page()
    execute(store, "DELETE FROM console_session")
    press(page, "12")
    expect(page.locator("#trouble-text")).to_contain_text("You are logged out. 2 not saved yet")
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    assert answers(store) == []
    cookie, secret = console.log_in("ann").cookie
    page.context.add_cookies([{"name": cookie, "value": secret, "url": console.address}])
    page.reload()
    saved(page)
    assert [label for _, label, _, _ in answers(store)] == ["negative", "neutral"]


def test_an_answer_that_is_refused_comes_back_in_sight_and_stays_until_it_is_decided(
    store: Database, label_page: Open
) -> None:
    queue_reviews(store, 4)
    page = label_page()
    execute(store, "UPDATE adapter SET labels = ARRAY['negative', 'other', 'positive']")
    press(page, "21")
    unsaved = page.locator("#unsaved-list")
    expect(unsaved).to_contain_text("neutral: “Text number 0.” The label is none of its task's")
    page.reload()
    expect(unsaved).to_contain_text("Text number 0.")
    assert len(answers(store)) == 1
    execute(store, "UPDATE adapter SET labels = ARRAY['negative', 'neutral', 'positive']")
    page.get_by_role("button", name="Try again").click()
    saved(page)
    expect(page.locator("#unsaved")).to_be_hidden()
    assert sorted(label or "" for _, label, _, _ in answers(store)) == ["negative", "neutral"]


def test_the_guess_is_nowhere_before_the_choice_and_on_the_screen_after_it(
    store: Database, console: ConsoleProcess, label_page: Open
) -> None:
    queue_reviews(store, 30)
    received: list[Response] = []
    context = label_page().context
    context.on("response", lambda response: received.append(response))  # noqa: PLW0108  Playwright marks it
    page = visit(context, console)
    page.wait_for_load_state("networkidle")
    shown = [page.content(), *(one.text() for one in received if one.status == 200)]
    assert len(shown) > 5
    assert not [text for text in shown if "0.61" in text or "61 %" in text]
    press(page, "1")
    expect(page.locator("#told")).to_contain_text("the model: positive (61 %)")


def test_a_long_text_the_guidelines_and_the_keys_open_by_one_key(store: Database, label_page: Open) -> None:
    queue_reviews(store, 2)
    long = " ".join(f"word{number}" for number in range(100))
    execute(store, "UPDATE review SET text = :text WHERE review_id = 'review-0'", text=long)
    GuidelineStore(store).write(TASK, "Irony is **negative**.", "olga", replaces=0)
    page = label_page()
    expect(page.locator("#text")).to_contain_text("word59 …")
    expect(page.locator("#more")).to_contain_text("40 more words")
    press(page, "m")
    expect(page.locator("#text")).to_contain_text("word99")
    press(page, "g")
    expect(page.get_by_role("dialog")).to_contain_text("Irony is negative.")
    press(page, "1g")
    expect(page.get_by_role("dialog")).to_be_hidden()
    press(page, "?")
    expect(page.get_by_role("dialog")).to_contain_text("Undo")
    page.keyboard.press("Escape")
    assert answers(store) == []


def test_single_keys_can_be_switched_off_in_a_browser(store: Database, label_page: Open) -> None:
    records = queue_reviews(store, 2)
    page = label_page()
    press(page, "?")
    page.get_by_label("Single keys act").uncheck()
    page.keyboard.press("Escape")
    press(page, "1")
    page.reload()
    press(page, "1")
    expect(page.locator("#item")).to_have_attribute("data-record", str(records[0]))
    assert answers(store) == []
    page.get_by_role("button", name="Keys").first.click()
    page.get_by_label("Single keys act").check()
    page.keyboard.press("Escape")
    press(page, "1")
    expect(page.locator("#item")).to_have_attribute("data-record", str(records[1]))


def test_telling_words_are_marked_on_request_and_not_before(store: Database, label_page: Open) -> None:
    texts = ["the strap broke"] * 30 + ["the strap is lovely"] * 30
    records = store_reviews(store, texts)
    execute(store, "UPDATE prediction SET label = 'negative' WHERE record < :half", half=records[30])
    QueueContents(store).add([wanted(record, 1 - number / 100) for number, record in enumerate(records)])
    page = label_page()
    expect(page.locator("mark")).to_have_count(0)
    press(page, "h")
    expect(page.locator("mark")).to_have_text("broke")
    expect(page.locator("mark")).to_have_attribute("title", "negative")
    press(page, "h")
    expect(page.locator("mark")).to_have_count(0)


def test_reviews_like_the_last_one_are_confirmed_one_by_one(store: Database, label_page: Open) -> None:
    first, *others = store_reviews(store, ["strap broke", "strap tore", "strap ripped", "lovely"])
    QueueContents(store).add([wanted(first)])
    for record, direction in zip([first, *others], ([1, 0], [1, 0.1], [1, 0.2], [-1, 1]), strict=True):
        execute(
            store,
            "INSERT INTO embedding (record, task, adapter_id, reason, vector) "
            "VALUES (:record, 'sentiment', 1, 'all', :vector)",
            record=record, vector=np.array(direction, "<f2").tobytes(),
        )  # fmt: skip
    page = label_page()
    press(page, "1")
    expect(page.locator("#similar-list li")).to_have_count(2)
    page.keyboard.press("l")
    page.keyboard.press("Enter")
    expect(page.locator("#similar-list li")).to_have_count(1)
    saved(page)
    assert answers(store) == [(record, "negative", "ann", "console") for record in (first, others[0])]
    page.keyboard.press("z")
    expect(page.locator("#told")).to_have_text("Taken back: “strap tore”.")
    saved(page)
    assert [label for _, label, _, _ in answers(store)] == ["negative", "negative", None]


def test_reviews_that_are_left_go_back_to_the_queue(store: Database, label_page: Open) -> None:
    queue_reviews(store, 6)
    page = label_page()
    assert rows(store, "SELECT count(*) FROM label_task WHERE holder = 'ann'") == [(6,)]
    page.goto("about:blank")
    for _ in range(50):
        if rows(store, "SELECT count(*) FROM label_task WHERE holder IS NOT NULL") == [(0,)]:
            break
        page.wait_for_timeout(100)
    assert rows(store, "SELECT count(*) FROM label_task WHERE holder IS NOT NULL") == [(0,)]


@pytest.mark.parametrize(
    ("width", "dark"), [("wide", False), ("wide", True), ("phone", False), ("phone", True)]
)
def test_the_page_is_accessible_and_works_by_buttons(
    store: Database, label_page: Open, width: str, dark: bool
) -> None:
    queue_reviews(store, 3)
    page = label_page("olga", Role.OWNER, width=width, dark=dark)
    assert accessibility_violations(page) == []
    assert overflow_pixels(page) == 0
    page.get_by_role("button", name="neutral").click()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="positive").click()
    page.get_by_role("button", name="Skip").click()
    saved(page)
    assert [label for _, label, _, _ in answers(store)] == ["neutral", None, "positive"]
    expect(page.locator("#told")).to_contain_text("the model")
    assert accessibility_violations(page) == []
    page.get_by_role("link", name="Edit the guidelines").click()
    assert accessibility_violations(page) == []
    assert overflow_pixels(page) == 0
