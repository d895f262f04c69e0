"""How connections are opened: what the URL asks for is kept, and what the program relies on stays its own."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from psycopg import errors
from pydantic import SecretStr
from sqlalchemy import text

from storage.database import Database
from storage.frozen import end_frozen_writers
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
def _in_the_middle_of_a_copy(database: Database) -> Iterator[None]:
    with database.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        with (
            pytest.raises(errors.AdminShutdown),
            driver.cursor() as cursor,
            cursor.copy("COPY review FROM STDIN"),
        ):
            yield


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
        _in_the_middle_of_a_copy(frozen),
    ):
        assert any(end_frozen_writers(other) for _ in range(100))
