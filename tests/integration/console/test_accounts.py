"""Logging in, people, tokens and the audit log, as a browser does it."""

import contextlib
import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from console.passwords import hash_password
from reviews.account import Role
from reviews.errors import ReviewLoopError, WrongUse
from storage.accounts.audit_log import AuditLog
from storage.accounts.sessions import LinkPurpose, SessionStore, TokenStore
from storage.accounts.users import ATTEMPTS_WINDOW, AttemptStore, UserStore
from tests.integration.console.conftest import HOUR, Site

PASSWORD = "four words are enough"


@pytest.fixture
def ada(site: Site) -> str:
    """An owner with a password."""
    return UserStore(site.admin).add("Ada", Role.OWNER, "the tests", hash_password(PASSWORD)).name


def _log_in(site: Site, name: str, password: str, **more: str):
    client = site.client()
    return client, client.post("/log-in", data={"name": name, "password": password, **more})


def test_an_owner_sees_every_page_of_administration(site: Site) -> None:
    owner = site.client("owner")
    for path in ("/people", "/tokens", "/audit-log", "/account"):
        answer = owner.get(path)
        assert answer.status_code == 200, answer.text
        assert "owner of the tests" in answer.text


def test_the_right_password_begins_a_session_in_a_cookie_that_no_script_reads(site: Site, ada: str) -> None:
    client, answer = _log_in(site, "ada", PASSWORD, next="/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie, "there is no https here"
    assert ada in client.get("/account").text
    (secret,) = client.cookies.values()
    assert secret not in str(site.sql("SELECT * FROM console_session")), "only its hash is stored"


def test_over_https_the_cookie_is_secure(site: Site, ada: str) -> None:
    client = site.client()
    answer = client.post("https://localhost/log-in", data={"name": ada, "password": PASSWORD})
    assert "Secure" in answer.headers["set-cookie"]


def test_whatever_is_wrong_the_answer_is_the_same(site: Site, ada: str) -> None:
    UserStore(site.admin).add("by link", Role.VIEWER, "the tests")
    for name, password in ((ada, "wrong"), ("nobody", PASSWORD), ("by link", PASSWORD)):
        _, answer = _log_in(site, name, password)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "No account has this name and this password." in answer.text


def test_a_disabled_user_cannot_log_in_and_the_session_is_over(site: Site, ada: str) -> None:
    site.user("owner")
    client, _ = _log_in(site, ada, PASSWORD)
    UserStore(site.admin).disable(ada)
    assert client.get("/account").headers["location"].startswith("/log-in")
    assert _log_in(site, ada, PASSWORD)[1].status_code == 401


def test_after_a_few_wrong_passwords_even_the_right_one_waits(site: Site, ada: str) -> None:
    for _ in range(5):
        assert _log_in(site, ada, "wrong")[1].status_code == 401
    refused = _log_in(site, ada, PASSWORD)[1]
    assert refused.status_code == 429
    assert "try again in 15 minutes" in refused.text
    assert _log_in(site, "nobody", "wrong")[1].status_code == 401, "other accounts go on"
    site.sql("UPDATE log_in_attempt SET attempted_at = attempted_at - make_interval(secs => :s)",
             s=ATTEMPTS_WINDOW.total_seconds())  # fmt: skip
    assert _log_in(site, ada, PASSWORD)[1].status_code == 303


def test_attempts_are_counted_by_account_and_by_address_and_the_right_password_does_not_count(
    site: Site,
) -> None:
    attempts = AttemptStore(site.admin)
    for number in range(30):
        begun = attempts.begin(f"user {number % 10}", "10.0.0.1")
        assert begun is not None
    assert attempts.begin("another", "10.0.0.1") is None, "one address tries many accounts"
    assert attempts.begin("another", "10.0.0.2") is not None
    for number in range(50):
        assert attempts.begin("ADA", f"10.0.1.{number}") is not None
    assert attempts.begin("ada", "10.0.2.1") is None, "many addresses try one account"
    for _ in range(40):
        begun = attempts.begin("bob", "10.0.3.1")
        assert begun is not None
        attempts.succeed(begun)


def test_after_the_log_in_a_browser_stays_on_this_console(site: Site, ada: str) -> None:
    assert _log_in(site, ada, PASSWORD, next="/people?before=3")[1].headers["location"] == "/people?before=3"
    for target in (
        "//evil.example",
        "/\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/x\r\nset-cookie: a=b",
        "\t//evil.example",
        "/\t/evil.example",
        "",
    ):
        assert _log_in(site, ada, PASSWORD, next=target)[1].headers["location"] == "/", target


def test_a_page_that_needs_a_log_in_leads_back_to_itself(site: Site, ada: str) -> None:
    answer = site.client().get("/audit-log?before=7")
    assert answer.headers["location"] == "/log-in?next=%2Faudit-log%3Fbefore%3D7"
    form = site.client().get(answer.headers["location"]).text
    assert 'value="/audit-log?before=7"' in form


def test_logging_out_ends_the_session_for_a_copied_cookie_too(site: Site) -> None:
    client, thief = site.client("viewer"), site.client()
    thief.cookies = client.cookies
    assert client.post("/log-out").headers["location"] == "/log-in"
    assert thief.get("/account").status_code == 303


def test_a_one_time_link_lets_in_once_and_not_after_its_time(site: Site) -> None:
    sessions, user = SessionStore(site.admin), site.user("operator")
    secret = sessions.make_link(user, LinkPurpose.LOG_IN, HOUR)
    client = site.client()
    assert client.get(f"/link/{secret}").headers["location"] == "/"
    assert "operator of the tests" in client.get("/account").text
    again = site.client().get(f"/link/{secret}")
    assert (again.status_code, "used already" in again.text) == (404, True)
    late = sessions.make_link(user, LinkPurpose.LOG_IN, timedelta(seconds=-1))
    assert site.client().get(f"/link/{late}").status_code == 404
    other = sessions.make_link(user, LinkPurpose.PASSWORD, HOUR)
    assert site.client().get(f"/link/{other}").status_code == 404, "it is for choosing a password"


def test_somebody_who_is_invited_chooses_a_password_and_logs_in_with_it(site: Site) -> None:
    owner = site.client("owner")
    page = owner.post("/people", data={"name": "Grace", "role": "annotator"}).text
    (path,) = re.findall(r"http://localhost(/password/[\w-]+)", page)
    guest = site.client()
    assert "Grace" in guest.get(path).text
    assert "at least 10 characters" in guest.get(path).text, "looking at it does not use it up"
    assert guest.post(path, data={"password": "short"}).status_code == 422
    assert guest.post(path, data={"password": PASSWORD}).status_code == 303
    assert "Grace" in guest.get("/account").text
    assert site.client().post(path, data={"password": PASSWORD}).status_code == 404
    assert _log_in(site, "grace", PASSWORD)[1].status_code == 303


def test_a_new_password_needs_the_old_one_and_ends_the_other_sessions(site: Site, ada: str) -> None:
    client, other = _log_in(site, ada, PASSWORD)[0], _log_in(site, ada, PASSWORD)[0]
    (csrf,) = re.findall(r'<meta name="csrf" content="(\w+)">', client.get("/account").text)
    form = {"csrf": csrf, "password": "another four words", "current": "wrong"}
    assert client.post("/account", data=form).status_code == 422
    assert client.post("/account", data={**form, "current": PASSWORD}).status_code == 303
    assert "The password is changed." in client.get("/account").text
    assert "The password is changed." not in client.get("/account").text, "a notice is shown once"
    assert other.get("/account").status_code == 303
    assert _log_in(site, ada, PASSWORD)[1].status_code == 401


def test_the_last_owner_cannot_be_removed_and_owners_cannot_remove_each_other_at_once(site: Site) -> None:
    owner = site.client("owner")
    for path, more in (("/people/disable", {}), ("/people/role", {"role": "viewer"})):
        answer = owner.post(path, data={"name": "owner of the tests", **more})
        assert answer.status_code == 422
        assert "is the only owner" in answer.text
    assert UserStore(site.admin).get("owner of the tests").role is Role.OWNER


def test_owners_change_roles_disable_enable_and_reset_and_the_log_says_why(site: Site) -> None:
    owner, bob = site.client("owner"), site.client("viewer", "bob")
    assert bob.get("/people").status_code == 403
    owner.post("/people/role", data={"name": "bob", "role": "owner", "reason": "second owner"})
    assert bob.get("/people").status_code == 200, "at once, without a new log-in"
    owner.post("/people/disable", data={"name": "bob", "reason": "left us <script>"})
    assert bob.get("/people").status_code == 303
    owner.post("/people/enable", data={"name": "bob"})
    assert "/password/" in owner.post("/people/reset", data={"name": "bob"}).text
    assert owner.post("/people/disable", data={"name": "nobody", "reason": "why"}).status_code == 422
    entries = AuditLog(site.admin).entries()
    assert [(one.action, one.subject, one.outcome, one.reason) for one in reversed(entries)] == [
        ("user.role.owner", "bob", "done", "second owner"),
        ("user.disable", "bob", "done", "left us <script>"),
        ("user.enable", "bob", "done", ""),
        ("user.reset", "bob", "done", ""),
        ("user.disable", "nobody", "refused", "why"),
    ]
    assert {one.actor for one in entries} == {"owner of the tests"}
    assert all(one.decided_at < datetime.now(UTC) for one in entries)
    page = owner.get("/audit-log").text
    assert "left us &lt;script&gt;" in page
    assert "There is no user" in page


def test_a_decision_is_in_the_log_before_it_is_taken(site: Site) -> None:
    log = AuditLog(site.parts.database)
    with contextlib.suppress(KeyboardInterrupt), log.decision("ada", "adapter.promote", "v1"):
        assert [one.outcome for one in log.entries()] == [None]
        raise KeyboardInterrupt
    assert [one.outcome for one in log.entries()] == [None]
    assert "unknown" in site.client("owner").get("/audit-log").text


def test_the_consoles_database_role_cannot_rewrite_the_audit_log(site: Site) -> None:

    with AuditLog(site.parts.database).decision("ada", "adapter.promote", "v1"):
        pass
    for statement in (
        "UPDATE audit_log SET actor = 'bob'",
        "DELETE FROM audit_log",
        "UPDATE console_token SET secret_hash = ''",
    ):
        with pytest.raises(ReviewLoopError, match="may not do this"):
            site.parts.database.execute(text(statement))


def test_a_token_is_shown_once_and_ends_when_it_is_revoked(site: Site) -> None:
    owner = site.client("owner")
    page = owner.post("/tokens", data={"name": "export", "role": "viewer", "days": "30"}).text
    (token,) = re.findall(r"rlt_[\w-]{43}", page)
    assert token not in owner.get("/tokens").text
    assert token not in str(site.sql("SELECT * FROM console_token"))
    program = site.client()
    program.headers["authorization"] = f"bearer {token}"
    assert program.get("/api/v1/me").json() == {"name": "token export", "role": "viewer"}
    assert owner.post("/tokens", data={"name": "export", "role": "viewer"}).status_code == 422
    owner.post("/tokens/revoke", data={"name": "export"})
    refused = program.get("/api/v1/me")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert refused.headers["content-type"] == "application/problem+json"
    assert "unknown, expired or revoked" in refused.json()["detail"]


def test_a_token_can_do_no_more_than_its_user_can_now(site: Site) -> None:
    tokens, users, user = TokenStore(site.admin), UserStore(site.admin), site.user("operator", "eve")
    with pytest.raises(WrongUse, match="cannot be owner"):
        tokens.add("too much", user, Role.OWNER, HOUR)
    secret = tokens.add("deploy", user, Role.OPERATOR, HOUR)
    users.set_role("eve", Role.VIEWER)
    found = tokens.find(secret)
    assert found is not None
    assert found.role is Role.VIEWER
