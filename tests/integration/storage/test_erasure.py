"""Erasure on a real PostgreSQL: nothing is left, nothing comes back, and kills change nothing."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from reviews.adapter import AdapterVersion
from reviews.dead_letter import DeadLetter
from reviews.erasure import ErasureReceipt, erased_hash
from reviews.errors import AdapterError
from reviews.label import Label, UnpinnedLabel
from reviews.prediction import Prediction
from reviews.record_id import record_id
from reviews.stream_records import AcceptedWithdrawal, KeptEmbedding, PartitionRange
from reviews.training_run import TrainingItem
from reviews.withdrawal import Withdrawal
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.learning.leases import LeaseStore, training_lease
from storage.learning.runs import TrainingRunStore
from storage.lifecycle.erasure import ErasureStore, seal_of
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

ACTIVE, EARLIER, OTHER = (f"sentiment-{letter * 12}" for letter in "abc")
NOW = datetime.now(UTC)
ID, OLD_TEXT, NEW_TEXT = (
    "ann-4711",
    "The Zyxomat «broke» after a week.\n",
    "The Zyxomat works again now, thanks.",
)
SAID = Prediction("sentiment", "good", 0.7, (0.3, 0.7), 0.4, 0.6, False, ACTIVE)
ENDS = {1: 100, 2: 100}
# Everything of a database that may hold a text.
_COLUMNS = """
SELECT c.table_name, c.column_name FROM information_schema.columns c
  JOIN information_schema.tables t USING (table_schema, table_name)
 WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'
   AND (c.data_type IN ('text', 'bytea', 'json', 'jsonb', 'ARRAY', 'character varying'))
"""


def _review(offset: int, review_id: str, content: str, published_at: datetime = NOW) -> Any:
    return scored_review(
        offset, review_id, content, None, None, None, published_at, NOW, (SAID,),
        kept=[KeptEmbedding("sentiment", ACTIVE, "all", b"12")],
        shadows=[SAID._replace(adapter_version=OTHER)],
        timestamp_ms=int(NOW.timestamp() * 1000),
    )  # fmt: skip


def _letter(offset: int, raw: bytes, key: bytes | None = None) -> DeadLetter:
    return DeadLetter(offset, "parse", "bad_stars", "The stars are wrong.", raw, key, NOW)


def _held_out(content: str) -> dict[str, bytes]:
    return {"held_out.json": json.dumps({"texts": ["another", content], "labels": [0, 1]}).encode()}


def _version(name: str, parent: str | None = None) -> AdapterVersion:
    return AdapterVersion(name, "sentiment", ("bad", "good"), "base", None, name[-1] * 64, parent=parent)


_OF_A_RECORD = """
INSERT INTO label_task (record, task, reason, strategy, priority) VALUES (:r, 'sentiment', 'audit', 's', 1);
INSERT INTO label_skip (record, task, annotator) VALUES (:r, 'sentiment', 'bea');
INSERT INTO label_action (id, kind, record, task, annotator)
VALUES (gen_random_uuid(), 'skip', :r, 'sentiment', 'bea')
"""
_OF_THE_REVIEW = """
INSERT INTO audit_log (actor, action, subject, reason, address)
VALUES ('ann', 'review.publish', :id, :new, '');
INSERT INTO guideline (task, version, text, written_by) VALUES ('sentiment', 1, 'As in: ' || :old, 'ann');
INSERT INTO drift_report (task, reference_since, reference_until, since, until, reviews, verdict, measures,
                          attribution)
VALUES ('sentiment', '2020-01-01', '2020-01-02', '2020-01-03', '2100-01-01', 9, 'drift',
        CAST(:measures AS jsonb), CAST(:attribution AS jsonb))
"""


@pytest.fixture
def planted(store: Database) -> Database:
    """Two versions of one review among others, with a trace of it in every table that can have one."""
    adapters, runs, leases = AdapterStore(store), TrainingRunStore(store), LeaseStore(store)
    adapters.add(_version(EARLIER), _held_out(OLD_TEXT))
    adapters.add(_version(ACTIVE), {"weights.safetensors": b"12"})
    adapters.add(_version(OTHER, parent=EARLIER), {"weights.safetensors": b"34"})
    adapters.activate(adapters.find(ACTIVE), expected=None, decided_by="ann", reason=f"better on '{ID}'")
    for number in (1, 2):
        PartitionStore(store).register("cluster", "reviews", "topic", number - 1, 0)
    written = json.dumps({"id": ID, "text": NEW_TEXT, "stars": 9}).encode()
    reviews = [
        _review(0, ID, OLD_TEXT, NOW - timedelta(days=2)),
        _review(2, "other-1", "A text of another person."),
    ]
    letters = [_letter(1, written), _letter(3, b"{broken", ID.encode()), _letter(4, b'{"id": "other-2"}')]
    ReviewWriter(store).write([PartitionRange(1, 0, 5, reviews, letters)])
    ReviewWriter(store).write(
        [PartitionRange(2, 0, 2, [_review(0, ID, NEW_TEXT), _review(1, "other-3", "Fine.")])]
    )
    records = [record_id(1, 0), record_id(2, 0)]
    label = ("sentiment", "good", "bea", "file", NOW)
    LabelStore(store).add([*(Label(record, *label) for record in [*records, record_id(1, 2)])])
    LabelStore(store).add([UnpinnedLabel("other-9", *label)])
    for statement in _OF_A_RECORD.split(";"):
        for record in records:
            store.execute(text(statement), {"r": record})
    lease = leases.take(training_lease("sentiment"), "test", 60)
    assert lease is not None
    run = runs.start("sentiment", "manual", lease, {"note": f"with {ID}"}, ACTIVE)
    items = [TrainingItem(record, "train", "good", 1.0) for record in (records[0], record_id(1, 2))]
    runs.keep_dataset(run, lease, items, {"rows": {}})
    runs.decide(run, lease, "kept", verdict={"reasons": [NEW_TEXT]}, candidate=ACTIVE)
    runs.fail(run, lease, f"The row '{OLD_TEXT}' is strange.")
    leases.release(lease)
    parts = [{"name": name, "share": 0.5, "reference": 0.1, "window": 0.6} for name in ("zyxomat", "parcel")]
    attribution = {"words": parts, "examples": [*records, 7], "to_label": records}
    given = {
        "id": ID,
        "new": NEW_TEXT,
        "old": OLD_TEXT,
        "measures": json.dumps({"said": NEW_TEXT}),
        "attribution": json.dumps(attribution),
    }
    for statement in _OF_THE_REVIEW.split(";"):
        store.execute(text(statement), {name: one for name, one in given.items() if f":{name}" in statement})
    return store


def _places(store: Database, *needles: bytes) -> set[str]:
    """Where one of these stands, in any column of any table."""
    found = set()
    for table, column in store.fetch(text(_COLUMNS)):
        for needle in needles:
            kind = "bytea" if _is_bytes(store, table, column) else "text"
            wanted: object = needle if kind == "bytea" else needle.decode()
            condition = f"position(CAST(:needle AS {kind}) IN CAST({column} AS {kind})) > 0"
            if store.fetch_value(text(f"SELECT count(*) FROM {table} WHERE {condition}"), {"needle": wanted}):
                found.add(f"{table}.{column}")
    return found


def _is_bytes(store: Database, table: str, column: str) -> bool:
    query = (
        "SELECT data_type FROM information_schema.columns WHERE table_name = :table AND column_name = :column"
    )
    return bool(store.fetch_value(text(query), {"table": table, "column": column}) == "bytea")


NEEDLES = (ID.encode(), b"Zyxomat", b"zyxomat")


def _erase(store: Database, after_step: Callable[[str], None] = lambda _: None) -> ErasureReceipt:
    erasures = ErasureStore(store, after_step)
    return erasures.proceed(erasures.request([ID, "never-seen"], "ann", "She asked for it.", ENDS))


def _values(store: Database, query: str, **given: Any) -> list[Any]:
    return list(store.fetch_values(text(query), given))


def test_nothing_of_an_erased_review_is_found_in_any_table(planted: Database):
    before = _places(planted, *NEEDLES)
    assert before >= {
        "review.text",
        "dead_letter.raw",
        "adapter_file.content",
        "audit_log.subject",
        "guideline.text",
        "training_run.error",
        "drift_report.attribution",
        "adapter_activation.reason",
    }
    receipt = _erase(planted)
    assert receipt.finished_at is not None
    assert _places(planted, *NEEDLES) == _held(planted)
    for table in ("review", "prediction", "prediction_history", "embedding"):
        assert sorted(_values(planted, f"SELECT record FROM {table}")) == [record_id(1, 2), record_id(2, 1)]
    assert _values(planted, "SELECT record FROM label") == [record_id(1, 2)]
    assert _values(planted, "SELECT record FROM training_item") == [record_id(1, 2)]
    assert _values(planted, "SELECT record FROM dead_letter") == [record_id(1, 4)]
    report = _values(planted, "SELECT attribution FROM drift_report")[0]
    assert report["examples"] == [7]
    assert [part["name"] for part in report["words"]] == ["parcel"]


def _held(store: Database) -> set[str]:
    """The files of adapters wait until no adapter serves that has seen the review."""
    return (
        {"adapter_file.content"}
        if _values(store, "SELECT path FROM adapter_file WHERE path = 'held_out.json'")
        else set()
    )


def test_the_receipt_says_what_was_where_by_hash_and_closes_when_no_adapter_serves_that_saw_it(
    planted: Database,
):
    receipt = _erase(planted)
    assert receipt.closed_at is None
    assert [(one.version, one.is_serving) for one in receipt.adapters] == [
        (ACTIVE, True), (EARLIER, False), (OTHER, False)
    ]  # fmt: skip
    rows = {one.place: one.rows for one in receipt.findings}
    assert rows["review"] == rows["prediction"] == rows["label"] == rows["dead_letter"] == 2
    assert rows["training_item"] == 1
    assert receipt.hashes == sorted([erased_hash(ID).hex(), erased_hash("never-seen").hex()])
    assert len(receipt.texts) == 2
    adapters = AdapterStore(planted)
    clean = _version("sentiment-dddddddddddd")
    adapters.add(clean, {"weights.safetensors": b"56"})
    for seen in (EARLIER, OTHER):
        with pytest.raises(AdapterError, match="was erased"):
            adapters.activate(
                adapters.find(seen), expected=adapters.active("sentiment"), decided_by="", reason=""
            )
    adapters.activate(clean, expected=adapters.active("sentiment"), decided_by="run", reason="replaces it")
    erasures = ErasureStore(planted)
    assert erasures.close_all() == 1
    closed = erasures.receipt(receipt.id)
    assert closed.closed_at is not None
    assert _places(planted, *NEEDLES) == set()
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
    assert rows["review"] == rows["label"] == rows["dead_letter"] == 2
    assert _places(planted, *NEEDLES) == _held(planted)


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
    letters = [_letter(1, raw), _letter(3, b"{broken", ID.encode())]
    planted.execute(text("DELETE FROM dead_letter"))
    written = writer.write(
        [PartitionRange(1, 0, 100, [_review(0, ID, OLD_TEXT), _review(2, "other-1", "Fine.")], letters)]
    )
    assert not written.lost
    assert _values(planted, "SELECT next_offset FROM stream_partition WHERE id = 1") == [100]
    assert _values(planted, "SELECT review_id FROM review") == ["other-1"]
    assert _values(planted, "SELECT record FROM dead_letter") == []
    writer.write([PartitionRange(1, 100, 101, [_review(100, ID, "I write again, after all.")])])
    assert _values(planted, "SELECT text FROM scored_reviews WHERE review_id = :id", id=ID) == [
        "I write again, after all."
    ]


def test_a_topic_made_anew_brings_nothing_back_from_before_the_erasure(planted: Database):
    _erase(planted)
    PartitionStore(planted).register("cluster", "reviews", "topic made anew", 0, 0)
    number = _values(planted, "SELECT max(id) FROM stream_partition")[0]
    later = int((datetime.now(UTC) + timedelta(minutes=1)).timestamp() * 1000)
    again = _review(1, ID, "I write again, after all.")
    again = again._replace(review=again.review._replace(arrived_ms=later))
    ReviewWriter(planted).write([PartitionRange(number, 0, 2, [_review(0, ID, NEW_TEXT), again])])
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
        target=Slow(planted).write, args=([PartitionRange(1, 5, 6, [_review(5, ID, NEW_TEXT)])],)
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
    writer.write([PartitionRange(1, 5, 6, [_review(5, "other-5", "Fine.")])])  # it learns the adapters
    statements.clear()
    writer.write([PartitionRange(1, 6, 7, [_review(6, "other-6", "Fine.")])])
    plain = len(statements)
    assert not any("erasure" in one for one in statements)
    _erase(planted)
    planted.execute(text("UPDATE stream_partition SET next_offset = 100"))
    statements.clear()
    writer.write([PartitionRange(1, 100, 101, [_review(100, "other-6", "Fine.")])])
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
    candidate = _version("sentiment-eeeeeeeeeeee")
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
