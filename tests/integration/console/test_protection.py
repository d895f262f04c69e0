"""Hosts, origins, sizes, proxies and headers: what holds for every request and response."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from threading import Event
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from console.app import create_app
from console.protection import LARGEST_BODY_BYTES
from console.rendering import STATIC
from console.serving import require_safe, serve
from console.settings import ConsoleSettings
from reviews.account import Role
from reviews.errors import WrongUse
from storage.accounts.users import UserStore
from storage.database import Database
from storage.settings import DatabaseSettings
from tests.integration.console.conftest import Site

Make = Callable[..., Site]
PROXY, ELSEWHERE = "10.0.0.7", "10.9.9.9"


def test_only_names_of_this_console_are_answered(make_site: Make) -> None:
    site = make_site(hosts=("console.example.org",))
    client = site.client("viewer")
    for host in (
        "localhost",
        "localhost:8321",
        "127.0.0.1:8321",
        "[::1]:8321",
        "192.168.1.4",
        "Console.Example.org",
    ):
        assert client.get("/account", headers={"host": host}).status_code == 200, host
    for host in (
        "evil.example",
        "localhost.evil.example",
        "console.example.org.evil.example",
        "",
        "a@b:x",
        "[::1",
    ):
        answer = client.get("/account", headers={"host": host})
        assert answer.status_code == 421, host
        assert "viewer" not in answer.text


def test_a_log_in_sent_by_the_page_of_another_site_is_refused(site: Site) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        answer = site.client().post("/log-in", data={"name": "a", "password": "b"}, headers=headers)
        assert answer.status_code == 403, headers
    own = {"origin": "http://localhost", "sec-fetch-site": "same-origin"}
    assert site.client().post("/log-in", data={"name": "a", "password": "b"}, headers=own).status_code == 401


def test_a_body_that_is_too_large_is_refused_whether_or_not_it_says_so(site: Site) -> None:
    client = site.client("owner")
    whole = client.post("/people", content=b"x" * (LARGEST_BODY_BYTES + 1))
    assert whole.status_code == 413

    def parts() -> Iterator[bytes]:
        for _ in range(LARGEST_BODY_BYTES // 2**16 + 1):
            yield b"x" * 2**16

    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/people", content=parts(), headers=form).status_code == 413
    assert client.post("/people", content=b"", headers={"content-length": "-1"}).status_code == 413


def test_every_answer_tells_the_browser_what_to_refuse(site: Site) -> None:
    owner = site.client("owner")
    answers = [
        owner.get("/people"),
        owner.get("/nowhere"),
        owner.get("/static/console.css"),
        owner.get("/api/v1/me"),
        owner.get("/account", headers={"host": "evil.example"}),
        site.client().get("/people"),
    ]
    assert [one.status_code for one in answers] == [200, 404, 200, 200, 421, 303]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


def test_files_that_are_named_by_their_content_stay_in_the_browser(site: Site) -> None:
    client = site.client()
    (address,) = re.findall(r"/static/console\.css\?v=\w+", client.get("/log-in").text)
    answer = client.get(address)
    assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/%2e%2e/app.py").status_code == 404


def test_what_browsers_load_names_no_other_machine() -> None:
    own = re.compile(rb"https?://(www\.w3\.org/|localhost)")
    for file in STATIC.rglob("*"):
        for found in re.finditer(rb"(?:https?:)?//[a-z][\w.-]+\.[a-z]{2,}[^\s]*", file.read_bytes()):
            assert own.match(found[0]), (file.name, found[0])


@pytest.fixture
def proxied(make_site: Make) -> Site:
    """A console behind a proxy that names users."""
    return make_site(trusted_proxies=("10.0.0.0/29",), user_header="X-Forwarded-User", hosts=("c.example",))


def _from(site: Site, address: str) -> TestClient:
    client = site.client()
    return TestClient(
        client.app, base_url="http://localhost", follow_redirects=False, client=(address, 50_000)
    )


def test_the_user_that_a_trusted_proxy_names_is_logged_in_and_nobody_else_is_believed(proxied: Site) -> None:
    proxied.user("operator", "ada@example.org")
    named = {"x-forwarded-user": "Ada@example.org"}
    client = _from(proxied, PROXY)
    assert client.get("/account", headers=named).headers["location"].startswith("/log-in")
    answer = client.get("/log-in?next=/account", headers=named)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    assert "ada@example.org" in client.get("/account", headers=named).text
    refused = _from(proxied, ELSEWHERE).get("/log-in", headers=named)
    assert refused.status_code == 403
    assert "console.trusted_proxies" in refused.text
    assert client.get("/account").status_code == 303, "a session of the proxy's is one with its header"
    other = client.get("/account", headers={"x-forwarded-user": "eve"})
    assert other.status_code == 303
    twice = client.get("/account", headers=[("x-forwarded-user", "eve"), *named.items()])
    assert twice.status_code == 400


def test_people_whom_the_proxy_names_and_nobody_knows_get_the_role_that_is_set_or_none(
    proxied: Site, make_site: Make
) -> None:
    named = {"x-forwarded-user": "new@example.org"}
    answer = _from(proxied, PROXY).get("/log-in", headers=named)
    assert answer.status_code == 403
    assert "has no account here" in answer.text
    open_site = make_site(
        trusted_proxies=(PROXY,), user_header="X-Forwarded-User", user_header_role="annotator"
    )
    assert _from(open_site, PROXY).get("/log-in", headers=named).status_code == 303
    assert UserStore(open_site.admin).get("new@example.org").role is Role.ANNOTATOR
    UserStore(open_site.admin).disable("new@example.org")
    assert _from(open_site, PROXY).get("/log-in", headers=named).status_code == 403


def test_a_name_in_another_script_is_the_account_of_this_name(proxied: Site) -> None:
    proxied.user("viewer", "Ольга")
    named = {"x-forwarded-user": "Ольга".encode()}
    client = _from(proxied, PROXY)
    assert client.get("/log-in?next=/account", headers=named).status_code == 303
    assert "Ольга" in client.get("/account", headers=named).text


def test_without_the_setting_the_header_means_nothing(site: Site) -> None:
    answer = site.client().get("/log-in", headers={"x-forwarded-user": "owner of the tests"})
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers


def test_a_trusted_proxy_says_who_the_client_is_and_whether_it_came_by_https(proxied: Site) -> None:
    said = {"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https", "host": "c.example"}
    form = {"name": "nobody", "password": "wrong"}
    _from(proxied, PROXY).post("/log-in", data=form, headers=said)
    _from(proxied, ELSEWHERE).post("/log-in", data=form, headers=said)
    assert proxied.sql("SELECT address FROM log_in_attempt ORDER BY id") == [("203.0.113.9",), (ELSEWHERE,)]


def test_the_console_listens_to_other_machines_only_when_somebody_can_log_in(site: Site) -> None:
    users = UserStore(site.admin)
    require_safe(ConsoleSettings(), users)
    require_safe(ConsoleSettings(address="::1"), users)
    with pytest.raises(WrongUse, match="users add NAME --role owner"):
        require_safe(ConsoleSettings(address="0.0.0.0"), users)  # noqa: S104
    with pytest.raises(WrongUse):
        require_safe(ConsoleSettings(address="192.168.1.4"), users)
    users.add("ada", Role.OWNER, "the tests")
    require_safe(ConsoleSettings(address="0.0.0.0"), users)  # noqa: S104


def test_a_port_that_is_taken_is_said(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ConsoleSettings(port=taken.getsockname()[1])
        with pytest.raises(WrongUse, match=r"cannot listen on 127\.0\.0\.1:\d+ \(.*\): choose another"):
            serve(replace(site.parts, settings=settings), lambda: None, Event())


def test_while_the_database_is_away_pages_say_so_in_words(site: Site) -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    with closing(Database(DatabaseSettings(url=SecretStr(url), connect_timeout_seconds=1))) as away:
        app: Any = create_app(replace(site.parts, database=away))
        with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
            client.cookies.set(f"reviewloop_session_{site.parts.settings.port}", "any")
            page, problem = client.get("/account"), client.get("/api/v1/me")
    assert page.status_code == problem.status_code == 503
    assert "Not available now" in page.text
    assert "Traceback" not in page.text
    assert page.headers["retry-after"] == "5"
    assert problem.json()["title"] == "Not available now"


def test_a_fault_of_the_program_is_told_by_a_number_and_no_trace(site: Site, capsys: Any) -> None:
    site.routes.get("/fault")(lambda: 1 / 0)
    with TestClient(site.app, base_url="http://localhost", raise_server_exceptions=False) as client:
        answer = client.get("/fault")
    assert answer.status_code == 500
    assert "division" not in answer.text
    (number,) = re.findall(r"under the number (\w{8})\.", answer.text)
    assert number in capsys.readouterr().out
    assert "frame-ancestors" in answer.headers["content-security-policy"]
