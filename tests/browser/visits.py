"""Pages in a real Chromium: no request leaves the machine, and no error of a script passes unseen."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    Request,
    sync_playwright,
)

from tests.browser.chromium import Chromium, NoBrowser, find_chromium

WIDTHS = {"wide": 1280, "phone": 390}
_HEIGHTS = {"wide": 900, "phone": 844}
# Names are looked up nowhere: a page that asks for another machine is told that there is none.
_NO_NAMES = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"
# The rules of the Web Content Accessibility Guidelines up to 2.2 AA, and what axe-core calls good practice.
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Visits:
    """The pages of one test, and what went wrong on them.

    Attributes:
        foreign: Requests that were meant for another machine.
        errors: Errors of scripts, and what the browser reported as one.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self._expected: list[str] = []
        self.foreign: list[str] = []
        self.errors: list[str] = []

    def context(
        self, *, width: str = "wide", dark: bool = False, scripts: bool = True, base_url: str | None = None
    ) -> BrowserContext:
        """A new browser as far as a server can tell: without cookies, and with none of another's.

        Args:
            width: ``wide`` or ``phone``.
            dark: Whether its user prefers dark pages.
            scripts: Whether it runs JavaScript.
            base_url: What addresses without a host are of.
        """
        context = self._browser.new_context(
            base_url=base_url,
            viewport={"width": WIDTHS[width], "height": _HEIGHTS[width]},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            reduced_motion="reduce",
        )
        context.set_default_timeout(30_000)
        context.on("request", self._note_request)
        context.on("console", self._note_message)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        self._contexts.append(context)
        return context

    def page(self, **how: Any) -> Page:
        """A page in a new browser, as :meth:`context` makes it."""
        return self.context(**how).new_page()

    def expect_error(self, part: str) -> None:
        """Say that an error with these words is the point of the test."""
        self._expected.append(part)

    def close(self) -> None:
        """Close all pages; fails the test where something went wrong on them."""
        for context in self._contexts:
            context.close()
        assert self.foreign == []
        errors = [error for error in self.errors if not any(part in error for part in self._expected)]
        assert errors == [], errors

    def _note_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in {"data", "blob", "about"} and parts.hostname not in {"127.0.0.1", "localhost"}:
            self.foreign.append(request.url)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")


@contextmanager
def opened_chromium(chromium: Chromium) -> Iterator[Browser]:
    """This Chromium, started, with a driver of its own: a thread may have one only."""
    with sync_playwright() as driver, launched_chromium(driver, chromium) as browser:
        yield browser


@contextmanager
def launched_chromium(driver: Playwright, chromium: Chromium) -> Iterator[Browser]:
    """This Chromium, started by a driver that may have started others."""
    environment: Mapping[str, str] = {**os.environ, **chromium.environment}
    browser = driver.chromium.launch(
        executable_path=chromium.executable,
        args=[*chromium.arguments, _NO_NAMES],
        env=dict(environment),
    )
    try:
        yield browser
    finally:
        browser.close()


def chromium_or_skip(find: Callable[[], Chromium] = find_chromium) -> Chromium:
    """A Chromium; where there is none, the test is skipped with the reason, and fails in CI."""
    try:
        return find()
    except NoBrowser as err:
        if os.environ.get("CI") == "true":
            pytest.fail(str(err), pytrace=False)
        pytest.skip(str(err))


def accessibility_violations(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """What axe-core finds on a page as it is now, a line for each place.

    Args:
        page: The page.
        rules: Only these of its rules; empty: all.
    """
    wanted = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": _TAGS}
    found = Axe().run(page, options={"resultTypes": ["violations"], "runOnly": wanted})
    return [
        f"{rule['id']}: {node['target']} {node['html'][:200]} {node['failureSummary']}"
        for rule in found.response["violations"]
        for node in rule["nodes"]
    ]


def overflow_pixels(page: Page) -> int:
    """How much wider a page is than the window: 0 where nobody has to scroll sideways."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider
