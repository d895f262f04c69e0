"""Retention on a real PostgreSQL: what is aged goes, what needs a review stays right, and nothing waits."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url, text

from reviews.adapter import AdapterVersion
from reviews.label import Label
from reviews.prediction import Prediction
from reviews.record_id import record_id
from reviews.stream_records import KeptEmbedding, PartitionRange
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.store import LabelStore
from storage.learning.leases import LeaseHeld, LeaseStore
from storage.lifecycle.retention import LEASE, Retention, RetentionReport
from storage.lifecycle.settings import RetentionSettings
from storage.schema import metadata
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from tests.scored import scored_review

A = "sentiment-aaaaaaaaaaaa"
NOW = datetime.now(UTC)
OLD, NEW = NOW - timedelta(days=40), NOW - timedelta(days=1)
SAID = Prediction("sentiment", "good", 0.7, (0.3, 0.7), 0.4, 0.6, False, A)
RESTLESS = {"busy_share": 1.0}


def _write(store: Database, partition: int, first: int, *reviews: tuple[str, datetime, datetime]) -> None:
    """Store reviews: id, received and published; each with a prediction, a shadow's and an embedding."""
    rows = [
        scored_review(
            offset, review_id, f"text of {review_id}", None, None, None, published, received, (SAID,),
            kept=[KeptEmbedding("sentiment", A, "all", b"12")], shadows=[SAID],
        )
        for offset, (review_id, received, published) in enumerate(reviews, first)
    ]  # fmt: skip
    end = first + len(reviews)
    assert not ReviewWriter(store).write([PartitionRange(partition, first, end, rows)]).lost


@pytest.fixture
def filled(store: Database) -> Database:
    """Two partitions, each with twenty reviews: the first ten were received long ago."""
    AdapterStore(store).add(
        AdapterVersion(A, "sentiment", ("bad", "good"), "base", None, "1" * 64), {"a": b""}
    )
    for number in (1, 2):
        PartitionStore(store).register("cluster", "reviews", "topic", number - 1, 0)
        _write(
            store, number, 0,
            *((f"{number}-{n}", OLD if n < 10 else NEW, OLD if n < 10 else NEW) for n in range(20)),
        )  # fmt: skip
    return store


def _retention(store: Database, step_rows: int = 1_000, **settings: Any) -> Retention:
    made = Retention(store, RetentionSettings(**{**RESTLESS, **settings}), wait=lambda _: False)
    made._rows_a_step = step_rows
    return made


def _retain(store: Database, **settings: Any) -> RetentionReport:
    return _retention(store, **settings).run()


def _values(store: Database, query: str, **given: Any) -> list[Any]:
    return list(store.fetch_values(text(query), given))


def _shown(store: Database) -> set[str]:
    return set(_values(store, "SELECT review_id FROM scored_reviews"))


def _label(store: Database, record: int, received_at: datetime) -> None:
    LabelStore(store).add([Label(record, "sentiment", "good", "ann", "file", received_at, None)])
    store.execute(
        text("UPDATE label SET received_at = :at WHERE record = :record"),
        {"at": received_at, "record": record},
    )


def test_aged_reviews_go_with_all_that_belongs_to_them_and_younger_ones_stay(filled: Database):
    report = _retain(filled, texts_days=30)
    assert report.rows == dict.fromkeys(("embedding", "prediction", "prediction_history", "review"), 20)
    assert _shown(filled) == {f"{number}-{n}" for number in (1, 2) for n in range(10, 20)}
    for table in ("review", "prediction", "prediction_history", "embedding"):
        assert len(_values(filled, f"SELECT record FROM {table}")) == 20
    assert _retain(filled, texts_days=30).rows == {}


def test_a_step_of_any_size_comes_to_the_same_and_a_dry_run_tells_it_before(filled: Database):
    _label(filled, record_id(1, 3), OLD)
    settings = {"texts_days": 30, "labelled_texts_days": 90}
    told = _retention(filled, step_rows=3, **settings).rehearse()
    assert told.rows == {"review": 19}
    assert len(_values(filled, "SELECT record FROM review")) == 40, "it changes nothing"
    assert _retention(filled, step_rows=3, **settings).run().rows["review"] == 19


def test_a_labelled_review_stays_as_long_as_the_settings_say(filled: Database):
    _label(filled, record_id(1, 3), NEW)
    _retain(filled, texts_days=30, labelled_texts_days=90)
    assert "1-3" in _shown(filled)
    _retain(filled, texts_days=30, labelled_texts_days=35)
    assert "1-3" not in _shown(filled)
    assert _values(filled, "SELECT record FROM label") == [], "its label goes with it"


def test_labels_may_outlive_their_text_and_are_then_counted(filled: Database):
    _label(filled, record_id(1, 3), NEW)
    _label(filled, record_id(1, 13), NEW)
    _retain(filled, texts_days=30, labels_days=3650)
    labels = LabelStore(filled)
    assert _values(filled, "SELECT record FROM label ORDER BY 1") == [record_id(1, 3), record_id(1, 13)]
    assert labels.without_text("sentiment") == 1
    assert [one.review_id for one in labels.labelled("sentiment")] == ["1-13"]


def test_a_label_that_came_while_its_text_went_goes_later(filled: Database):
    _retain(filled, texts_days=30)
    _label(filled, record_id(1, 3), OLD)
    _label(filled, record_id(1, 4), NEW)
    assert _retain(filled, texts_days=30).rows == {"label": 1}


def test_no_older_version_becomes_current_because_the_newer_one_was_received_before_it(filled: Database):
    _write(filled, 1, 20, ("1-3", NEW, OLD - timedelta(days=9)))  # an older version, received late
    _retain(filled, texts_days=30)
    assert _values(filled, "SELECT record FROM current_review WHERE review_id = '1-3'") == [record_id(1, 3)]
    filled.execute(text("UPDATE review SET received_at = :old"), {"old": OLD})
    shown = list[list[int]]()
    retention = _retention(filled, step_rows=1, texts_days=30)
    retention._progress = lambda _: shown.append(
        _values(filled, "SELECT record FROM current_review WHERE review_id = '1-3'")
    )
    retention.run()
    assert [record_id(1, 20)] not in shown, "they go together"
    assert _values(filled, "SELECT record FROM review") == []


# Something aged of every kind.
_OF_EVERY_KIND = """
UPDATE prediction SET scored_at = :old WHERE record & 1 = 0;
UPDATE prediction_history SET kept_at = :old WHERE record & 3 = 0;
INSERT INTO dead_letter (record, stage, error, message, received_at, to_forward)
SELECT n, 'parse', 'e', 'm', :old, n = 5 FROM generate_series(1, 5) n;
INSERT INTO drift_report (task, reference_since, reference_until, since, until, reviews, verdict, measures,
                          attribution, created_at)
VALUES ('sentiment', :old, :old, :old, :old, 1, 'stable', '{}', '{}', :old);
INSERT INTO label_task (record, task, reason, strategy, priority, state, state_changed_at)
SELECT n, 'sentiment', CASE n WHEN 1 THEN 'audit' ELSE 'uncertain' END, 's', 1,
       CASE n WHEN 2 THEN 'open' ELSE 'done' END, :old
  FROM generate_series(1, 4) n;
INSERT INTO label_skip (record, task, annotator) SELECT n, 'sentiment', 'a' FROM generate_series(2, 4) n;
INSERT INTO label_action (id, kind, record, task, annotator, acted_at)
VALUES (gen_random_uuid(), 'skip', 1, 'sentiment', 'a', :old);
INSERT INTO audit_log (decided_at, actor, action, subject, reason, address)
VALUES (:old, '', '', '', '', '');
INSERT INTO training_run (task, trigger, lease_token, config, started_at, finished_at)
VALUES ('sentiment', 'manual', 1, '{}', :old, :old);
INSERT INTO training_item (run_id, record, slice, label, weight)
SELECT 1, n, 'train', 'good', 1 FROM generate_series(1, 6) n
"""


def test_a_withdrawal_stays_as_long_as_a_version_of_its_review(filled: Database):
    for record, review_id in ((1, "1-3"), (2, "1-13"), (3, "gone")):
        filled.execute(
            text(
                "INSERT INTO withdrawal (record, review_id, kind, received_at, timestamp_ms) "
                "VALUES (:record, :id, 'delete', :old, 0)"
            ),
            {"record": record_id(1, 100 + record), "id": review_id, "old": OLD},
        )
    assert _retain(filled, texts_days=30).rows["withdrawal"] == 2
    assert _values(filled, "SELECT review_id FROM withdrawal") == ["1-13"]


def test_every_kind_follows_its_own_setting(filled: Database):
    for statement in _OF_EVERY_KIND.split(";"):
        filled.execute(text(statement), {"old": OLD})
    kinds = {
        "predictions_days": {"prediction": 20}, "history_days": {"prediction_history": 10},
        "embeddings_days": {"embedding": 20}, "dead_letters_days": {"dead_letter": 4},
        "drift_reports_days": {"drift_report": 1}, "queue_days": {"label_task": 2, "label_action": 1},
        "audit_log_days": {"audit_log": 1}, "datasets_days": {"training_item": 6},
    }  # fmt: skip
    for setting, expected in kinds.items():
        assert _retention(filled, **{setting: 30}).rehearse().rows == expected, setting
        assert _retention(filled, step_rows=3, **{setting: 30}).run().rows == expected, setting
    assert _values(filled, "SELECT record FROM label_skip") == [2], "who passed on an open item is known"
    assert len(_values(filled, "SELECT record FROM review")) == 40


def test_a_run_that_is_stopped_after_any_step_is_continued_by_the_next(filled: Database):
    runs = 0
    is_complete = False
    while not is_complete:
        waits = iter(range(5))
        retention = Retention(
            filled,
            RetentionSettings(texts_days=30, **RESTLESS),
            wait=lambda _, waits=waits: next(waits, None) is None,
        )
        retention._rows_a_step = 1
        is_complete = retention.run().is_complete
        runs += 1
        assert runs < 20, "each run gets further"
        assert LeaseStore(filled).holder(LEASE) is None
        tables = ("review", "prediction", "embedding")
        counts = {len(_values(filled, f"SELECT record FROM {table}")) for table in tables}
        assert len(counts) == 1, "a review and what belongs to it go together"
    assert runs > 2
    assert counts == {20}


_IDLE = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"


@contextmanager
def _locked(store: Database, record: int) -> Iterator[psycopg.Connection[Any]]:
    url = make_url(store.url.render_as_string(hide_password=False)).set(drivername="postgresql")
    with closing(psycopg.connect(url.render_as_string(hide_password=False))) as other:
        other.execute("SELECT FROM review WHERE record = %s FOR UPDATE", [record])
        yield other


def test_a_row_that_somebody_holds_makes_it_wait_outside_of_any_transaction(filled: Database):
    pauses = []
    with _locked(filled, record_id(1, 5)) as other:

        def wait(seconds: float) -> bool:
            pauses.append(seconds)
            assert other.execute(_IDLE).fetchone() == (0,), "it holds nothing while it waits"
            other.rollback()
            return False

        report = Retention(filled, RetentionSettings(texts_days=30, **RESTLESS), wait=wait).run()
    assert pauses
    assert report.rows["review"] == 20


def test_it_rests_for_as_long_as_the_share_of_its_time_says(filled: Database):
    pauses: list[float] = []
    ticks = iter(range(10_000))

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return False

    settings = RetentionSettings(texts_days=30, busy_share=0.2)
    Retention(filled, settings, wait=wait, clock=lambda: float(next(ticks))).run()
    assert pauses
    assert min(pauses) >= 4, "of five seconds it works one"


def test_one_process_at_a_time_deletes(filled: Database):
    assert LeaseStore(filled).take(LEASE, "the other", 60)
    with pytest.raises(LeaseHeld, match="the other"):
        _retain(filled, texts_days=30)


def test_an_emptied_end_of_a_file_goes_back_to_the_disk(store: Database, filled: Database):
    _write(filled, 1, 20, *((f"x{n}", OLD, OLD) for n in range(5_000)))
    report = _retain(filled, texts_days=30)
    assert report.unvacuumed == ()
    for table in ("review", "prediction"):
        assert report.bytes_after[table] < 0.7 * report.bytes_before[table], table
        heap = _values(store, f"SELECT pg_relation_size('{table}')")[0]
        assert heap < 100_000, table


def test_free_room_at_the_beginning_of_a_file_is_given_back_by_moving_the_end(filled: Database):
    for start in range(20, 20_020, 5_000):
        age = OLD if start < 10_000 else NEW
        _write(filled, 1, start, *((f"y{n}", age, age) for n in range(start, start + 5_000)))
    _retain(filled, texts_days=30)
    before = _values(filled, "SELECT pg_relation_size('review')")[0]
    shown = _shown(filled)
    report = _retention(filled).shrink()
    assert report.is_complete
    assert report.rows["review"] > 1_000
    assert _values(filled, "SELECT pg_relation_size('review')")[0] < 0.65 * before
    assert report.bytes_after["prediction"] < 0.65 * report.bytes_before["prediction"]
    assert _shown(filled) == shown
    assert _retention(filled).shrink().rows == {}, "once is enough"


def test_the_tables_of_every_kind_are_known():
    tables = Counter(
        name
        for name, table in metadata.tables.items()
        if "record" in table.columns and name != "training_item"
    )
    known = {"review", "prediction", "prediction_history", "embedding", "dead_letter", "label", "label_task",
             "label_skip", "label_action", "label_studio_annotation", "withdrawal", "sink_change",
             "erasure_record"}  # fmt: skip
    assert set(tables) <= known, "decide how long rows of a new table are kept"


def test_settings_that_contradict_each_other_are_refused():
    for wrong in (
        {"labelled_texts_days": 9},
        {"texts_days": 9, "labelled_texts_days": 8},
        {"texts_days": 9, "embeddings_days": 10},
    ):
        with pytest.raises(ValueError, match="texts_days"):
            RetentionSettings(**wrong)
    assert RetentionSettings().in_words() == "everything is kept for ever"
    assert RetentionSettings(texts_days=9, queue_days=1).in_words() == "texts 9 days, queue 1 days"
