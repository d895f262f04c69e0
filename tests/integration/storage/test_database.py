"""How connections are opened: what the URL asks for is kept, and what the program relies on stays its own."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from psycopg import OperationalError
from pydantic import SecretStr
from sqlalchemy import event, make_url, text

from reviewloop.local.places import free_port
from reviews.errors import ReviewLoopError, Unavailable, Unstorable
from storage.database import Database, end_frozen_writers
from storage.migrate import upgrade
from storage.settings import DatabaseSettings
from tests.integration.queued_reviews import rows


def _open(url: str, **settings: float) -> "closing[Database]":
    return closing(Database(DatabaseSettings(url=SecretStr(url), **settings)))


def _shown(database: Database, name: str) -> str:
    ((value,),) = rows(database, f"SHOW {name}")
    return str(value)


def test_the_urls_own_options_are_kept_beside_the_programs(empty_database: str):
    with _open(empty_database) as plain, plain.begin() as connection:
        connection.execute(text('CREATE SCHEMA "of ours"'))
    given = "?options=-csearch_path%3D%22of%5C%20ours%22%20-c%20work_mem%3D5MB%20-cTimeZone%3DAsia/Tokyo"
    with _open(empty_database + given, statement_timeout_seconds=7) as opened:
        assert _shown(opened, "search_path") == '"of ours"'
        assert _shown(opened, "work_mem") == "5MB"
        assert _shown(opened, "statement_timeout") == "7s"
        assert _shown(opened, "TimeZone") == "UTC"
        upgrade(opened)
        assert rows(opened, "SELECT schemaname FROM pg_tables WHERE tablename = 'review'") == [("of ours",)]


def test_options_given_twice_count_both(database: str):
    with _open(database + "?options=-cwork_mem%3D5MB&options=-cgeqo%3Doff") as opened:
        assert (_shown(opened, "work_mem"), _shown(opened, "geqo")) == ("5MB", "off")


@contextmanager
def _in_the_middle_of_a_copy(database: Database) -> Iterator[int]:
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with (
            pytest.raises(OperationalError),  # the server's last words, or that it is gone
            driver.cursor() as cursor,
            cursor.copy("COPY review FROM STDIN"),
        ):
            yield driver.info.backend_pid


def _wait_until_gone(database: Database, backend: int) -> None:
    """The server ends a session some time after it was told to, and takes an end of the COPY until then."""
    with database.engine.connect() as connection:
        gone = text("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :backend)")
        for _ in range(1_200):
            if connection.execute(gone, {"backend": backend}).scalar_one():
                return
            connection.rollback()  # a transaction sees the activity as it was at its first look
            time.sleep(0.05)
    pytest.fail("the session of the frozen writer is still there")


@pytest.mark.parametrize("named_by", ["the URL", "the environment"])
def test_a_frozen_writer_is_ended_whatever_name_its_url_or_environment_gives_it(
    database: str, named_by: str, monkeypatch: pytest.MonkeyPatch
):
    url = database
    if named_by == "the URL":
        url += "?application_name=somebody"
    else:
        monkeypatch.setenv("PGAPPNAME", "somebody")
    with (
        _open(url) as frozen,
        _open(database, idle_in_transaction_timeout_seconds=0) as other,
        _in_the_middle_of_a_copy(frozen) as backend,
    ):
        assert any(end_frozen_writers(other) for _ in range(100))
        _wait_until_gone(other, backend)


def test_of_several_hosts_the_one_that_takes_writes_is_used(database: str):
    url = make_url(database)
    login = f"{url.username}:{url.password}"
    for hosts in (
        f"postgresql://{login}@127.0.0.1:{free_port()},{url.host}:{url.port}/{url.database}",
        f"postgresql://{login}@/{url.database}?host=127.0.0.1:{free_port()}&host={url.host}:{url.port}",
    ):
        with _open(hosts) as opened:
            opened.require_writable()
            assert f"{url.host}:{url.port}" in opened.place
        with _open(database) as admin, admin.begin() as connection:
            connection.execute(text(f"ALTER DATABASE {url.database} SET default_transaction_read_only = on"))
        with _open(hosts) as opened, pytest.raises(Unavailable, match="read-only"):
            opened.require_writable()
        with _open(database) as admin, admin.begin() as connection:
            connection.execute(text("SET TRANSACTION READ WRITE"))
            connection.execute(text(f"ALTER DATABASE {url.database} RESET default_transaction_read_only"))


@pytest.mark.parametrize(
    ("hosts", "shown"),
    [
        ("one:5433,two:5434", "'n' at one:5433, two:5434"),
        ("one,two", "'n' at one:5432, two:5432"),
        ("[::1]:1,two:2", "'n' at ::1:1, two:2"),
    ],
)
def test_several_hosts_are_written_as_for_any_program_of_postgresql(hosts: str, shown: str):
    with _open(f"postgresql://u:p@{hosts}/n?sslmode=disable") as opened:
        assert opened.place == shown
        assert opened.url.password == "p"


def test_a_text_that_is_no_unicode_is_refused_as_what_cannot_be_stored(database: str):
    with (
        _open(database) as opened,
        pytest.raises(Unstorable, match="no valid Unicode"),
        opened.begin() as connection,
    ):
        connection.execute(text("SELECT :found"), {"found": "caf\udce9"})


@pytest.mark.parametrize("options", ["foo=bar", "sslmode=foo", "tcp_syncnt=2", "gssencmode=maybe"])
def test_options_that_libpq_does_not_take_are_told_at_once_and_not_waited_with(database: str, options: str):
    with (
        _open(f"{database}?{options}") as opened,
        pytest.raises(ReviewLoopError, match=r"behind the '\?' in database.url cannot be used: ") as refused,
    ):
        rows(opened, "SELECT 1")
    assert not isinstance(refused.value, Unavailable)
    assert options.partition("=")[0] in str(refused.value)


def test_a_session_from_before_an_interruption_is_not_used_again(database: str):
    with _open(database) as opened:
        (before,) = rows(opened, "SELECT pg_backend_pid()")
        assert rows(opened, "SELECT pg_backend_pid()") == [before]
        with pytest.raises(Unavailable, match="read-only"):
            rows(opened, "SET TRANSACTION READ ONLY; CREATE TABLE written (id int)")
        assert rows(opened, "SELECT pg_backend_pid()") != [before]
        assert opened.interruptions == 1


def test_an_interruption_that_others_note_while_a_connection_is_made_is_no_error(database: str):
    def interrupt(*_: object) -> None:
        opened._interruptions += 1

    with _open(database) as opened:
        (before,) = rows(opened, "SELECT pg_backend_pid()")
        event.listen(opened.engine, "connect", interrupt)
        interrupt()
        (during,) = rows(opened, "SELECT pg_backend_pid()")
        (after,) = rows(opened, "SELECT pg_backend_pid()")
        assert len({before, during, after}) == 3
