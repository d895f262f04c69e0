"""The browser of the tests: text is visible in it, and the watch over its pages sees what it should."""

import functools
import http.server
import platform
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Playwright

from tests.browser.chromium import npm_chromium
from tests.browser.visits import (
    Visits,
    accessibility_violations,
    chromium_or_skip,
    launched_chromium,
    overflow_pixels,
)

_PAGE = """<!doctype html><html lang="en"><title>Page</title><main><h1>Heading</h1>{}</main></html>"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of the test's folder."""
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/page.html"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="npm's is for Linux on x86-64"
)
def test_the_chromium_from_npm_shows_text(driver: Playwright, served: str, tmp_path: Path) -> None:
    chromium = chromium_or_skip(npm_chromium)
    (tmp_path / "page.html").write_text(_PAGE.format("<p>Visible text</p>"), encoding="utf-8")
    with launched_chromium(driver, chromium) as browser:
        page = browser.new_page()
        page.goto(served)
        page.screenshot(path=tmp_path / "text.png")
    dark_pixels = sum(Image.open(tmp_path / "text.png").convert("L").histogram()[:128])
    assert dark_pixels > 300


def test_a_request_to_another_machine_and_an_error_of_a_script_fail_the_test(
    browser: Browser, served: str, tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(
        _PAGE.format('<img src="http://example.org/picture.png" alt="A picture"><script>nothing()</script>'),
        encoding="utf-8",
    )
    visits = Visits(browser)
    visits.page().goto(served)
    with pytest.raises(AssertionError):
        visits.close()
    assert visits.foreign == ["http://example.org/picture.png"]
    assert any("nothing is not defined" in error for error in visits.errors)


def test_axe_and_the_width_of_a_page_are_judged(visits: Visits, served: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        _PAGE.format(
            '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><p style="width:2000px">wide</p>'
        ),
        encoding="utf-8",
    )
    page = visits.page(width="phone")
    page.goto(served)
    assert any(line.startswith("image-alt") for line in accessibility_violations(page))
    assert overflow_pixels(page) > 1000


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/favicon.ico":  # asked for by the browser itself
            self.send_response(204)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
