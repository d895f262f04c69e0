"""Exports to Iceberg tables: a snapshot brings rows and position together."""

from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog, load_catalog

from reviewloop.export import iceberg
from reviewloop.export.iceberg import CATALOG, POSITION
from reviews.errors import ReviewLoopError, WrongUse
from reviews.export import ExportPosition
from reviews.record_id import record_id
from storage.database import Database
from tests.integration.export.stored import (
    DAY,
    NOON,
    answer,
    export,
    open_database,
    prepare,
    run_sql,
    settle,
    store_reviews,
)


@pytest.fixture
def store(database: str):
    with open_database(database) as opened:
        prepare(opened)
        yield opened


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def _export(database: str, lake: Path, **settings) -> dict[str, int]:
    return export(database, lake, table_format="iceberg", **settings)


def _catalog(lake: Path) -> Catalog:
    return load_catalog(CATALOG, uri=f"sqlite:///{lake / 'catalog.db'}", warehouse=lake.as_uri())


def _records(lake: Path, data_set: str) -> list[int]:
    table = _catalog(lake).load_table(f"reviewloop.{data_set}")
    return sorted(table.scan().to_arrow()["record"].to_pylist())


def test_tables_have_every_row_once_and_a_day_finds_its_files(store: Database, database: str, lake: Path):
    store_reviews(store, 1, 0, 10)
    store_reviews(store, 1, 10, 10, NOON + DAY)
    store_reviews(store, 2, 0, 5)
    with store.begin() as connection:
        answer(connection, record_id(1, 0))
    settle(store)
    wrote = {"reviews": 25, "predictions": 25, "labels": 1, "withdrawals": 0}
    assert _export(database, lake) == wrote
    assert set(_export(database, lake).values()) == {0}
    store_reviews(store, 2, 5, 5)
    assert _export(database, lake)["reviews"] == 5

    stored = run_sql(store, "SELECT record FROM review ORDER BY record")
    assert _records(lake, "reviews") == _records(lake, "predictions") == stored
    table = _catalog(lake).load_table("reviewloop.reviews")
    second_day = table.scan(row_filter=f"received_at >= '{(NOON + DAY).isoformat()}'")
    assert [file.file.record_count for file in second_day.plan_files()] == [10]
    assert second_day.to_arrow()["text"].to_pylist()[0] == "text 10 ✓"


def test_a_snapshots_summary_carries_the_position_behind_its_rows(store: Database, database: str, lake: Path):
    store_reviews(store, 1, 0, 10)
    _export(database, lake)
    (snapshot,) = _catalog(lake).load_table("reviewloop.reviews").snapshots()
    position = ExportPosition.model_validate_json(snapshot.summary.additional_properties[POSITION])
    assert position.streams == {1: 10}


def test_a_table_that_was_rolled_back_gets_the_rows_again(store: Database, database: str, lake: Path):
    store_reviews(store, 1, 0, 10)
    _export(database, lake)
    store_reviews(store, 1, 10, 10)
    _export(database, lake)
    table = _catalog(lake).load_table("reviewloop.reviews")
    first, _ = table.snapshots()
    table.manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    assert _records(lake, "reviews") == [record_id(1, offset) for offset in range(10)]
    assert _export(database, lake)["reviews"] == 10
    assert _records(lake, "reviews") == [record_id(1, offset) for offset in range(20)]


def test_an_export_beside_somebody_elses_commit_is_tried_again(
    store: Database, database: str, lake: Path, monkeypatch
):
    store_reviews(store, 1, 0, 10)
    _export(database, lake)
    store_reviews(store, 1, 10, 10)
    others = [1]

    def interfered(table, paths, position):
        if others.pop() if others else 0:
            with _catalog(lake).load_table("reviewloop.reviews").transaction() as theirs:
                theirs.delete("kafka_offset < 10")
        return real(table, paths, position)

    real = iceberg._try_commit
    monkeypatch.setattr(iceberg, "_try_commit", interfered)
    assert _export(database, lake, data_sets=("reviews",))["reviews"] == 10
    assert _records(lake, "reviews") == [record_id(1, offset) for offset in range(10, 20)]


def test_an_export_whose_position_somebody_moved_adds_nothing(
    store: Database, database: str, lake: Path, monkeypatch
):
    store_reviews(store, 1, 0, 10)
    _export(database, lake)
    store_reviews(store, 1, 10, 10)

    def too_late(table, paths, position):
        monkeypatch.setattr(iceberg, "_try_commit", real)
        _export_elsewhere()
        return real(table, paths, position)

    def _export_elsewhere() -> None:
        table = _catalog(lake).load_table("reviewloop.reviews")
        moved = ExportPosition(database="x" * 16, streams={1: 15}).model_dump_json()
        with table.transaction() as theirs:
            theirs.delete("kafka_offset < 10", snapshot_properties={POSITION: moved})

    real = iceberg._try_commit
    monkeypatch.setattr(iceberg, "_try_commit", too_late)
    with pytest.raises(ReviewLoopError, match="was changed by others"):
        _export(database, lake, data_sets=("reviews",))
    assert _records(lake, "reviews") == []


def test_a_table_with_rows_of_somebody_else_is_refused(store: Database, database: str, lake: Path):
    store_reviews(store, 1, 0, 3)
    _export(database, lake)
    catalog = _catalog(lake)
    rows = catalog.load_table("reviewloop.reviews").scan().to_arrow()
    catalog.create_namespace("theirs")
    catalog.create_table("theirs.reviews", rows.schema).append(rows)
    with pytest.raises(WrongUse, match=r"The table theirs.reviews has rows that no export wrote"):
        _export(database, lake, namespace="theirs")


def test_an_object_store_without_a_catalogue_is_refused(database: str):
    with pytest.raises(WrongUse, match=r"needs a catalogue: set export\.catalog"):
        export(database, "s3://bucket/lake", table_format="iceberg")


def test_a_catalogue_that_does_not_answer_is_an_error_of_one_sentence(
    store: Database, database: str, lake: Path
):
    store_reviews(store, 1, 0, 3)
    with pytest.raises(ReviewLoopError, match="The catalogue's database cannot be used") as error:
        _export(database, lake, catalog="postgresql://me:secret-word@127.0.0.1:1/lake")
    assert "secret-word" not in str(error.value)


def test_the_catalogue_may_be_in_postgresql(store: Database, database: str, lake: Path, empty_database: str):
    store_reviews(store, 1, 0, 3)
    url = empty_database.replace("postgresql+psycopg", "postgresql")
    assert _export(database, lake, catalog=url)["reviews"] == 3
    assert _export(database, lake, catalog=url)["reviews"] == 0
