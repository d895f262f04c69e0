"""Every route with every role, from the table of routes: pages and API alike."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx2 import Response
from starlette.routing import Mount

from console.app import api_routers, least_role, page_routers, route_table
from reviews.account import Role
from storage.accounts.sessions import TokenStore
from storage.accounts.users import UserStore
from tests.integration.console.conftest import Site

FOR_EVERYBODY = {"/log-in", "/link/{secret}", "/password/{secret}"}
SAFE = {"GET", "HEAD"}


class Called(NamedTuple):
    """A method of a route, with the least role that it declares."""

    method: str
    path: str
    role: Role | None


def _called() -> Iterator[Called]:
    """Everything but the route that ends the session that the next one would be sent with."""
    for path, route in route_table():
        if path != "/log-out":
            for method in sorted(route.methods):
                yield Called(method, path, least_role(route))


def _send(client: TestClient, called: Called, **headers: str) -> Response:
    path = re.sub(r"\{[^}]+\}", "1", called.path)
    return client.request(called.method, path, headers=headers)


def _is_refused(answer: Response) -> bool:
    return answer.status_code in {401, 403} or (
        answer.status_code == 303 and answer.headers["location"].startswith("/log-in")
    )


def test_every_route_declares_exactly_one_role() -> None:
    declared = {path: least_role(route) for path, route in route_table()}  # raises for none and for two
    assert {path for path, role in declared.items() if role is None} == FOR_EVERYBODY
    assert len(declared) > 10


def test_a_route_without_a_role_is_noticed() -> None:
    router = APIRouter()
    router.get("/open")(lambda: None)
    with pytest.raises(TypeError, match="/open declares 0 roles"):
        least_role(router.routes[0])


def test_nothing_is_reached_but_the_table_of_routes_and_the_static_files(site: Site) -> None:
    routes = site.routes.routes
    assert [one.path for one in routes if isinstance(one, Mount)] == ["/static"]
    routers = [*page_routers(), *api_routers()]
    assert len(routes) == len(routers) + 1
    for router in routers:
        assert all(isinstance(route, APIRoute) for route in router.routes)


@pytest.mark.parametrize("role", list(Role))
def test_a_role_reaches_what_it_may_and_nothing_else(site: Site, role: Role) -> None:
    client = site.client(role)
    for called in _called():
        least = called.role
        if least is None:
            continue
        answer = _send(client, called)
        assert _is_refused(answer) is not role.covers(least), (called, answer.status_code)
        assert answer.status_code != 500, called


@pytest.mark.parametrize("role", list(Role))
def test_a_token_reaches_what_its_role_may_in_the_api_and_no_page(site: Site, role: Role) -> None:
    client = site.program(role)
    for called in _called():
        least = called.role
        if least is None:
            continue
        may = called.path.startswith("/api/") and role.covers(least)
        answer = _send(client, called)
        assert _is_refused(answer) is not may, (called, answer.status_code)


def test_nobody_reaches_anything_without_a_log_in(site: Site) -> None:
    disabled, expired, unknown, no_csrf = (site.client("owner", name) for name in ("a", "b", "c", "d"))
    UserStore(site.admin).disable("a")
    site.sql(
        "UPDATE console_session s SET expires_at = now() FROM console_user u "
        "WHERE u.id = s.user_id AND u.name = 'b'"
    )
    unknown.cookies.set(f"reviewloop_session_{site.parts.settings.port}", "made up")
    del no_csrf.headers["x-csrf-token"]
    for called in _called():
        if called.role is None:
            continue
        for client in (site.client(), disabled, expired, unknown):
            assert _is_refused(_send(client, called)), called
        if called.method not in SAFE:
            assert _send(no_csrf, called).status_code == 403, called


def test_no_revoked_or_expired_token_and_none_of_a_disabled_user_reaches_the_api(site: Site) -> None:
    tokens = TokenStore(site.admin)
    for name in ("revoked", "expired", "disabled"):
        user = site.user("owner", f"owner of {name}")
        client = site.client()
        token = tokens.add(name, user, Role.OWNER, timedelta(hours=1))
        client.headers["authorization"] = f"Bearer {token}"
        assert client.get("/api/v1/me").json() == {"name": f"token {name}", "role": "owner"}
        if name == "revoked":
            tokens.revoke(name)
        elif name == "expired":
            site.sql("UPDATE console_token SET expires_at = now() WHERE name = 'expired'")
        else:
            UserStore(site.admin).disable(user.name)
        for called in _called():
            if called.path.startswith("/api/"):
                assert _send(client, called).status_code == 401, (name, called)


def test_what_changes_something_is_refused_from_the_page_of_another_site(site: Site) -> None:
    client = site.client("owner")
    for called in _called():
        if called.method in SAFE:
            continue
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            answer = _send(client, called, **headers)
            assert answer.status_code == 403, (called, headers)
        assert _send(client, called, **{"x-csrf-token": "0" * 64}).status_code in {403, 404, 422}
