"""Requests to other services: what they answer, and what becomes of it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from console.settings import LabelStudioSettings
from reviewloop.integrations import web_api
from reviewloop.integrations.label_studio import LabelStudio
from reviewloop.integrations.mlflow_server import flat
from reviewloop.integrations.web_api import WebApi, WebRefusal
from reviews.errors import Unavailable


@contextmanager
def answering(*answers: tuple[int, bytes]) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """A server that gives these answers in turn, the last for ever; its address and what it was asked."""
    asked: list[tuple[str, str, str]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            asked.append((self.command, self.path, self.headers.get("Authorization") or ""))
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815  the base class names it so

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def api(url: str) -> WebApi:
    return WebApi("The service", url, lambda: {"Authorization": "Bearer x"}, 10)


def test_an_answer_is_plain_json_and_every_request_shows_the_login() -> None:
    with answering((200, b'{"a": [1, null]}'), (204, b"")) as (url, asked):
        assert api(f"{url}/").get("/x", q="a b") == {"a": [1, None]}
        assert api(url).post("/y", {}) is None
    assert asked == [("GET", "/x?q=a+b", "Bearer x"), ("POST", "/y", "Bearer x")]


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_trouble_of_the_service_is_waited_for(status: int) -> None:
    with answering((status, b"busy")) as (url, _), pytest.raises(Unavailable, match=f"status {status}: busy"):
        api(url).get("/x")


def test_a_refusal_says_what_the_service_says_and_carries_nothing_a_terminal_obeys() -> None:
    body = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "No \x1b]0;x\x07 such"}).encode()
    with answering((404, body)) as (url, _), pytest.raises(WebRefusal) as caught:
        api(url).get("/x")
    assert (caught.value.status, caught.value.code) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "such" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_login_follows_no_redirect() -> None:
    with answering((302, b""), (200, b"{}")) as (url, asked), pytest.raises(WebRefusal):
        api(url).get("/x")
    assert len(asked) == 1


def test_what_is_no_json_or_too_long_or_not_there_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering((200, b"<html>")) as (url, _), pytest.raises(Unavailable, match="did not answer in JSON"):
        api(url).get("/x")
    monkeypatch.setattr(web_api, "_MOST_BYTES", 10)
    with answering((200, b'"' + b"x" * 20 + b'"')) as (url, _), pytest.raises(Unavailable, match="more than"):
        api(url).get("/x")
    with pytest.raises(Unavailable, match="does not answer"):
        api("http://127.0.0.1:1").get("/x")


def test_a_personal_token_of_label_studio_gets_access_tokens_and_renews_them() -> None:
    clock = [0.0]
    with answering((200, b'{"access": "one", "email": "ann@example.org"}')) as (url, asked):
        settings = LabelStudioSettings(url=url, token="a.b.c")
        studio = LabelStudio(settings, lambda: clock[0])
        assert studio.annotator(7) == studio.annotator(7) == "ann@example.org"
        clock[0] = 700
        studio.annotator(7)
    assert [one[1] for one in asked] == ["/api/token/refresh", "/api/users/7/"] * 2
    assert {one[2] for one in asked} == {"", "Bearer one"}


def test_nested_values_have_dotted_names() -> None:
    values = {"a": {"b": 1, "c": [1, 2]}, "recipes": [{"name": "x", "rate": 2}, {"rate": 3}], "d": []}
    assert dict(flat(values)) == {
        "a.b": 1, "a.c": [1, 2], "recipes.x.name": "x", "recipes.x.rate": 2, "recipes.1.rate": 3, "d": [],
    }  # fmt: skip
