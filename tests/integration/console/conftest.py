"""A console over a real database, under its own database role, and clients that are logged in."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import make_url, text

from broker.settings import KafkaSettings
from broker.topics import TopicChoice
from classifier.settings import ClassifierSettings
from console.access import _csrf_token
from console.app import make_routes
from console.parts import ConsoleParts
from console.passwords import _nobodys
from console.protection import Protection
from console.scorer import ConsoleScorer
from console.settings import ConsoleSettings
from console.source_trial import SourceTrier
from drift.settings import DriftSettings
from reviews.account import Role, User
from reviews.label_needs import LabelNeed
from reviews.slices import SliceShares
from reviews.sources.settings import SourceSettings
from reviews.sources.topics import TopicMappings, without_decoders
from storage.accounts.sessions import SessionStore, TokenStore
from storage.accounts.users import UserStore
from storage.database import Database
from storage.roles import CONSOLE_GRANTS, DatabaseRole, set_up_roles
from storage.settings import DatabaseSettings

HOUR = timedelta(hours=1)
BASE = "http://localhost"


@dataclass
class Site:
    """A console in this process.

    Attributes:
        parts: What it is made of; its database has the rights of the console alone.
        admin: The same database with all rights, for what a test puts there or looks at.
        routes: The application without its protection, for its table of routes.
    """

    parts: ConsoleParts
    admin: Database
    _stack: ExitStack
    routes: FastAPI = field(init=False)

    def __post_init__(self) -> None:
        self.routes = make_routes(self.parts)
        self.app = Protection(self.routes, self.parts.settings)
        self._stack.callback(self.routes.state.overviews.close)

    def user(self, role: Role | str, name: str | None = None) -> User:
        """The user of this name, made where it is missing; by default one for each role."""
        name = name or f"{role} of the tests"
        users = UserStore(self.admin)
        found = users.find(name)
        return found[0] if found else users.add(name, Role(role), "the tests")

    def client(self, role: Role | str | None = None, name: str | None = None) -> TestClient:
        """A browser, logged in as a user of this role; it sends the CSRF token with every request.

        Args:
            role: Of the user; None: nobody is logged in.
            name: Of the user; by default there is one for each role.
        """
        client = self._stack.enter_context(
            TestClient(self.app, base_url=BASE, follow_redirects=False, client=("127.0.0.1", 50_000))
        )
        if role is not None:
            secret = SessionStore(self.admin).begin(self.user(role, name), "password", HOUR)
            client.cookies.set(f"reviewloop_session_{self.parts.settings.port}", secret)
            client.headers["x-csrf-token"] = _csrf_token(secret)
        return client

    def program(self, role: Role | str) -> TestClient:
        """A client of the API with a token of this role."""
        name = f"token-{secrets.token_hex(4)}"
        token = TokenStore(self.admin).add(name, self.user("owner"), Role(role), HOUR)
        client = self.client()
        client.headers["authorization"] = f"Bearer {token}"
        return client

    def sql(self, query: str, **values: Any) -> list[Any]:
        """The rows of a query."""
        with self.admin.begin() as connection:
            result = connection.execute(text(query), values)
            return list(result.all()) if result.returns_rows else []


@pytest.fixture(scope="session")
def console_role(database_url: str, migrated_template: str) -> Iterator[tuple[str, str]]:
    """Name and password of a database role for the console; copies of the template keep its rights."""
    name, password = f"console_{secrets.token_hex(4)}", secrets.token_hex(8)
    url = make_url(database_url).set(database=migrated_template).render_as_string(hide_password=False)
    with closing(Database(DatabaseSettings(url=SecretStr(url)))) as admin:
        set_up_roles(admin, [DatabaseRole(name, CONSOLE_GRANTS, password)])
    yield name, password
    with closing(Database(DatabaseSettings(url=SecretStr(url)))) as admin:
        for statement in (f"DROP OWNED BY {name}", f"DROP ROLE {name}"):
            admin.execute(text(statement))


@pytest.fixture
def make_site(
    console_role: tuple[str, str], database: str, kafka_bootstrap: str
) -> Iterator[Callable[..., Site]]:
    """Makes a console over this test's database, with this scorer, topic and settings of its section."""
    with ExitStack() as stack:
        yield partial(open_site, stack, console_role, database, kafka_bootstrap)


def open_site(
    stack: ExitStack,
    console_role: tuple[str, str],
    database: str,
    kafka_bootstrap: str,
    *,
    scorer: ConsoleScorer | None = None,
    reviews_topic: str = "reviews",
    sources: tuple[SourceSettings, ...] = (),
    **settings: Any,
) -> Site:
    """A console over a database, until the stack ends."""
    name, password = console_role
    url = make_url(database).set(username=name, password=password).render_as_string(hide_password=False)
    limited, admin = (
        stack.enter_context(closing(Database(DatabaseSettings(url=SecretStr(one)))))
        for one in (url, database)
    )
    kafka = KafkaSettings(bootstrap_servers=kafka_bootstrap, reviews_topic=reviews_topic)
    parts = ConsoleParts(
        database=limited,
        settings=ConsoleSettings(**settings),
        kafka=kafka,
        topics=TopicChoice(tuple(one.topic for one in sources if one.topic) or (reviews_topic,)),
        classifier=ClassifierSettings(),
        drift=DriftSettings(),
        nightly_cron="0 3 * * *",
        tasks=("sentiment",),
        label_needs=(LabelNeed("to judge by", ("test", "audit"), 10, 2),),
        shares=SliceShares(),
        max_message_bytes=4 * 1024 * 1024,
        sources=sources,
        mappings=TopicMappings(sources, 4 * 1024 * 1024, without_decoders),
        trier=SourceTrier(kafka, 4 * 1024 * 1024, without_decoders),
        scorer=scorer,
    )
    return Site(parts, admin, stack)


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A console over this test's database."""
    return make_site()


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes of passwords that take no time; a unit test holds what real ones cost."""
    monkeypatch.setattr(
        "console.passwords._HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    )
    _nobodys.cache_clear()
