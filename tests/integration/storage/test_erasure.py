"""Erasure on a real PostgreSQL: nothing is left, nothing comes back, and kills change nothing."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from reviews.erasure import ErasureReceipt, erased_hash
from reviews.errors import AdapterError
from reviews.record_id import record_id
from reviews.stream_records import AcceptedWithdrawal, PartitionRange
from reviews.training_run import TrainingItem
from reviews.withdrawal import Withdrawal
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.learning.leases import LeaseStore, training_lease
from storage.learning.runs import TrainingRunStore
from storage.lifecycle.erasure import ErasureStore
from storage.lifecycle.receipts import ReceiptStore, seal_of
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.planted import (
    ACTIVE,
    EARLIER,
    ENDS,
    ID,
    NEEDLES,
    NEW_TEXT,
    NOW,
    OLD_TEXT,
    OTHER,
    a_letter,
    a_review,
    a_version,
    held,
    places,
    plant,
)


@pytest.fixture
def planted(store: Database) -> Database:
    """Two versions of one review among others, with a trace of it in every table that can have one."""
    return plant(store)


def _erase(store: Database, after_step: Callable[[str], None] = lambda _: None) -> ErasureReceipt:
    erasures = ErasureStore(store, after_step)
    return erasures.proceed(erasures.request([ID, "never-seen"], "ann", "She asked for it.", ENDS))


def _values(store: Database, query: str, **given: Any) -> list[Any]:
    return list(store.fetch_values(text(query), given))


def test_nothing_of_an_erased_review_is_found_in_any_table(planted: Database):
    before = places(planted, *NEEDLES)
    assert before >= {
        "review.text",
        "dead_letter.raw",
        "dead_letter.headers",
        "adapter_file.content",
        "audit_log.subject",
        "guideline.text",
        "training_run.error",
        "drift_report.attribution",
        "adapter_activation.reason",
    }
    receipt = _erase(planted)
    assert receipt.finished_at is not None
    assert places(planted, *NEEDLES) == held(planted)
    for table in ("review", "prediction", "prediction_history", "embedding"):
        assert sorted(_values(planted, f"SELECT record FROM {table}")) == [record_id(1, 2), record_id(2, 1)]
    assert _values(planted, "SELECT record FROM label") == [record_id(1, 2)]
    assert _values(planted, "SELECT record FROM training_item") == [record_id(1, 2)]
    assert _values(planted, "SELECT record FROM dead_letter ORDER BY record") == [
        record_id(1, 4),
        record_id(1, 8),
    ]
    report = _values(planted, "SELECT attribution FROM drift_report")[0]
    assert report["examples"] == [7]
    assert [part["name"] for part in report["words"]] == ["parcel"]


def test_the_receipt_says_what_was_where_by_hash_and_closes_when_no_adapter_serves_that_saw_it(
    planted: Database,
):
    receipt = _erase(planted)
    assert receipt.closed_at is None
    assert [(one.version, one.is_serving) for one in receipt.adapters] == [
        (ACTIVE, True), (EARLIER, False), (OTHER, False)
    ]  # fmt: skip
    rows = {one.place: one.rows for one in receipt.findings}
    assert rows["review"] == rows["prediction"] == rows["label"] == 2
    assert rows["dead_letter"] == 5
    assert rows["training_item"] == 1
    assert receipt.hashes == sorted([erased_hash(ID).hex(), erased_hash("never-seen").hex()])
    assert len(receipt.texts) == 2
    adapters = AdapterStore(planted)
    clean = a_version("sentiment-dddddddddddd")
    adapters.add(clean, {"weights.safetensors": b"56"})
    for seen in (EARLIER, OTHER):
        with pytest.raises(AdapterError, match="was erased"):
            adapters.activate(
                adapters.find(seen), expected=adapters.active("sentiment"), decided_by="", reason=""
            )
    adapters.activate(clean, expected=adapters.active("sentiment"), decided_by="run", reason="replaces it")
    receipts = ReceiptStore(planted)
    assert receipts.close_all() == 1
    closed = receipts.receipt(receipt.id)
    assert closed.closed_at is not None
    assert places(planted, *NEEDLES) == set()
    assert closed.seal == seal_of(closed, "")
    assert closed.seal != seal_of(closed._replace(requested_by="somebody else"), "")


class _Killed(BaseException):
    pass


def test_an_erasure_that_is_killed_after_any_step_is_continued_and_counts_everything_once(planted: Database):
    number = ErasureStore(planted).request([ID], "ann", "She asked for it.", ENDS)
    kills, receipt = 0, None
    while receipt is None:
        steps = iter(range(1 + kills // 10))  # repeated steps do not get further alone

        def kill(_: str, steps: Iterator[int] = steps) -> None:
            if next(steps, None) is None:
                raise _Killed

        try:
            receipt = ErasureStore(planted, kill).proceed(number)
        except _Killed:
            kills += 1
            assert kills < 200
    assert kills > 8
    rows = {one.place: one.rows for one in receipt.findings}
    assert rows["review"] == rows["label"] == 2
    assert places(planted, *NEEDLES) == held(planted)


def test_what_kafka_still_has_is_not_stored_again_and_what_is_published_afterwards_is(planted: Database):
    _erase(planted)
    planted.execute(text("UPDATE stream_partition SET next_offset = 0"))  # as after a restore
    planted.execute(
        text(
            "DELETE FROM review; DELETE FROM prediction; DELETE FROM embedding; "
            "DELETE FROM prediction_history"
        )
    )
    writer = ReviewWriter(planted)
    raw = json.dumps({"id": ID, "text": NEW_TEXT, "stars": 9}).encode()
    letters = [a_letter(1, raw), a_letter(3, b"{broken", ID.encode())]
    planted.execute(text("DELETE FROM dead_letter"))
    written = writer.write(
        [PartitionRange(1, 0, 100, [a_review(0, ID, OLD_TEXT), a_review(2, "other-1", "Fine.")], letters)]
    )
    assert not written.lost
    assert _values(planted, "SELECT next_offset FROM stream_partition WHERE id = 1") == [100]
    assert _values(planted, "SELECT review_id FROM review") == ["other-1"]
    assert _values(planted, "SELECT record FROM dead_letter ORDER BY record") == []
    writer.write([PartitionRange(1, 100, 101, [a_review(100, ID, "I write again, after all.")])])
    assert _values(planted, "SELECT text FROM scored_reviews WHERE review_id = :id", id=ID) == [
        "I write again, after all."
    ]


def test_a_topic_made_anew_brings_nothing_back_from_before_the_erasure(planted: Database):
    _erase(planted)
    PartitionStore(planted).register("cluster", "reviews", "topic made anew", 0, 0)
    number = _values(planted, "SELECT max(id) FROM stream_partition")[0]
    later = int((datetime.now(UTC) + timedelta(minutes=1)).timestamp() * 1000)
    again = a_review(1, ID, "I write again, after all.")
    again = again._replace(review=again.review._replace(arrived_ms=later))
    ReviewWriter(planted).write([PartitionRange(number, 0, 2, [a_review(0, ID, NEW_TEXT), again])])
    assert _values(planted, "SELECT text FROM review WHERE review_id = :id", id=ID) == [
        "I write again, after all."
    ]


def test_a_transaction_that_was_under_way_is_found_and_one_that_comes_later_knows(planted: Database):
    begun, go_on = threading.Event(), threading.Event()

    class Slow(ReviewWriter):
        def _store(self, connection: Any, ranges: Any) -> Any:
            begun.set()
            assert go_on.wait(10)
            return super()._store(connection, ranges)

    writing = threading.Thread(
        target=Slow(planted).write, args=([PartitionRange(1, 9, 10, [a_review(9, ID, NEW_TEXT)])],)
    )
    writing.start()
    assert begun.wait(10)
    erasing = threading.Thread(target=_erase, args=(planted,))
    erasing.start()
    erasing.join(0.5)
    assert erasing.is_alive(), "it waits for the transaction"
    go_on.set()
    writing.join()
    erasing.join()
    assert _values(planted, "SELECT count(*) FROM review WHERE review_id = :id", id=ID) == [0]


def test_the_writer_asks_nothing_more_as_long_as_nothing_was_erased_or_it_is_past_that(planted: Database):
    statements: list[str] = []

    @event.listens_for(planted.engine, "before_cursor_execute")
    def _note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    writer = ReviewWriter(planted)
    writer.write([PartitionRange(1, 9, 10, [a_review(9, "other-5", "Fine.")])])  # it learns the adapters
    statements.clear()
    writer.write([PartitionRange(1, 10, 11, [a_review(10, "other-6", "Fine.")])])
    plain = len(statements)
    assert not any("erasure" in one for one in statements)
    _erase(planted)
    planted.execute(text("UPDATE stream_partition SET next_offset = 100"))
    statements.clear()
    writer.write([PartitionRange(1, 100, 101, [a_review(100, "other-6", "Fine.")])])
    assert len(statements) == plain


def test_a_run_whose_dataset_had_the_review_promotes_nothing(planted: Database):
    runs, leases = TrainingRunStore(planted), LeaseStore(planted)
    lease = leases.take(training_lease("sentiment"), "test", 60)
    assert lease is not None
    run = runs.start("sentiment", "nightly", lease, {}, ACTIVE)
    item = TrainingItem(record_id(2, 0), "train", "good", 1.0)
    runs.keep_dataset(run, lease, [item], {})
    _erase(planted)
    adapters = AdapterStore(planted)
    candidate = a_version("sentiment-eeeeeeeeeeee")
    adapters.add(candidate, {"weights.safetensors": b"78"})
    promotion = {"expected": adapters.active("sentiment"), "reason": "", "verdict": {}, "metrics": {}}
    with pytest.raises(AdapterError, match="was erased"):
        runs.promote(run, lease, candidate, **promotion)
    late = runs.start("sentiment", "nightly", leases.take("x", "y", 60), {}, ACTIVE)
    planted.execute(
        text(
            "INSERT INTO training_item (run_id, record, slice, label, weight) "
            "VALUES (:run, :record, 'test', 'good', 1)"
        ),
        {"run": late, "record": record_id(2, 0)},
    )
    with pytest.raises(AdapterError, match="was erased"):
        runs.promote(late, leases.take("z", "y", 60), candidate, **promotion)


def test_a_withdrawal_of_an_erased_review_is_not_stored_again_either(planted: Database):
    taken_back = AcceptedWithdrawal(
        1, Withdrawal(id=ID, kind="tombstone"), NOW, NOW, None, None, arrived_ms=1
    )
    ReviewWriter(planted).write([PartitionRange(2, 2, 3, withdrawals=[taken_back._replace(offset=2)])])
    erasures = ErasureStore(planted)
    assert erasures.withdrawn(only_tombstones=True) == [ID]
    _erase(planted)
    assert erasures.withdrawn(only_tombstones=False) == []
    ReviewWriter(planted).write([PartitionRange(2, 3, 4, withdrawals=[taken_back._replace(offset=3)])])
    assert _values(planted, "SELECT record FROM withdrawal") == []


def test_no_id_is_kept_in_clear_once_it_is_done(planted: Database):
    _erase(planted)
    assert _values(planted, "SELECT review_id FROM erasure_review") == [None, None]
