"""Every page of the console, from the table of routes, as a browser shows it and as the database is asked."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page

from benchmarks.console_data import fill_console, made_up_samples
from benchmarks.console_paths import Visited, reading_addresses
from benchmarks.console_plans import Recorded, recorded, unindexed
from benchmarks.services import connect
from tests.browser.visits import WIDTHS, Visits, accessibility_violations, overflow_pixels
from tests.conftest import _new_database
from tests.integration.browser.conftest import Served, listening
from tests.integration.console.conftest import Site, open_site

REVIEWS = 20_000


@pytest.fixture(scope="module")
def filled(database_url: str, migrated_template: str) -> Iterator[str]:
    """A database with a year of reviews, and what people and jobs did with them."""
    with _new_database(database_url, template=migrated_template) as url:
        fill_console(url, REVIEWS, list(made_up_samples()), density=5)
        yield url


@pytest.fixture
def filled_site(filled: str, console_role: tuple[str, str], kafka_bootstrap: str) -> Iterator[Site]:
    """The console over it."""
    with ExitStack() as stack:
        yield open_site(stack, console_role, filled, kafka_bootstrap)


@pytest.fixture
def pages(filled: str) -> list[Visited]:
    """An address of every page and of every reading API call."""
    with connect(filled) as connection:
        return reading_addresses(connection)


def test_nobody_is_kept_out_of_a_page_light_or_dark_on_a_wide_screen_or_a_phone(
    filled_site: Site, visits: Visits, pages: list[Visited]
) -> None:
    found: dict[str, list[str]] = {}
    visits.expect_error("status of 404")  # a link that was used
    with listening(filled_site) as url:
        page = Served(filled_site, url, visits).page("owner")
        for route, address in _one_of_each_page(pages).items():
            if problems := _problems(page, address):
                found[route] = problems
    assert not found, "\n".join(f"{route}: {line}" for route, lines in found.items() for line in lines)


def _one_of_each_page(pages: list[Visited]) -> dict[str, str]:
    """The address of each page by its route; files to download are no pages."""
    shown = [visited for visited in reversed(pages) if visited.is_page and "." not in visited.route]
    return {visited.route: visited.address for visited in shown}


def _problems(page: Page, address: str) -> list[str]:
    """What is wrong with a page, as it is on a wide screen, by night, and on a phone."""
    answer = page.goto(address)
    problems = [] if answer and answer.status < 500 else ["the server failed"]
    if page.locator("main").count() == 0:  # a fragment, which is judged within its page
        return problems
    problems += [f"wide: {line}" for line in _layout_problems(page, "wide")]
    page.emulate_media(color_scheme="dark")
    problems += [f"dark: {line}" for line in accessibility_violations(page, rules=["color-contrast"])]
    page.emulate_media(color_scheme="light")
    problems += [f"phone: {line}" for line in _layout_problems(page, "phone")]
    return problems


def _layout_problems(page: Page, width: str) -> list[str]:
    page.set_viewport_size({"width": WIDTHS[width], "height": 900})
    too_wide = overflow_pixels(page)
    return [
        *accessibility_violations(page),
        *([f"it is {too_wide} pixels wider than the window"] if too_wide else []),
    ]


def test_no_page_and_no_api_call_reads_a_big_table_from_end_to_end(
    filled_site: Site, pages: list[Visited]
) -> None:
    client = filled_site.client("owner")
    with recorded(filled_site.parts.database) as found:
        answers = {visited.address: client.get(visited.address).status_code for visited in pages}
    assert {address: status for address, status in answers.items() if status >= 500} == {}
    assert len(found.statements) > 20
    unbounded = "SELECT product, count(*) FROM review GROUP BY product"  # or nothing would be found at all
    assert unindexed(filled_site.parts.database, Recorded({unbounded: None})) == [f"review: {unbounded}"]
    scans = unindexed(filled_site.parts.database, found)
    assert not scans, "\n".join(scans)
