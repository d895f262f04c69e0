"""Every page that links lead to, over rows whose every text tries to command the browser."""

import re
from collections import deque
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from fastapi.testclient import TestClient

from console.app import API_PREFIX, route_table
from console.rendering import NAVIGATION
from tests.hostile_rows import HOSTILE_MARKUP, HUGE_TEXT, store_hostile_rows
from tests.integration.console.conftest import Site
from tests.integration.console.test_every_route import FOR_EVERYBODY

MOST_PAGES = 400
OWN_SCRIPT = re.compile(r"/static/\w+\.js\?v=\w+")
MAY_APPEAR = frozenset("\n\t\u200c\u200d")


class Seen(HTMLParser):
    """The links of a page, and what on it was not written by its templates."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.intruders: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.links += [given[name] for name in ("href", "data-poll") if name in given]
        is_data = given.get("type") == "application/json"
        if tag == "script" and not (is_data or OWN_SCRIPT.fullmatch(given.get("src", ""))):
            self.intruders.append(f"script {given}")
        for name, value in given.items():
            if name.startswith("on") or name == "style" or value.strip().lower().startswith("javascript:"):
                self.intruders.append(f"{tag} {name}={value[:80]}")
        if tag == "img" and not given.get("src", "").startswith("/"):
            self.intruders.append(f"img {given}")


def _crawl(client: TestClient) -> dict[str, str]:
    """Every page that links lead to from the navigation, by its path and query."""
    waiting, pages = deque(entry.path for entry in NAVIGATION), {}
    while waiting and len(pages) < MOST_PAGES:
        path = waiting.popleft()
        if path in pages or path.startswith("/static/"):
            continue
        answer = client.get(path)
        if answer.status_code in {302, 303}:
            waiting.append(urljoin(path, answer.headers["location"]))
            pages[path] = ""
            continue
        assert answer.status_code == 200, (path, answer.status_code, answer.text[-2000:])
        is_page = answer.headers["content-type"].startswith("text/html")
        pages[path] = answer.text if is_page else ""
        for link in Seen(pages[path]).links:
            target = urlsplit(urljoin(f"http://localhost{path}", link))
            assert (target.scheme, target.netloc) == ("http", "localhost"), (path, link)
            waiting.append(target.path + (f"?{target.query}" if target.query else ""))
    return pages


def _matches(pattern: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\\\{[^}]*\\\}", ".+", re.escape(pattern)), path) is not None


def test_no_page_runs_shows_or_loads_what_a_stranger_wrote(site: Site) -> None:
    store_hostile_rows(site.admin, HOSTILE_MARKUP, HUGE_TEXT)
    pages = _crawl(site.client("owner", HOSTILE_MARKUP))
    for path, page in pages.items():
        assert Seen(page).intruders == [], path
        obeyed = {mark for mark in page if not mark.isprintable()} - MAY_APPEAR
        assert not obeyed, (path, sorted(obeyed))
        assert "<script>alert" not in page, path
    shown = [path for path, page in pages.items() if "&lt;script&gt;alert(1)" in page]
    assert {"/people", "/tokens"} <= set(shown)
    visited = {urlsplit(path).path for path in pages}
    expected = [
        path
        for path, route in route_table()
        if "GET" in (route.methods or ()) and not path.startswith(API_PREFIX) and path not in FOR_EVERYBODY
    ]
    assert [one for one in expected if not any(_matches(one, path) for path in visited)] == []
