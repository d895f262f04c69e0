"""Services and isolation for every test: a real Kafka and PostgreSQL, named or started once per session."""

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import psutil
import psycopg
import pytest
import structlog
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from kafka.errors import UnknownTopicOrPartitionError
from pydantic import SecretStr
from sqlalchemy import make_url
from xdist.remote import Producer

from reviewloop.local import kafka as local_kafka
from reviewloop.local.stack import Stack
from reviewloop.local.state import StackStatus
from reviews.errors import ReviewLoopError
from storage.database import Database
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.schedule import ByFile, longest_first
from tests.schema_registry import shared_registry

# Tiny models gain nothing from more threads, and two test processes would only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A broker that lives for minutes gains nothing from Java's second compiler, which takes half of its start.
local_kafka._JVM += (local_kafka._QUICK_START,)

KAFKA_VARIABLE = "REVIEWLOOP_KAFKA__BOOTSTRAP_SERVERS"
DATABASE_VARIABLE = "REVIEWLOOP_DATABASE__URL"
REGISTRY_VARIABLE = "REVIEWLOOP_REGISTRY__URL"
STACK_PREFIX = "reviewloop-tests-"

TopicFactory = Callable[..., str]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give xdist's workers the files that take longest first."""
    if hasattr(config, "workerinput"):
        longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    """Hand out whole files, in the order that they are collected in."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def environment_of_session() -> Mapping[str, str]:
    """The environment as it was given to pytest, before any test hides parts of it."""
    return dict(os.environ)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """Let Ctrl-C reach the commands under test: what a shell starts in its background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated(
    environment_of_session: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keep the user's settings, configuration file and running local stack out of the test."""
    for name in environment_of_session:
        if name.startswith("REVIEWLOOP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def local_stack() -> Iterator[StackStatus]:
    """A stack for this session alone, removed at its end."""
    with folder_for_a_stack() as folder:
        yield _started(Stack(folder / ".reviewloop"))


@pytest.fixture(scope="session")
def kafka_bootstrap(environment_of_session: Mapping[str, str], request: pytest.FixtureRequest) -> str:
    """The address of a real Kafka: the one named in the environment, else the session's own."""
    named = environment_of_session.get(KAFKA_VARIABLE)
    return named or request.getfixturevalue("local_stack").kafka.bootstrap_servers


@pytest.fixture(scope="session")
def database_url(environment_of_session: Mapping[str, str], request: pytest.FixtureRequest) -> str:
    """The SQLAlchemy URL of a real PostgreSQL for a user who may create databases."""
    named = environment_of_session.get(DATABASE_VARIABLE)
    return named or request.getfixturevalue("local_stack").postgres.url


@pytest.fixture(scope="session")
def schema_registry(environment_of_session: Mapping[str, str]) -> Iterator[str]:
    """The address of a real schema registry: one named in the environment, else one that the run shares."""
    named = environment_of_session.get(REGISTRY_VARIABLE)
    if named:
        yield named
        return
    run = environment_of_session.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(shared_registry(run))
        except ReviewLoopError as err:
            cannot_run(err)
        yield url


@pytest.fixture(scope="session")
def migrated_template(database_url: str) -> Iterator[str]:
    """The name of a database at the newest revision, which each test's own is a copy of."""
    with _new_database(database_url) as made:
        with closing(Database(DatabaseSettings(url=SecretStr(made)))) as opened:
            upgrade(opened)
        yield str(make_url(made).database)


@pytest.fixture
def database(database_url: str, migrated_template: str) -> Iterator[str]:
    """The SQLAlchemy URL of a database of the test's own, at the newest revision."""
    with _new_database(database_url, template=migrated_template) as made:
        yield made


@pytest.fixture
def empty_database(database_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database of the test's own."""
    with _new_database(database_url) as made:
        yield made


@contextlib.contextmanager
def _new_database(server_url: str, template: str = "template1") -> Iterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    url = make_url(server_url)
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def kafka_admin(kafka_bootstrap: str) -> Iterator[KafkaAdminClient]:
    """An admin client for the session."""
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    yield admin
    admin.close()


@pytest.fixture
def topic(kafka_admin: KafkaAdminClient) -> Iterator[TopicFactory]:
    """A function that creates a topic and returns its name; they are deleted after the test."""
    created: list[str] = []

    def create(partitions: int = 1, prefix: str = "test", configs: dict[str, str] | None = None) -> str:
        name = f"{prefix}-{secrets.token_hex(6)}"
        kafka_admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        created.append(name)
        return name

    yield create
    for name in created:
        with contextlib.suppress(UnknownTopicOrPartitionError):  # the test may have deleted it
            kafka_admin.delete_topics([name])


@contextlib.contextmanager
def folder_for_a_stack() -> Iterator[Path]:
    """A new folder whose stack is stopped and removed in the end, when the session is interrupted too."""
    _remove_forgotten_stacks()
    with _terminated_like_interrupted():
        folder = Path(tempfile.mkdtemp(prefix=f"{STACK_PREFIX}{os.getpid()}-"))
        folder.chmod(
            0o755
        )  # as root, PostgreSQL runs as another user, who has to get in: pytest's own is closed
        try:
            yield folder
        finally:
            Stack(folder / ".reviewloop").delete()
            shutil.rmtree(folder)


def _started(stack: Stack) -> StackStatus:
    """The running stack; where it cannot run, the tests that need it fail in CI and are skipped elsewhere."""
    try:
        return stack.up()
    except ReviewLoopError as err:
        cannot_run(err)


def cannot_run(err: ReviewLoopError) -> NoReturn:
    """End a test whose service cannot run: a failure in CI, skipped elsewhere."""
    if os.environ.get("CI") == "true":
        pytest.fail(str(err), pytrace=False)
    pytest.skip(str(err))


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end the session as Ctrl-C does, with its fixtures torn down."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _remove_forgotten_stacks() -> None:
    """Stop the stacks of this user's sessions that were killed before they could do so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{STACK_PREFIX}*"):
        session = int(folder.name.removeprefix(STACK_PREFIX).partition("-")[0])
        if folder.stat().st_uid == os.geteuid() and not psutil.pid_exists(session):
            Stack(folder / ".reviewloop").delete()
            shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that ran inside a test leaves its set-up of logging to no other test."""
    yield
    structlog.reset_defaults()
