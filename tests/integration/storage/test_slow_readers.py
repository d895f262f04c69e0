"""A person reads the rows with a pager: between two of them, more time passes than a worker may be idle."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from reviews.label import Label
from storage.database import Database
from storage.labels.store import ItemFilter, LabelStore, find_items
from storage.queries.filters import ReviewFilter
from storage.queries.reviews import find_reviews
from storage.settings import DatabaseSettings
from tests.integration.queued_reviews import TASK, rows, store_reviews

READERS: dict[str, Callable[[Database], Iterator[Any]]] = {
    "all reviews": lambda database: find_reviews(database, ReviewFilter(limit=None)),
    "some reviews": lambda database: find_reviews(database, ReviewFilter(limit=3)),
    "all items": lambda database: find_items(database, ItemFilter(TASK)),
    "some items": lambda database: find_items(database, ItemFilter(TASK, limit=3)),
    "all answers": lambda database: LabelStore(database).all_answers(TASK),
}


@pytest.mark.parametrize("kind", READERS)
def test_who_reads_slowly_reads_all_of_it(database: str, store: Database, kind: str):
    records = store_reviews(store, ["One.", "Two.", "Three."])
    LabelStore(store).add([Label(n, TASK, "positive", "ann", "test", datetime.now(UTC)) for n in records])
    settings = DatabaseSettings(url=SecretStr(database), idle_in_transaction_timeout_seconds=0.5)
    with closing(Database(settings)) as hasty:
        found = READERS[kind](hasty)
        next(found)
        time.sleep(0.8)
        assert len(list(found)) == 2
        assert rows(hasty, "SHOW idle_in_transaction_session_timeout") == [("500ms",)]


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind.startswith("some")])
def test_who_reads_a_few_rows_holds_no_transaction_open(store: Database, kind: str):
    store_reviews(store, ["One.", "Two.", "Three."])
    found = READERS[kind](store)
    next(found)
    idle = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    assert rows(store, idle) == []
    assert len(list(found)) == 2
