"""Exports to folders of Parquet files: every row once, whatever is late, rescored or at work beside them."""

import threading
from datetime import timedelta
from itertools import count
from pathlib import Path

import fsspec
import pytest
from pyarrow import dataset, fs

from reviewloop.export import wiring
from reviewloop.export.exporter import Exporter
from reviewloop.export.settings import ExportSettings
from reviewloop.export.wiring import export_data_sets
from reviews.errors import ReviewLoopError, WrongUse
from reviews.record_id import record_id
from reviews.rescoring import RescoreJob
from reviews.stream_records import PartitionRange
from storage.adapters.registry import AdapterStore
from storage.adapters.rescoring import RescoreStore
from storage.database import Database
from storage.exporting import exclusive
from storage.migrate import upgrade
from storage.stream.review_writer import ReviewWriter
from tests.integration.export.stored import (
    DAY,
    KAFKA_MS,
    LABELS,
    NOON,
    A,
    B,
    answer,
    export,
    exported,
    open_database,
    prepare,
    records,
    review,
    run_sql,
    said,
    settle,
    store_reviews,
)
from tests.integration.storage.rescore_worker import make_rescorer


@pytest.fixture
def store(database: str):
    with open_database(database) as opened:
        prepare(opened)
        yield opened


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def _rescore(store: Database, job: RescoreJob, pieces: int | None = None) -> None:
    """Work on a job to its end, or for so many pieces."""
    stopping, done = threading.Event(), count(1)

    def note() -> None:
        if next(done) == pieces:
            stopping.set()

    make_rescorer(store, job, 60, note, stopping).run()


def test_every_row_is_there_once_with_all_its_columns(store: Database, database: str, lake: Path):
    store_reviews(store, 1, 0, 30)
    store_reviews(store, 2, 0, 20)
    with store.begin() as connection:
        answer(connection, record_id(1, 7), seconds=7.25)
    run_sql(store, """UPDATE review SET attributes = '{"size": "M"}' WHERE record = :r""", r=record_id(1, 1))
    settle(store)
    assert export(database, lake) == {"reviews": 50, "predictions": 50, "labels": 1, "withdrawals": 0}

    stored = run_sql(store, "SELECT record FROM review ORDER BY record")
    assert records(lake, "reviews") == records(lake, "predictions") == stored
    first = exported(lake, "reviews")[1]
    assert first == {
        "record": record_id(1, 1), "kafka_topic": "reviews", "kafka_partition": 0, "kafka_offset": 1,
        "review_id": "r1-1", "text": "text 1 ✓", "product": "shirt", "source": None, "stars": 4.5,
        "published_at": NOON, "stated_published_at": None, "received_at": NOON,
        "kafka_timestamp": NOON.fromtimestamp(KAFKA_MS / 1000, NOON.tzinfo),
        "attributes": '{"size": "M"}',
    }  # fmt: skip
    prediction = exported(lake, "predictions")[1]
    (scored_at,) = run_sql(store, "SELECT scored_at FROM prediction WHERE record = :r", r=record_id(1, 1))
    assert prediction == {
        "record": record_id(1, 1), "task": "sentiment", "adapter_version": A, "label": "good",
        "confidence": 0.75, "labels": list(LABELS), "probabilities": [0.25, 0.75], "margin": 0.5,
        "entropy": pytest.approx(0.56), "truncated": False, "scored_at": scored_at, "rescore_job": None,
    }  # fmt: skip
    (label,) = exported(lake, "labels")
    assert (label["review_id"], label["label"], label["annotator"]) == ("r1-7", "good", "ann")
    assert (label["labelled_at"], label["seconds"]) == (NOON, 7.25)
    assert exported(lake, "withdrawals") == []


def test_an_export_adds_what_is_new_and_touches_no_file_of_the_ones_before(
    store: Database, database: str, lake: Path
):
    store_reviews(store, 1, 0, 10)
    export(database, lake)
    before = {file: file.stat().st_mtime_ns for file in lake.glob("*/day=*/*")}
    assert set(export(database, lake).values()) == {0}
    store_reviews(store, 1, 10, 5)
    store_reviews(store, 2, 0, 5)
    assert export(database, lake)["reviews"] == 10
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert records(lake, "reviews") == run_sql(store, "SELECT record FROM review ORDER BY record")


def test_there_is_one_file_a_day_and_partition(store: Database, database: str, lake: Path):
    for day in range(3):
        store_reviews(store, 1, day * 10, 10, NOON + day * DAY)
    store_reviews(store, 2, 0, 10, NOON + DAY)
    export(database, lake)
    files = sorted(
        str(file.relative_to(lake / "reviews")) for file in (lake / "reviews").glob("**/*.parquet")
    )
    assert files == [
        "day=2026-05-01/stream1-offset0.parquet",
        "day=2026-05-02/stream1-offset10.parquet",
        "day=2026-05-02/stream2-offset0.parquet",
        "day=2026-05-03/stream1-offset20.parquet",
    ]


def test_reviews_that_commit_late_with_an_earlier_time_are_exported_by_the_next_export(
    store: Database, database: str, lake: Path
):
    with store.begin() as late:
        # A worker that is slow: its rows carry the time before the commit.
        late.exec_driver_sql("UPDATE stream_partition SET next_offset = 5 WHERE id = 1")
        for offset in range(5):
            values = (record_id(1, offset), f"late{offset}", NOON - timedelta(hours=1))
            late.exec_driver_sql(
                "INSERT INTO review (record, review_id, text, published_at, received_at) "
                "VALUES (%s, %s, 'late', now(), %s)",
                values,
            )
        store_reviews(store, 2, 0, 5, NOON + timedelta(hours=1))
        assert export(database, lake)["reviews"] == 5
    assert export(database, lake)["reviews"] == 5
    assert records(lake, "reviews") == run_sql(store, "SELECT record FROM review ORDER BY record")


def test_a_label_that_commits_behind_one_with_a_greater_id_is_exported_once(
    store: Database, database: str, lake: Path
):
    store_reviews(store, 1, 0, 5)
    with store.begin() as late:
        answer(late, record_id(1, 0), "slow")
        with store.begin() as quick:
            answer(quick, record_id(1, 1), "quick")
        assert export(database, lake)["labels"] == 0  # the other one may still come before it
    settle(store)
    assert export(database, lake)["labels"] == 2
    with store.begin() as connection:
        answer(connection, record_id(1, 2), "third")
    settle(store)
    assert export(database, lake)["labels"] == 1
    assert [row["annotator"] for row in exported(lake, "labels")] == ["slow", "quick", "third"]


def test_predictions_of_a_rescoring_job_come_once_and_when_it_has_ended(
    store: Database, database: str, lake: Path
):
    store_reviews(store, 1, 0, 100)
    export(database, lake)
    store_reviews(store, 1, 100, 20)
    jobs = RescoreStore(store)
    job = jobs.create(AdapterStore(store).find(B), range_records=100)
    _rescore(store, job, pieces=16)  # of 7 reviews each: the range of 100, and the first 7 that are new
    assert jobs.find(job.id).state == "running"
    assert export(database, lake) == {"reviews": 20, "predictions": 13, "labels": 0, "withdrawals": 0}

    _rescore(store, job)
    assert jobs.find(job.id).state == "done"
    assert export(database, lake)["predictions"] == 120
    store_reviews(store, 1, 120, 5)
    assert export(database, lake)["predictions"] == 5
    found = exported(lake, "predictions")
    keys = [(row["record"], row["rescore_job"], row["adapter_version"]) for row in found]
    live = [(record_id(1, offset), None, A) for offset in (*range(100), *range(107, 125))]
    rescored = [(record_id(1, offset), job.id, B) for offset in range(120)]
    assert sorted(keys, key=str) == sorted([*live, *rescored], key=str)


def test_an_export_that_begins_after_a_rescoring_has_its_predictions_once(
    store: Database, database: str, lake: Path
):
    store_reviews(store, 1, 0, 10)
    job = RescoreStore(store).create(AdapterStore(store).find(B))
    _rescore(store, job)
    assert export(database, lake)["predictions"] == 10
    assert export(database, lake)["predictions"] == 0
    assert {row["adapter_version"] for row in exported(lake, "predictions")} == {B}


def test_an_adapter_that_is_registered_between_two_exports_is_named(
    store: Database, database: str, lake: Path
):
    run_sql(store, "DELETE FROM adapter WHERE version = :b", b=B)
    store_reviews(store, 1, 0, 3)
    export(database, lake)
    prepare_b = "INSERT INTO adapter (version, task, labels, base_model, content_hash, temperature, metrics) "
    run_sql(store, prepare_b + "VALUES (:b, 'sentiment', '{good,bad}', 'base', 'x', 1, '{}')", b=B)
    scored = review(1, 3)._replace(predictions=(said(3, B),))
    ReviewWriter(store).write([PartitionRange(1, 3, 4, [scored])])
    export(database, lake)
    last = exported(lake, "predictions")[-1]
    assert (last["adapter_version"], last["labels"]) == (B, ["good", "bad"])


def test_files_are_cut_where_they_have_many_rows_and_reads_go_on_behind_a_window(
    store: Database, database: str, lake: Path, monkeypatch
):
    monkeypatch.setattr("storage.exporting._WINDOW_OFFSETS", 30)
    store_reviews(store, 1, 0, 100)
    monkeypatch.setattr(wiring, "Exporter", lambda *parts, **more: Exporter(*parts, rows_a_file=50, **more))
    export(database, lake)
    files = sorted(file.name for file in (lake / "reviews").glob("**/*.parquet"))
    assert files == ["stream1-offset0.parquet", "stream1-offset60.parquet"]
    assert records(lake, "reviews") == [record_id(1, offset) for offset in range(100)]


def test_the_target_of_another_database_is_refused(
    store: Database, database: str, empty_database: str, lake: Path
):
    store_reviews(store, 1, 0, 3)
    export(database, lake)
    with open_database(empty_database) as other:
        upgrade(other)
        assert set(export(empty_database, lake).values()) == {0}  # it has nothing yet
        prepare(other)
        store_reviews(other, 1, 0, 3)
    with pytest.raises(WrongUse, match="was filled from another database"):
        export(empty_database, lake)


def test_of_two_exports_to_one_target_one_is_refused(store: Database, database: str, lake: Path):
    store_reviews(store, 1, 0, 3)
    with exclusive(store, str(lake)), pytest.raises(ReviewLoopError, match="is at work: wait for its end"):
        export(database, lake)
    assert not lake.exists()


def test_labels_of_another_servers_transactions_are_an_error_that_says_what_to_do(
    store: Database, database: str, lake: Path
):
    store_reviews(store, 1, 0, 3)
    with store.begin() as connection:
        answer(connection, record_id(1, 0))
    settle(store)
    run_sql(store, "UPDATE label SET transaction_id = transaction_id + 1000000")
    with pytest.raises(ReviewLoopError, match=r"restored on another server.*UPDATE label"):
        export(database, lake, data_sets=("labels",))
    run_sql(
        store,
        "UPDATE label SET transaction_id = 0 "
        "WHERE transaction_id >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
    )
    assert export(database, lake, data_sets=("labels",)) == {"labels": 1}


def test_a_damaged_state_is_an_error_that_names_the_file(store: Database, database: str, lake: Path):
    store_reviews(store, 1, 0, 3)
    export(database, lake)
    (lake / "_reviewloop" / "reviews.json").write_text("{")
    with pytest.raises(ReviewLoopError, match=r"_reviewloop/reviews.json in the export's target is damaged"):
        export(database, lake)


def test_a_target_that_cannot_be_written_is_an_error_of_one_sentence(
    store: Database, database: str, tmp_path: Path
):
    store_reviews(store, 1, 0, 3)
    (tmp_path / "file").write_text("")
    with pytest.raises(ReviewLoopError, match="cannot be written or read: Not a directory"):
        export(database, tmp_path / "file")


def test_an_export_that_is_stopped_leaves_no_part_of_a_file(store: Database, database: str, lake: Path):
    store_reviews(store, 1, 0, 30)
    stopping = threading.Event()
    settings = ExportSettings(target=str(lake))
    with open_database(database) as opened:
        exporting = export_data_sets(settings, opened, stopping, lambda _: None)
        assert next(exporting).data_set == "reviews"
        stopping.set()
        with pytest.raises(ReviewLoopError, match="was stopped"):
            next(exporting)
    assert not list(lake.glob("predictions/**/*.parquet"))
    assert export(database, lake) == {"reviews": 0, "predictions": 30, "labels": 0, "withdrawals": 0}


def test_object_stores_by_fsspec_get_the_same_rows(store: Database, database: str):
    address = f"memory://lake-{database.rpartition('_')[2]}"
    store_reviews(store, 1, 0, 10)
    assert export(database, address)["reviews"] == 10
    store_reviews(store, 1, 10, 10)
    assert export(database, address)["reviews"] == 10
    assert export(database, address)["reviews"] == 0
    files, root = fsspec.core.url_to_fs(address)
    arrow = fs.PyFileSystem(fs.FSSpecHandler(files))
    table = dataset.dataset(f"{root}/reviews", filesystem=arrow, format="parquet").to_table()
    assert sorted(table["record"].to_pylist()) == [record_id(1, offset) for offset in range(20)]
    assert not files.glob(f"{root}/_reviewloop/incoming-*/*")
