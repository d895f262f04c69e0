"""Erased reviews leave the files of an export, whatever killed it, and receipts say from where."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import fastavro
import fsspec
import pytest
from pyarrow import dataset, fs, parquet
from pyiceberg.catalog import load_catalog

from reviewloop.export.iceberg import CATALOG
from reviewloop.export.settings import ExportSettings
from reviewloop.export.wiring import erase_exported
from reviewloop.settings import Settings
from reviewloop.wiring.erasing import continue_erasure
from reviews.erasure import ErasureReceipt
from reviews.errors import ReviewLoopError
from reviews.record_id import record_id
from storage.database import Database
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.exported import ExportErasures
from storage.lifecycle.receipts import ReceiptStore, seal_of
from tests.faults.exporting import is_killed
from tests.integration.export.stored import (
    DAY,
    NOON,
    answer,
    export,
    open_database,
    prepare,
    records,
    run_sql,
    settle,
    store_reviews,
)

ID, PLANTED = "r1-3", "text 3 ✓"
GONE = record_id(1, 3)


@pytest.fixture
def store(database: str):
    """Reviews of two days, and a label of the one that is erased later."""
    with open_database(database) as opened:
        prepare(opened)
        store_reviews(opened, 1, 0, 10)
        store_reviews(opened, 1, 10, 10, NOON + DAY)
        with opened.begin() as connection:
            answer(connection, GONE)
            answer(connection, record_id(1, 12))
        settle(opened)
        yield opened


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def _settings(lake: Path, form: str) -> ExportSettings:
    return ExportSettings.model_validate({"target": str(lake), "table_format": form})


def _forget(store: Database, options: ExportSettings, *ids: str) -> int:
    erasures = ErasureStore(store)
    number = erasures.request(ids or [ID], "ann", "She asked for it.", {1: 20, 2: 0})
    settings = Settings.model_validate({"export": options.model_dump(), "kafka": {}, "database": {}})
    continue_erasure(settings, store, number)
    return number


def _erase(store: Database, options: ExportSettings) -> list[Any]:
    return list(erase_exported(options, store, Event()))


def _receipt(store: Database, number: int) -> ErasureReceipt:
    return ReceiptStore(store).close(number)


def _of_exports(receipt: ErasureReceipt, lake: Path) -> dict[str, tuple[int, str]]:
    start = f"export {lake}"
    return {
        one.place.removeprefix(start).strip("/"): (one.rows, one.state)
        for one in receipt.findings
        if one.place.startswith(start)
    }


def _holding(lake: Path) -> list[str]:
    """Files of the target, of whatever kind, in which the id or the text of the erased review is."""
    found = []
    for file in sorted(one for one in lake.rglob("*") if one.is_file()):
        if file.suffix == ".parquet":
            content = repr(parquet.read_table(file).to_pylist()) + repr(parquet.read_metadata(file).to_dict())
        elif file.suffix == ".avro":
            with file.open("rb") as stream:
                content = "".join(repr(one) for one in fastavro.reader(stream))
            content = content.encode().decode("unicode_escape", "replace")
        else:
            content = file.read_bytes().decode("utf-8", "replace")
        if f"'{ID}'" in content or f'"{ID}"' in content or PLANTED in content or str(GONE) in content:
            found.append(file.relative_to(lake).as_posix())
    return found


def _in_tables(lake: Path, data_set: str) -> list[int]:
    catalog = load_catalog(CATALOG, uri=f"sqlite:///{lake / 'catalog.db'}", warehouse=lake.as_uri())
    table = catalog.load_table(f"reviewloop.{data_set}")
    return sorted(table.scan().to_arrow()["record"].to_pylist())


READERS: dict[str, Callable[[Path, str], list[int]]] = {"parquet": records, "iceberg": _in_tables}


@pytest.mark.parametrize("form", READERS)
def test_erased_reviews_leave_every_file_and_the_receipt_names_the_days_and_closes(
    store: Database, database: str, lake: Path, form: str
):
    options, read = _settings(lake, form), READERS[form]
    export(database, lake, table_format=form)
    before = {name: read(lake, name) for name in ("reviews", "predictions", "labels")}
    assert len(_holding(lake)) >= 3
    number = _forget(store, options)
    scored = run_sql(store, "SELECT to_char(min(scored_at), 'YYYY-MM-DD') FROM prediction")[0]
    open_ = _receipt(store, number)
    assert open_.closed_at is None
    assert _of_exports(open_, lake) == {"": (0, "open")}
    assert "2026-05-01" in next(one.detail for one in open_.findings if one.place == f"export {lake}")

    parts = _erase(store, options)
    assert {(one.data_set, one.files, one.rows) for one in parts} == {
        ("reviews", 1, 1), ("predictions", 1, 1), ("labels", 1, 1),
    }  # fmt: skip
    assert _holding(lake) == []
    for name, rows in before.items():
        assert read(lake, name) == [one for one in rows if one != GONE], name
    closed = _receipt(store, number)
    assert closed.closed_at is not None
    assert closed.seal == seal_of(closed, "")
    found = _of_exports(closed, lake)
    assert {state for _, state in found.values()} == {"erased"}
    assert found["reviews/day=2026-05-01"][0] == found[f"predictions/day={scored}"][0] == 1
    assert _erase(store, options) == []
    store_reviews(store, 1, 20, 3, NOON + DAY)
    assert export(database, lake, table_format=form)["reviews"] == 3
    assert read(lake, "reviews") == run_sql(store, "SELECT record FROM review ORDER BY record")


@pytest.mark.parametrize("form", READERS)
def test_what_retention_deleted_before_is_found_by_its_id_and_what_was_published_since_stays(
    store: Database, database: str, lake: Path, form: str
):
    export(database, lake, table_format=form)
    for table in ("prediction", "label", "review"):
        run_sql(store, f"DELETE FROM {table} WHERE record = :r", r=GONE)
    options = _settings(lake, form)
    number = _forget(store, options)
    run_sql(store, "UPDATE stream_partition SET next_offset = 23 WHERE id = 1")
    store_reviews(store, 1, 23, 1, NOON + DAY)
    run_sql(store, "UPDATE review SET review_id = :id WHERE record = :r", id=ID, r=record_id(1, 23))
    export(database, lake, table_format=form)
    export(database, lake, table_format=form)
    left = READERS[form](lake, "reviews")
    assert GONE not in left
    assert record_id(1, 23) in left
    assert GONE not in READERS[form](lake, "predictions")
    assert _of_exports(_receipt(store, number), lake)["reviews/day=2026-05-01"] == (1, "erased")


def test_an_export_killed_at_any_step_of_an_erasure_goes_on_and_counts_each_row_once(
    store: Database, database: str, lake: Path, tmp_path: Path
):
    export(database, lake)
    options = _settings(tmp_path / "now", "parquet")
    number = _forget(store, options, ID, "r1-12")
    kills = 0
    while True:
        shutil.rmtree(tmp_path / "now", ignore_errors=True)
        shutil.copytree(lake, tmp_path / "now")
        run_sql(store, "DELETE FROM erasure_finding WHERE place LIKE 'export %/%=%'")
        if not is_killed(database, tmp_path / "now", "parquet", kills + 1):
            break
        kills += 1
        found = records(tmp_path / "now", "reviews")
        assert len(found) == len(set(found)) >= 18
        _erase(store, options)
        assert _holding(tmp_path / "now") == []
        receipt = ReceiptStore(store).receipt(number)
        rows = _of_exports(receipt, tmp_path / "now")
        assert sum(count for count, _ in rows.values()) == 6, kills
        assert {state for _, state in rows.values()} == {"erased"}, kills
    assert kills >= 18


def test_tags_that_keep_an_erased_review_are_named_and_the_receipt_stays_open(
    store: Database, database: str, lake: Path
):
    export(database, lake, table_format="iceberg")
    catalog = load_catalog(CATALOG, uri=f"sqlite:///{lake / 'catalog.db'}", warehouse=lake.as_uri())
    table = catalog.load_table("reviewloop.reviews")
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "audited").commit()
    options = _settings(lake, "iceberg")
    number = _forget(store, options)
    with pytest.raises(ReviewLoopError, match=r"reviews: audited may keep erased reviews: drop"):
        _erase(store, options)
    assert _receipt(store, number).closed_at is None
    table.refresh().manage_snapshots().remove_tag("audited").commit()
    _erase(store, options)
    assert _receipt(store, number).closed_at is not None
    assert _holding(lake) == []


def test_a_receipt_that_is_sealed_stays_as_it_is_when_another_target_is_rewritten(
    store: Database, database: str, lake: Path
):
    export(database, lake)
    number = ErasureStore(store).request([ID], "ann", "She asked for it.", {1: 20, 2: 0})
    closed = ErasureStore(store).proceed(number)
    assert closed.closed_at is not None
    assert sum(one.rows for one in _erase(store, _settings(lake, "parquet"))) == 3
    assert _holding(lake) == []
    assert ReceiptStore(store).receipt(number) == closed


def test_rows_after_the_end_that_a_partition_had_are_of_a_new_review(store: Database, database: str):
    later = NOON + timedelta(days=30_000)
    run_sql(store, "INSERT INTO erasure (requested_by, reason, stage) VALUES ('a', 'b', 'done')")
    run_sql(store, "INSERT INTO erasure_position VALUES (1, 1, 5)")

    (erasure,) = ExportErasures(store, "lake").to_apply(())
    assert [erasure.is_before(record_id(1, offset), later) for offset in (4, 5)] == [True, False]
    assert [erasure.is_before(record_id(2, 9), moment) for moment in (NOON, later)] == [True, False]


def test_files_in_an_object_store_are_rewritten_too(store: Database, database: str):
    address = f"memory://erased-{database.rpartition('_')[2]}"
    export(database, address)
    options = ExportSettings(target=address)
    number = _forget(store, options)
    assert sum(one.rows for one in _erase(store, options)) == 3
    assert _receipt(store, number).closed_at is not None
    files, root = fsspec.core.url_to_fs(address)
    arrow = fs.PyFileSystem(fs.FSSpecHandler(files))
    for name in ("reviews", "predictions", "labels"):
        table = dataset.dataset(f"{root}/{name}", filesystem=arrow, format="parquet").to_table()
        assert GONE not in table["record"].to_pylist()
    assert not files.glob(f"{root}/_reviewloop/incoming-*/*")
