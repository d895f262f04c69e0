"""The writer can run a worker and nothing else; the reader can look at the two views and nothing else."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import make_url

from storage.database import Database
from storage.roles import (
    CONSOLE_GRANTS,
    EXPORTER_GRANTS,
    KEEPER_GRANTS,
    RESCORER_GRANTS,
    SINK_GRANTS,
    TRAINER_GRANTS,
    WRITER_GRANTS,
    missing_privileges,
)
from storage.schema import metadata, views
from storage.settings import DatabaseSettings
from tests.integration.system import System

Make = Callable[..., System]
Adapters = tuple[Path, Path]
PASSWORD = "pass-word of the 'tests'"
WRITER = 'wri"ter; DROP TABLE review --'  # no identifier may ever become SQL
READER = "Reader ✓"
VIEWS = set(views.tables)

# Everything that a role might do with a table, by privilege.
ATTEMPTS = {
    "SELECT": "SELECT FROM {}",
    "INSERT": "INSERT INTO {} DEFAULT VALUES",
    "UPDATE": "UPDATE {} SET {} = NULL WHERE false",
    "DELETE": "DELETE FROM {} WHERE false",
    "TRUNCATE": "TRUNCATE {}",
}


@pytest.fixture
def made(system: Make, database_url: str, tmp_path: Path) -> Iterator[System]:
    """A system with both roles; they are the whole server's, so they are dropped."""
    made = system(partitions=1)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    made.run("db", "roles", "--writer", WRITER, "--reader", READER,
             "--writer-password-file", "password", "--reader-password-file", "password")  # fmt: skip
    yield made
    with _connect(made.environment["REVIEWLOOP_DATABASE__URL"]) as admin:
        for name in (WRITER, READER):
            admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def _connect(url: str) -> "psycopg.Connection[tuple[object, ...]]":
    """In parts, as libpq's own URLs take no spaces."""
    parts = make_url(url).translate_connect_args(username="user", database="dbname")
    return psycopg.connect(**parts, autocommit=True)


def _as(made: System, role: str) -> str:
    url = make_url(made.environment["REVIEWLOOP_DATABASE__URL"]).set(username=role, password=PASSWORD)
    return url.render_as_string(hide_password=False)


def _may(url: str, statement: str) -> bool:
    with _connect(url) as connection:
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return False
        except psycopg.errors.IntegrityError:
            return True  # it came as far as the constraints
    return True


def _do(made: System, statement: str) -> None:
    with _connect(made.environment["REVIEWLOOP_DATABASE__URL"]) as admin:
        admin.execute(statement)


def _first_column(made: System, table: str) -> str:
    return made.sql(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND is_identity = 'NO' "
        "ORDER BY ordinal_position LIMIT 1",
        table,
    )[0][0]


def _attempt(made: System, table: str, privilege: str) -> str:
    return ATTEMPTS[privilege].format(table, _first_column(made, table))


def test_a_worker_scores_and_stores_as_the_writer(made: System, tiny_adapters: Adapters):
    made.run("adapters", "add", tiny_adapters[0], "--activate")
    made.publish([{"id": "one", "text": "written by the writer"}, b"{"])
    writer = System(
        {**made.environment, "REVIEWLOOP_DATABASE__URL": _as(made, WRITER)}, made.topic, made.folder
    )
    writer.run("consume", "--until-idle", 0.2)
    assert made.sql("SELECT review_id FROM scored_reviews") == [("one",)]
    assert made.sql("SELECT error FROM dead_letters") == [("not_json",)]


def test_the_writer_has_exactly_the_privileges_of_its_list(made: System):
    for table, granted in WRITER_GRANTS.items():
        for privilege in ATTEMPTS:
            if table in VIEWS and privilege != "SELECT":
                continue  # joins cannot be written by anybody
            allowed = _may(_as(made, WRITER), _attempt(made, table, privilege))
            assert allowed is (privilege in granted), (table, privilege)
    with closing(Database(DatabaseSettings(url=SecretStr(_as(made, WRITER))))) as database:
        assert missing_privileges(database) == []


@pytest.mark.parametrize(
    ("role", "grants"),
    [
        ("rescorer", RESCORER_GRANTS),
        ("trainer", TRAINER_GRANTS),
        ("console", CONSOLE_GRANTS),
        ("keeper", KEEPER_GRANTS),
        ("exporter", EXPORTER_GRANTS),
        ("sink", SINK_GRANTS),
    ],
)
def test_the_other_roles_have_exactly_the_privileges_of_their_lists(
    made: System, role: str, grants: Mapping[str, tuple[str, ...]]
):
    name = f'the "{role}"'
    made.run("db", "roles", f"--{role}", name, f"--{role}-password-file", "password")
    try:
        for table in metadata.tables:
            for privilege in ATTEMPTS:
                allowed = _may(_as(made, name), _attempt(made, table, privilege))
                assert allowed is (privilege in grants.get(table, ())), (table, privilege)
    finally:
        for statement in ("DROP OWNED BY {}", "DROP ROLE {}"):
            _do(made, sql.SQL(statement).format(sql.Identifier(name)).as_string())


def test_every_table_is_on_the_writers_list():
    """Whoever adds a table decides here what a worker does with it."""
    assert set(metadata.tables) | VIEWS | {"alembic_version"} == set(WRITER_GRANTS)


def test_neither_role_can_make_tables_roles_or_databases(made: System):
    for role in (WRITER, READER):
        for statement in ("CREATE TABLE mine (n int)", "CREATE ROLE another", "DROP VIEW scored_reviews"):
            assert not _may(_as(made, role), statement), (role, statement)


def test_the_reader_sees_the_two_views_and_the_adapters_and_cannot_look_behind_them_or_write(made: System):
    reader = _as(made, READER)
    assert _may(reader, "SELECT * FROM scored_reviews")
    assert _may(reader, "SELECT * FROM dead_letters")
    for table in (*metadata.tables, "alembic_version", *(VIEWS - {"scored_reviews", "dead_letters"})):
        for privilege in ATTEMPTS:
            if table in VIEWS and privilege != "SELECT":
                continue  # nobody can write to it
            granted = (table, privilege) == ("adapter", "SELECT")  # 'query --adapter' looks its number up
            assert _may(reader, _attempt(made, table, privilege)) is granted, (table, privilege)


def test_the_reader_can_use_the_query_command(made: System):
    reader = System(
        {**made.environment, "REVIEWLOOP_DATABASE__URL": _as(made, READER)}, made.topic, made.folder
    )
    assert reader.run("query", "--format", "jsonl") == ""
    assert reader.run("query", "--task", "sentiment", "--format", "jsonl") == ""
    assert "There is no label 'none': there is none yet." in reader.run("query", "--label", "none", code=2)
    assert "The adapter 'none' is not registered" in reader.run("query", "--adapter", "none", code=2)
    made.run("db", "index-text")
    assert reader.run("query", "--text", "words", "--format", "jsonl") == ""
    error = reader.run("offsets", "show", code=1)
    assert f"The database role '{READER}' may not do this: permission denied" in error


def test_a_second_run_takes_away_what_was_given_beside_the_list(made: System):
    writer = _as(made, WRITER)
    _do(made, 'GRANT ALL ON review TO "' + WRITER.replace('"', '""') + '"')
    assert _may(writer, "DELETE FROM review")
    made.run("db", "roles", "--writer", WRITER)
    assert not _may(writer, "DELETE FROM review")
    assert _may(writer, "SELECT FROM stream_partition"), "its login and password stay"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "No role is named"),
        (["--writer", "one", "--reader", "one"], "cannot be one role"),
        (["--writer", "pg_mine"], "keeps names"),
        (["--writer", "x" * 64], "1 to 63 bytes"),
        (["--writer", "reviewloop"], "is a superuser"),
        (["--writer", "one", "--writer-password-file", "absent"], "cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(system: Make, arguments: list[str], says: str):
    assert says in system(partitions=1).run("db", "roles", *arguments, code=2)


def test_a_new_role_without_a_password_cannot_log_in(system: Make):
    made = system(partitions=1)
    try:
        told = made.run("db", "roles", "--reader", "silent one")
        assert told == (
            "silent one: made, privileges set; it cannot log in: give --reader-password-file, or grant it to "
            "a role that can\n"
        )
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            _connect(_as(made, "silent one"))
    finally:
        _do(made, 'DROP OWNED BY "silent one"')
        _do(made, 'DROP ROLE "silent one"')
