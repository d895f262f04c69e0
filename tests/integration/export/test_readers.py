"""The lines of docs/export.md, typed as they stand: what people read an export with reads it."""

import re
from datetime import timedelta
from pathlib import Path

import chdb
import duckdb
import pandas as pd
import polars as pl
import pytest
from pyarrow import parquet
from pyiceberg.catalog import load_catalog

from reviewloop.export.data_sets import ALL
from reviews.record_id import record_id
from storage.database import Database
from tests.integration.export.stored import (
    KAFKA_MS,
    NOON,
    answer,
    export,
    open_database,
    prepare,
    run_sql,
    settle,
    store_reviews,
)

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "export.md").read_text(encoding="utf-8")
READ, CURRENT, ICEBERG, CLICKHOUSE = re.findall(r"<!-- test: typed -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
NAMES = {"duckdb": duckdb, "pl": pl, "pd": pd, "chdb": chdb, "load_catalog": load_catalog}


@pytest.fixture
def store(database: str):
    """Three reviews, of which one has a newer version and one is withdrawn."""
    with open_database(database) as opened:
        prepare(opened)
        store_reviews(opened, 1, 0, 10)
        yield opened


def _counts(found: object) -> dict[str, int]:
    if isinstance(found, duckdb.DuckDBPyRelation):
        return dict(found.fetchall())
    if isinstance(found, pl.DataFrame):
        return dict(found.iter_rows())
    if isinstance(found, pd.Series):
        return {str(label): int(rows) for label, rows in found.items()}
    rows = [line.split(",") for line in str(found).splitlines()]
    return {label.strip('"'): int(number) for label, number in rows}


def test_each_reader_counts_the_same_rows_by_the_line_of_the_page(
    store: Database, database: str, tmp_path: Path
):
    export(database, tmp_path / "lake")
    lines = READ.strip().splitlines()
    assert len(lines) == 4
    for line in lines:
        assert _counts(eval(line, NAMES)) == {"bad": 5, "good": 5}, line  # noqa: S307  of our own page


def test_the_query_of_current_reviews_finds_what_the_view_has(store: Database, database: str, tmp_path: Path):
    run_sql(store, "UPDATE review SET review_id = 'edited', published_at = :t WHERE record = :r",
            t=NOON - timedelta(days=1), r=record_id(1, 0))  # fmt: skip
    run_sql(store, "UPDATE review SET review_id = 'edited' WHERE record = :r", r=record_id(1, 1))
    # Review 5 was withdrawn, review 6 before it was published again.
    for offset, milliseconds in ((5, KAFKA_MS + 1), (6, KAFKA_MS - 1)):
        run_sql(store, "INSERT INTO withdrawal VALUES (:r, :id, 'delete', :t, :ms)", ms=milliseconds, t=NOON,
                r=record_id(2, offset), id=f"r1-{offset}")  # fmt: skip
    run_sql(store, "UPDATE stream_partition SET next_offset = 10 WHERE id = 2")
    assert export(database, tmp_path / "lake")["withdrawals"] == 2
    found = {row[0]: row[1:] for row in duckdb.sql(CURRENT).fetchall()}
    assert len(found) == 8
    viewed = run_sql(store, "SELECT review_id FROM scored_reviews")
    assert sorted(found) == sorted(viewed)
    assert found["edited"][0] == "text 1 ✓"


def test_the_line_of_iceberg_reads_its_table(store: Database, database: str, tmp_path: Path):
    export(database, tmp_path / "lake", table_format="iceberg")
    assert eval(ICEBERG, NAMES).num_rows == 10  # noqa: S307  of our own page


def test_clickhouse_parses_the_statements_of_the_page():
    statements = [one for one in CLICKHOUSE.split(";\n") if one.strip()]
    assert len(statements) == 3
    for statement in statements:
        assert "Create" in str(chdb.query(f"EXPLAIN AST {statement}")), statement


def test_the_page_lists_the_columns_of_each_data_set():
    for name, data_set in ALL.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*\|(.*)\|$", PAGE, re.MULTILINE)
        assert re.findall(r"`(\w+)`", row) == data_set.schema.names


def test_every_reader_finds_the_columns_of_a_data_set_without_rows(
    store: Database, database: str, tmp_path: Path
):
    export(database, tmp_path / "lake")
    assert duckdb.sql("SELECT count(annotator) FROM 'lake/labels/**/*.parquet'").fetchall() == [(0,)]
    with store.begin() as connection:
        answer(connection, record_id(1, 0))
    settle(store)
    export(database, tmp_path / "lake")
    assert pd.read_parquet("lake/labels")["annotator"].tolist() == ["ann"]


def test_a_column_of_a_later_version_is_read_beside_files_that_lack_it_as_the_page_says(
    store: Database, database: str, tmp_path: Path
):
    files, seconds = "lake/labels/day=*/*.parquet", {None, 4.5}
    for record, took in ((0, None), (1, 4.5)):
        with store.begin() as connection:
            answer(connection, record_id(1, record), seconds=took)
        settle(store)
        export(database, tmp_path / "lake")
    older, newer = sorted(Path().glob(files), key=lambda file: file.stat().st_mtime_ns)
    parquet.write_table(parquet.ParquetFile(older).read().drop_columns("seconds"), older)
    assert all(option in PAGE for option in ("union_by_name = true", 'missing_columns="insert"', "'union'"))
    by_duckdb = duckdb.sql(f"SELECT seconds FROM read_parquet('{files}', union_by_name = true)")
    assert {row[0] for row in by_duckdb.fetchall()} == seconds
    schema = pl.read_parquet_schema(newer)
    by_polars = pl.scan_parquet(files, schema=schema, missing_columns="insert").collect()
    assert set(by_polars["seconds"]) == seconds
    query = f"SELECT seconds FROM file('{files}', Parquet) SETTINGS schema_inference_mode = 'union'"
    assert set(str(chdb.query(query)).split()) == {r"\N", "4.5"}
