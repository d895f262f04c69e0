"""Exports killed between every two steps: each row is in the target once, then and at the end."""

from collections import Counter
from itertools import count
from pathlib import Path

import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError

from reviewloop.export.iceberg import CATALOG
from reviews.record_id import record_id
from storage.database import Database
from tests.faults.exporting import DATA_SETS, is_killed
from tests.integration.export.stored import (
    DAY,
    NOON,
    export,
    open_database,
    prepare,
    records,
    run_sql,
    store_reviews,
)


@pytest.fixture
def store(database: str):
    """Reviews of two days, and a withdrawal."""
    with open_database(database) as opened:
        prepare(opened)
        store_reviews(opened, 1, 0, 10)
        store_reviews(opened, 1, 10, 10, NOON + DAY)
        run_sql(opened, "INSERT INTO withdrawal VALUES (:record, 'r1-0', 'delete', now(), 0)",
                record=record_id(2, 0))  # fmt: skip
        run_sql(opened, "UPDATE stream_partition SET next_offset = 1 WHERE id = 2")
        yield opened


def _stored(store: Database) -> list[int]:
    return list(run_sql(store, "SELECT record FROM review ORDER BY record"))


def _in_tables(lake: Path, data_set: str) -> list[int]:
    catalog = load_catalog(CATALOG, uri=f"sqlite:///{lake / 'catalog.db'}", warehouse=lake.as_uri())
    try:
        table = catalog.load_table(f"reviewloop.{data_set}")
    except NoSuchTableError:
        return []
    return sorted(table.scan().to_arrow()["record"].to_pylist())


def _each_once(found: list[int]) -> bool:
    return not found or max(Counter(found).values()) == 1


def test_a_folder_has_each_row_once_wherever_the_export_is_killed(
    store: Database, database: str, tmp_path: Path
):
    """In a folder of its own each, which is exported to whole after the kill."""
    for last in count(1):
        lake = tmp_path / f"lake{last}"
        if not is_killed(database, lake, "parquet", last):
            break
        assert _each_once(records(lake, "reviews"))
        export(database, lake, data_sets=DATA_SETS)
        assert records(lake, "reviews") == _stored(store), last
        assert records(lake, "withdrawals") == [record_id(2, 0)], last
        assert not list(lake.glob("_reviewloop/incoming-*/*"))
    assert last >= 18  # three files of five steps each, in two commits


def test_tables_have_each_row_once_wherever_the_export_is_killed(
    store: Database, database: str, tmp_path: Path
):
    """All kills in one warehouse, with new reviews between them."""
    lake = tmp_path / "lake"
    offset = 20
    for last in count(1):
        if not is_killed(database, lake, "iceberg", last):
            break
        assert _each_once(_in_tables(lake, "reviews"))
        store_reviews(store, 1, offset, 3, NOON + DAY)
        offset += 3
    export(database, lake, table_format="iceberg", data_sets=DATA_SETS)
    assert _in_tables(lake, "reviews") == _stored(store)
    assert _in_tables(lake, "withdrawals") == [record_id(2, 0)]
    assert last >= 8  # opening, finishing and leaving a file; before and behind a commit
