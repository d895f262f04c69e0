"""Rows to be exported, and what a target has of them."""

import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pyarrow import parquet
from pydantic import SecretStr
from sqlalchemy import Connection, text

from reviewloop.export.settings import ExportSettings
from reviewloop.export.wiring import export_data_sets
from reviews.adapter import AdapterVersion
from reviews.label import Label
from reviews.prediction import Prediction
from reviews.stream_records import PartitionRange, ScoredReview
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.exporting import ExportSource
from storage.labels.rows import add_labels
from storage.settings import DatabaseSettings
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
A, B = (f"sentiment-{letter * 12}" for letter in "ab")
LABELS = ("bad", "good")
KAFKA_MS = 1_770_000_000_123
_PATIENCE_SECONDS = 120.0


def open_database(url: str) -> "closing[Database]":
    return closing(Database(DatabaseSettings(url=SecretStr(url))))


def prepare(store: Database, partitions: int = 2) -> None:
    """Two adapters, and partitions without a review."""
    adapters = AdapterStore(store)
    for number, version in enumerate((A, B)):
        made = AdapterVersion(version, "sentiment", LABELS, "base", None, str(number) * 64)
        adapters.add(made, {"a": b""})
    for partition in range(partitions):
        PartitionStore(store).register("cluster", "reviews", "topic", partition, 0)


def said(number: int, version: str = A) -> Prediction:
    return Prediction("sentiment", LABELS[number % 2], 0.75, (0.25, 0.75), 0.5, 0.56, False, version)


def store_reviews(
    store: Database, partition_id: int, first: int, count: int, received_at: datetime = NOON
) -> None:
    """Reviews on consecutive offsets of a partition, in one transaction."""
    reviews = [review(partition_id, first + number, received_at) for number in range(count)]
    written = ReviewWriter(store).write([PartitionRange(partition_id, first, first + count, reviews)])
    assert not written.lost


def review(partition_id: int, offset: int, received_at: datetime = NOON) -> ScoredReview:
    return scored_review(
        offset, f"r{partition_id}-{offset}", f"text {offset} ✓", "shirt", None, 4.5 if offset % 3 else None,
        NOON, received_at, (said(offset),), timestamp_ms=KAFKA_MS,
    )  # fmt: skip


def answer(connection: Connection, record: int, annotator: str = "ann", seconds: float | None = None) -> None:
    """A label, as a part of this transaction."""
    said = Label(record, "sentiment", "good", annotator, "terminal", NOON, seconds=seconds)
    assert add_labels(connection, [said]).added


def settle(store: Database) -> None:
    """Wait for transactions of this database that are in progress, such as an autovacuum."""
    now = run_sql(store, "SELECT pg_current_xact_id()::text::bigint")[0]
    end = time.monotonic() + _PATIENCE_SECONDS
    while ExportSource(store, None).settled_transaction(0) <= now:  # type: ignore[arg-type]  # reads no rows
        assert time.monotonic() < end, "a transaction does not end"
        time.sleep(0.1)


def export(url: str, target: Path | str, **settings: Any) -> dict[str, int]:
    """Run an export; how many rows it wrote of each data set."""
    options = ExportSettings(target=str(target), **settings)
    with open_database(url) as store:
        done = list(export_data_sets(options, store, threading.Event(), lambda _: None))
    return {one.data_set: one.rows for one in done}


def exported(target: Path, data_set: str) -> list[dict[str, Any]]:
    """Every row that a reader of the folder sees, file by file."""
    rows: list[dict[str, Any]] = []
    for file in sorted((target / data_set).glob("**/*.parquet")):
        rows += parquet.ParquetFile(file).read().to_pylist()
    return rows


def records(target: Path, data_set: str) -> list[int]:
    return sorted(row["record"] for row in exported(target, data_set))


def run_sql(store: Database, statement: str, **values: Any) -> Any:
    """The first column of what a statement returns, if it returns rows."""
    with store.begin() as connection:
        result = connection.execute(text(statement), values)
        return list(result.scalars()) if result.returns_rows else None
