"""A real Chromium for the tests of pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.visits import Visits, chromium_or_skip, opened_chromium


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A started Chromium; it ends with this folder's tests, as its thread has an event loop so long."""
    with opened_chromium(chromium_or_skip()) as started:
        yield started


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Pages for one test, which fails if a request left the machine or a script failed."""
    opened = Visits(browser)
    yield opened
    opened.close()
