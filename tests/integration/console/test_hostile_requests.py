"""Every route with values that nobody would send who means well: a clear refusal, never a fault."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute

from console.app import route_table
from tests.hostile_rows import HOSTILE_MARKUP, store_hostile_rows
from tests.integration.console.conftest import Site

VALUES = (
    "",
    "0",
    "-1",
    "9" * 30,
    "1e999",
    "nan",
    "a\x00b",
    "'; DROP TABLE review --",
    HOSTILE_MARKUP,
    "é" * 600,
)
"""Of paths, queries and forms."""
BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"null",
    b'"\\ud800"',
    b"\xff\xfe",
    b"{}",
    b'{"text": "a\\u0000b", "label": "\\ud800", "items": [null]}',
)
"""Of requests whose body is JSON."""
LEFT_OUT = frozenset({"/log-in", "/log-out", "/account", "/people/disable", "/people/reset"})
"""They would end the session, or calculate a hash each time."""


@pytest.fixture
def sent(site: Site) -> Any:
    """Sends a request as an owner; fails where the answer is the program's fault."""
    store_hostile_rows(site.admin, HOSTILE_MARKUP)
    site.user("owner", "another owner")
    client = site.client("owner")

    def send(method: str, path: str, **what: Any) -> None:
        answer = client.request(method, path, **what)
        refused = answer.status_code
        assert refused < 500 or refused == 503, (method, path[:200], str(what)[:300], answer.text[-1500:])
        if path.startswith("/api/") and refused >= 400:
            assert answer.headers["content-type"] == "application/problem+json", path
            assert answer.json()["detail"], path

    return send


def _called() -> Iterator[tuple[str, str, APIRoute]]:
    for path, route in route_table():
        for method in sorted(route.methods or ()):
            if path not in LEFT_OUT:
                yield method, path, route


def test_hostile_paths_and_queries_are_refused(sent: Any) -> None:
    for method, path, route in _called():
        names = [field.alias for field in route.dependant.query_params]
        if method != "GET" or not (names or "{" in path):
            continue
        for value in VALUES:
            filled = re.sub(r"\{[^}]+\}", lambda _, value=value: quote(value, safe="") or "x", path)
            sent(method, filled, params=dict.fromkeys(names, value))
        for name in names:
            sent(method, re.sub(r"\{[^}]+\}", "1", path), params={name: ["1", "a\x00b"]})


def test_hostile_forms_and_bodies_are_refused(sent: Any) -> None:
    for method, path, route in _called():
        if method == "GET":
            continue
        filled = re.sub(r"\{[^}]+\}", "1", path)
        if path.startswith("/api/"):
            for body in BODIES:
                sent(method, filled, content=body, headers={"content-type": "application/json"})
            continue
        names = [field.alias for field in route.dependant.body_params]
        for value in VALUES:
            sent(method, filled, data=dict.fromkeys(names, value))
        sent(
            method,
            filled,
            content=b"%ff%fe=%00&&&=",
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        sent(method, filled, content=b"--x", headers={"content-type": "multipart/form-data; boundary=x"})
        sent(method, filled, content=b"--x", headers={"content-type": "multipart/form-data"})
