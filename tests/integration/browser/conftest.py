"""A real Chromium, and a console that it can reach."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from reviews.account import Role
from storage.accounts.sessions import SessionStore
from tests.browser.visits import Visits, chromium_or_skip, launched_chromium
from tests.integration.console.conftest import Site, console_role, make_site, site

__all__ = ["console_role", "make_site", "site"]  # the console's own fixtures
_START_SECONDS = 20


class Served:
    """A console that listens, and the browsers that visit it.

    Attributes:
        site: The console, with its database.
        url: Where it listens.
    """

    def __init__(self, site: Site, url: str, visits: Visits) -> None:
        self.site = site
        self.url = url
        self._visits = visits

    def browser(
        self, role: Role | str | None = "owner", name: str | None = None, **how: object
    ) -> BrowserContext:
        """A browser of a user with this role, by default the tests' own; None: nobody is logged in.

        Addresses without a host are of the console. ``how``: ``width``, ``dark``, ``scripts``.
        """
        context = self._visits.context(base_url=self.url, **how)
        if role is not None:
            secret = SessionStore(self.site.admin).begin(
                self.site.user(role, name), "password", timedelta(hours=1)
            )
            cookie = f"reviewloop_session_{self.site.parts.settings.port}"
            context.add_cookies([{"name": cookie, "value": secret, "url": self.url}])
        return context

    def page(self, role: Role | str | None = "owner", name: str | None = None, **how: object) -> Page:
        """A page in a browser of its own."""
        return self.browser(role, name, **how).new_page()


@pytest.fixture(scope="package")
def driver() -> Iterator[Playwright]:
    """What starts browsers; it ends with this folder's tests, as its thread has an event loop so long."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(driver: Playwright) -> Iterator[Browser]:
    """A started Chromium."""
    with launched_chromium(driver, chromium_or_skip()) as started:
        yield started


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Pages for one test, which fails if a request left the machine or a script failed."""
    opened = Visits(browser)
    yield opened
    opened.close()


@pytest.fixture
def served(site: Site, visits: Visits) -> Iterator[Served]:
    """The console of this test, listening in a thread."""
    with listening(site) as url:
        yield Served(site, url, visits)


@contextmanager
def listening(site: Site, port: int = 0) -> Iterator[str]:
    """Let a console listen on a port of this machine; yields its address."""
    config = uvicorn.Config(
        site.app, log_config=None, access_log=False, proxy_headers=False, ws="none", lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), name="console")
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_START_SECONDS)
