"""Models and migrations agree, anybody may upgrade at any time, and a newer schema is called so."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import inspect, make_url

from reviews.errors import ReviewLoopError, Unavailable
from storage import migrate
from storage.database import Database
from storage.schema import metadata, views
from storage.settings import DatabaseSettings
from tests import commands
from tests.integration.system import System, make_environment

Make = Callable[..., System]
Adapters = tuple[Path, Path]
FIRST = "0013"
WRITABLE = "0033"  # an earlier revision which this version's worker can write to as well


@pytest.fixture
def empty(empty_database: str) -> Iterator[Database]:
    """An empty database."""
    with closing(Database(DatabaseSettings(url=SecretStr(empty_database)))) as made:
        yield made


def _connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


def test_the_models_are_what_the_migrations_make(empty: Database):
    migrate.upgrade(empty)
    with empty.begin() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        columns = {
            name: [column["name"] for column in inspect(connection).get_columns(name)]
            for name in views.tables
        }
    assert differences == []
    assert columns == {name: view.c.keys() for name, view in views.tables.items()}


def test_every_column_of_the_public_views_says_what_it_is(empty: Database):
    migrate.upgrade(empty)
    with empty.begin() as connection:
        silent = connection.exec_driver_sql(
            "SELECT attrelid::regclass, attname FROM pg_attribute "
            "WHERE attrelid IN ('scored_reviews'::regclass, 'dead_letters'::regclass) AND attnum > 0 "
            "AND col_description(attrelid, attnum) IS NULL"
        ).all()
    assert silent == []


def test_four_processes_upgrade_at_once_and_all_of_them_succeed(
    empty_database: str, empty: Database, tmp_path: Path
):
    environment = make_environment(REVIEWLOOP_DATABASE__URL=empty_database)
    logs = [tmp_path / f"log{number}" for number in range(4)]
    with ExitStack() as stack:
        files = [stack.enter_context(log.open("wb")) for log in logs]
        processes = [
            commands.start("db", "upgrade", env=environment, cwd=tmp_path, stdout=file) for file in files
        ]
        codes = [process.wait(timeout=120) for process in processes]
    printed = [log.read_text() for log in logs]
    assert codes == [0] * 4, printed
    newest = migrate.status(empty).newest
    assert printed == [f"The schema is at revision {newest}.\n"] * 4


def test_a_schema_of_a_newer_version_is_left_alone_and_called_so(system: Make):
    made = system(partitions=1)
    with _connect(made.environment["REVIEWLOOP_DATABASE__URL"]) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for arguments in (["db", "status"], ["db", "upgrade"]):
        done = commands.run(*arguments, env=made.environment, cwd=made.folder)
        assert done.returncode == 0, done.stderr
        assert "revision 9999, which this program does not know" in done.stderr
        assert "Upgrade this program as well." in done.stderr
    assert made.sql("SELECT version_num FROM alembic_version") == [("9999",)]


def test_a_schema_from_before_the_first_migration_is_refused_by_its_number(empty: Database):
    migrate.upgrade(empty)
    with empty.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0012'")
    with pytest.raises(ReviewLoopError, match="is at revision 0012, older than this program can upgrade"):
        migrate.upgrade(empty)


def test_a_schema_that_is_behind_is_an_error_with_the_command_that_mends_it(
    empty_database: str, empty: Database, tmp_path
):
    migrate.upgrade(empty, FIRST)
    made = System(make_environment(REVIEWLOOP_DATABASE__URL=empty_database), "none", tmp_path)
    assert "run 'reviewloop db upgrade'" in made.run("db", "status", code=1)
    made.run("db", "upgrade")
    made.run("db", "status")


def test_an_upgrade_behind_a_long_query_lets_others_go_first_and_then_succeeds(
    empty_database: str, empty: Database, monkeypatch
):
    monkeypatch.setattr(migrate, "_PAUSE_SECONDS", 0.5)
    migrate.upgrade(empty, FIRST)
    with _connect(empty_database) as long_query:
        long_query.execute("SELECT * FROM scored_reviews")  # its transaction stays open
        upgrading = threading.Thread(target=migrate.upgrade, args=(empty,))
        upgrading.start()
        time.sleep(1)  # it waits for the table now
        started = time.monotonic()
        with _connect(empty_database) as other:
            other.execute("SELECT * FROM scored_reviews")
        assert time.monotonic() - started < 10, "it waited for the upgrade, which waits for the long query"
        assert upgrading.is_alive()
    upgrading.join(60)
    assert not upgrading.is_alive()
    assert migrate.status(empty).missing == ()


def test_an_upgrade_that_never_gets_its_lock_gives_up_and_changes_nothing(
    empty_database: str, empty: Database, monkeypatch
):
    monkeypatch.setattr(migrate, "_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(migrate, "_ATTEMPTS", 1)
    migrate.upgrade(empty, FIRST)
    with _connect(empty_database) as long_query:
        long_query.execute("SELECT * FROM scored_reviews")
        with pytest.raises(Unavailable, match="lock timeout"):
            migrate.upgrade(empty)
    assert migrate.status(empty).current == FIRST


def test_an_upgrade_under_a_running_worker_loses_nothing_and_stores_nothing_twice(
    system: Make, tiny_adapters: Adapters, empty_database: str, empty: Database
):
    made = system(partitions=2, REVIEWLOOP_DATABASE__URL=empty_database)
    migrate.upgrade(empty, WRITABLE)
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    stopping = threading.Event()
    published: list[str] = []

    def publish() -> None:
        while not stopping.is_set():
            ids = [f"r{len(published) + index}" for index in range(20)]
            made.publish([{"id": name, "text": f"review {name}"} for name in ids])
            published.extend(ids)

    publisher = threading.Thread(target=publish)
    worker = made.start("consume", "--workers", 2)
    try:
        publisher.start()
        _wait(made, 40)
        made.run("db", "upgrade")
        _wait(made, len(published) + 40)
        made.publish([b"{"])
    finally:
        stopping.set()
        publisher.join()
    try:
        _wait(made, len(published))
    finally:
        worker.terminate()
        code = worker.wait(60)
    assert code == 0, (made.folder / "worker.log").read_text()
    rows = made.sql("SELECT review_id, count(*) FROM review JOIN prediction USING (record) GROUP BY 1")
    assert dict(rows) == dict.fromkeys(published, 1)
    assert made.sql("SELECT error FROM dead_letters") == [("not_json",)]
    assert migrate.status(empty).missing == ()


def _wait(made: System, reviews: int, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while made.sql("SELECT count(*) FROM prediction")[0][0] < reviews:
        assert time.monotonic() < deadline, (made.folder / "worker.log").read_text()[-4000:]
        time.sleep(0.1)
