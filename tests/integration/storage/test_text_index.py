"""The index on texts: made beside whatever runs, and never left half made without a word."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from reviews.errors import ReviewLoopError, Unavailable
from storage.database import Database
from storage.queries.text_index import INDEX, create_text_index, drop_text_index, has_text_index
from storage.settings import DatabaseSettings
from tests.integration.queued_reviews import rows

OLDER_SNAPSHOT = "SELECT 1"  # is waited for by an index that is made, but not by one that is dropped
OLDER_READER = "SELECT FROM review"  # is waited for by both

_WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'virtualxid' "
    "AND query LIKE 'CREATE INDEX CONCURRENTLY%' AND query_start < now() - interval '1 s'"
)
_THERE = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)"


@pytest.fixture
def hasty(database: str, store: Database) -> Iterator[Database]:
    """A database whose statements wait for a lock for a fifth of a second."""
    settings = DatabaseSettings(url=SecretStr(database), idle_in_transaction_timeout_seconds=0.2)
    with closing(Database(settings)) as opened:
        yield opened


@contextmanager
def _older_transaction(url: str, statement: str) -> Iterator[None]:
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute(statement)
        yield


def _begin_to_make(database: Database) -> "Future[bool]":
    """The index is about to be made, and waits for somebody for longer than other statements do."""
    thread = ThreadPoolExecutor(1)
    made = thread.submit(create_text_index, database)
    thread.shutdown(wait=False)
    while not (made.done() or rows(database, _WAITING)):
        time.sleep(0.05)
    return made


def _cancel(database: Database) -> None:
    assert rows(database, f"SELECT pg_cancel_backend(pid) FROM ({_WAITING}) waiting") == [(True,)]


def _is_valid(database: Database) -> list[tuple[bool]]:
    return rows(database, _THERE, name=INDEX)


def test_it_waits_for_older_transactions_as_long_as_they_last(database: str, hasty: Database):
    with _older_transaction(database, OLDER_READER):
        made = _begin_to_make(hasty)
        assert not made.done()
    assert made.result()
    assert _is_valid(hasty) == [(True,)]


def test_what_is_unfinished_is_removed(database: str, hasty: Database):
    with _older_transaction(database, OLDER_SNAPSHOT):
        made = _begin_to_make(hasty)
        _cancel(hasty)
        with pytest.raises(Unavailable, match="canceling statement"):
            made.result()
        assert _is_valid(hasty) == []


def test_what_cannot_be_removed_is_named_and_removed_before_the_next_try(database: str, hasty: Database):
    with _older_transaction(database, OLDER_READER):
        made = _begin_to_make(hasty)
        _cancel(hasty)
        with pytest.raises(ReviewLoopError, match=rf"canceling.*{INDEX}.*db index-text --drop"):
            made.result()
        assert _is_valid(hasty) == [(False,)]
    assert create_text_index(hasty)
    assert _is_valid(hasty) == [(True,)]


def test_what_is_unfinished_can_be_dropped(database: str, hasty: Database):
    with _older_transaction(database, OLDER_READER):
        made = _begin_to_make(hasty)
        _cancel(hasty)
        with pytest.raises(ReviewLoopError):
            made.result()
    drop_text_index(hasty)
    assert _is_valid(hasty) == []


def test_the_patience_of_other_statements_is_as_before(hasty: Database):
    assert create_text_index(hasty)
    with hasty.begin() as connection:
        assert has_text_index(connection)
    assert rows(hasty, "SHOW lock_timeout") == [("200ms",)]
    assert rows(hasty, "SHOW statement_timeout") == [("1min",)]
