"""``reviewloop console``: accounts from the command line, and a server that ends in order."""

import getpass
import json
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from reviewloop.cli import app
from reviewloop.wiring.console import local_link
from reviews.account import COMMAND_LINE, Role
from reviews.errors import WrongUse
from storage.accounts.audit_log import AuditLog
from storage.accounts.users import UserStore
from tests import commands
from tests.integration.console.conftest import Site
from tests.integration.system import make_environment


@pytest.fixture
def told(site: Site, database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a command of the console; what it printed on standard output."""
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", database)

    def told(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["console", *arguments])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    return told


def test_accounts_are_made_changed_and_ended_and_the_log_has_it(
    site: Site, told: Any, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("four words are enough\n")
    told("users", "add", "ada", "--role", "owner", "--password-file", "password")
    link = told("users", "add", "grace").strip()
    assert link.startswith("http://127.0.0.1:8321/password/")
    guest = site.client()
    answer = guest.post(link.removeprefix("http://127.0.0.1:8321"), data={"password": "another four words"})
    assert answer.status_code == 303
    told("users", "role", "grace", "operator")
    assert guest.get("/account").status_code == 200
    told("users", "disable", "GRACE")
    assert guest.get("/account").status_code == 303
    told("users", "enable", "grace")
    assert "/password/" in told("users", "reset", "grace")
    with pytest.raises(WrongUse, match="is the only owner"):
        told("users", "disable", "ada")
    rows = [json.loads(line) for line in told("users", "list").splitlines()]
    assert [(row["name"], row["role"], row["logs_in_by"]) for row in rows] == [
        ("ada", "owner", "password"),
        ("grace", "operator", "link or single sign-on"),
    ]
    entries = [one for one in AuditLog(site.admin).entries() if one.actor.startswith(COMMAND_LINE)]
    assert [(one.action, one.outcome) for one in reversed(entries)] == [
        ("user.add", "done"), ("user.add", "done"), ("user.role.operator", "done"), ("user.disable", "done"),
        ("user.enable", "done"), ("user.reset", "done"), ("user.disable", "refused"),
    ]  # fmt: skip
    form = {"name": "ada", "password": "four words are enough"}
    assert site.client().post("/log-in", data=form).status_code == 303


def test_a_token_of_the_command_line_works_until_it_is_revoked(site: Site, told: Any) -> None:
    site.user("owner", "ada")
    program = site.client()
    program.headers["authorization"] = f"Bearer {told('tokens', 'add', 'export', 'ada').strip()}"
    assert program.get("/api/v1/me").json() == {"name": "token export", "role": "viewer"}
    told("tokens", "revoke", "export")
    assert program.get("/api/v1/me").status_code == 401
    (row,) = map(json.loads, told("tokens", "list").splitlines())
    assert (row["name"], row["user"], bool(row["revoked_at"])) == ("export", "ada", True)
    assert "secret" not in row


def test_on_a_local_stack_and_only_there_a_link_logs_the_user_of_the_machine_in(
    site: Site, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = SimpleNamespace(
        kafka=SimpleNamespace(running=False),
        postgres=SimpleNamespace(running=True, url=database),
        registry=None,
    )
    monkeypatch.setattr("reviewloop.settings.find_running", lambda: stack)
    link = local_link(site.admin)
    assert link is not None
    client = site.client()
    assert client.get(link).headers["location"] == "/"
    assert getpass.getuser() in client.get("/account").text
    assert UserStore(site.admin).get(getpass.getuser()).role is Role.OWNER
    site.user("owner", "another owner")
    UserStore(site.admin).disable(getpass.getuser())
    assert local_link(site.admin) is None
    monkeypatch.setenv("REVIEWLOOP_DATABASE__URL", database)
    UserStore(site.admin).enable(getpass.getuser())
    assert local_link(site.admin) is None


def test_the_server_answers_and_ends_in_order(site: Site, database: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = make_environment(REVIEWLOOP_DATABASE__URL=database)
    with (tmp_path / "said").open("w+b") as said:
        running = commands.start("console", "--port", port, env=environment, stdout=said)
        try:
            page = _patiently(f"http://127.0.0.1:{port}/log-in")
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=60) == 0
        said.seek(0)
        text = said.read().decode()
    assert "<h1>ReviewLoop</h1>" in page
    assert re.search(rf"The console is at http://127\.0\.0\.1:{port}$", text, re.MULTILINE)
    assert "/link/" not in text, "this is not a local stack"


def _patiently(address: str) -> str:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310  our own address
                return str(answer.read().decode())
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{address} does not answer")
