"""Windows over stored rows, on a real PostgreSQL."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from reviews.adapter import AdapterVersion
from reviews.drift import ActiveAdapter, Span
from reviews.prediction import Prediction
from reviews.queue_item import NewItem
from reviews.stream_records import PartitionRange, ScoredReview
from storage import windows
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.queue_contents import QueueContents
from storage.record_ranges import RecordRange
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter
from storage.windows import WindowStore, draw_runs
from tests.scored import scored_review

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VERSIONS = ("sentiment-111111111111", "sentiment-222222222222")
LABELS = ("bad", "good")


@pytest.fixture
def filled(store: Database) -> WindowStore:
    """400 reviews, a minute apart, in two partitions by turns; another adapter scored every tenth."""
    adapters = AdapterStore(store)
    for number, version in enumerate(VERSIONS):
        made = AdapterVersion(version, "sentiment", LABELS, "base", None, str(number) * 64)
        adapters.add(made, {"a": b""})
    adapters.activate(adapters.find(VERSIONS[0]), expected=None, decided_by="test", reason="first")
    for partition in range(2):
        PartitionStore(store).register("cluster", "reviews", "topic", partition, 0)
        reviews = [_review(offset, partition) for offset in range(200)]
        ReviewWriter(store).write([PartitionRange(partition + 1, 0, 200, reviews)])
    with store.begin() as connection:
        connection.execute(
            text(
                "UPDATE prediction SET scored_at = :start"
                " + ((record & 1023) * 2 + (record >> 40) - 1) * interval '1 minute'"
            ),
            {"start": START},
        )
        connection.execute(
            text("UPDATE review r SET received_at = p.scored_at FROM prediction p WHERE p.record = r.record")
        )
        connection.execute(text("UPDATE adapter_activation SET activated_at = :start"), {"start": START})
    return WindowStore(store)


def _review(offset: int, partition: int) -> ScoredReview:
    version = VERSIONS[offset % 10 == 9]
    answer = Prediction("sentiment", LABELS[offset % 2], 0.75, (0.25, 0.75), 0.5, 0.56, False, version)
    return scored_review(
        offset, f"r{partition}-{offset}", "x" * (10 + offset % 2), "p", "web", None, START, START, (answer,)
    )


def _whole(promotion: ActiveAdapter, minutes: int = 400) -> Span:
    return Span("sentiment", promotion.adapter_id, START, START + minutes * MINUTE)


def _promotion(windows: WindowStore) -> ActiveAdapter:
    found = windows.active("sentiment")
    assert found is not None
    return found


def test_the_promotion_is_the_latest_activation(filled):
    found = _promotion(filled)
    assert (found.version, found.labels, found.activated_at) == (VERSIONS[0], LABELS, START)
    assert filled.active("nothing") is None


def test_the_first_reviews_end_with_the_last_of_them(filled):
    promotion = _promotion(filled)
    span = filled.first_reviews(promotion, 50)
    assert filled.count(span) == 50
    assert filled.count(filled.first_reviews(promotion, 10_000)) == 360  # all there are


def test_a_sample_is_in_order_the_same_each_time_and_of_the_adapter_alone(filled):
    span = _whole(_promotion(filled))
    everything = list(filled.sample(span, 1000))
    assert len(everything) == 360
    assert [row.scored_at for row in everything] == sorted(row.scored_at for row in everything)
    some = [row.record for row in filled.sample(span, 100)]
    assert some == [row.record for row in filled.sample(span, 100)]
    assert 60 <= len(some) <= 140
    assert set(some) < {row.record for row in everything}
    assert {record >> 40 for record in some} == {1, 2}


def test_what_was_scored_anew_is_no_part_of_the_stream_since_the_promotion(store, filled):
    span = _whole(_promotion(filled))
    with store.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO prediction_history SELECT record, task, 2, 'replaced', label, confidence, "
                "probabilities, margin, entropy, truncated, scored_at FROM prediction "
                "WHERE adapter_id = 1 ORDER BY scored_at LIMIT 60"
            )
        )
    assert filled.count(span) == 300
    assert len(list(filled.sample(span, 1000))) == 300
    assert sum(item.reviews for item in filled.course(span, 100 * MINUTE)) == 300
    assert filled.count(filled.first_reviews(_promotion(filled), 50)) == 50
    fresh, _ = filled.new_reviews(_promotion(filled), {}, 1000)
    assert len(fresh) == 300


def test_the_course_sums_over_every_review(filled):
    course = filled.course(_whole(_promotion(filled)), 100 * MINUTE)
    assert sum(item.reviews for item in course) == 360
    assert {item.starts_at for item in course} == {START + number * 100 * MINUTE for number in range(4)}
    assert {(item.label, item.characters) for item in course} == {("bad", 10.0), ("good", 11.0)}
    assert {item.confidence for item in course} == {0.75}


def test_what_people_agree_on_and_embeddings_come_with_the_rows(store, filled):
    promotion = _promotion(filled)
    record = 1 << 40
    with store.begin() as connection:
        for annotator, label in (("ann", "good"), ("ben", "good"), ("cid", "bad")):
            connection.execute(
                text(
                    "INSERT INTO label (record, task, label, annotator, source, labelled_at) "
                    "VALUES (:record, 'sentiment', :label, :annotator, 'test', now())"
                ),
                {"record": record, "label": label, "annotator": annotator},
            )
        for adapter_id, row in ((promotion.adapter_id, record), (promotion.adapter_id + 1, record + 1)):
            connection.execute(
                text("INSERT INTO embedding VALUES (:record, 'sentiment', :adapter, 'sample', '\\x0102')"),
                {"record": row, "adapter": adapter_id},
            )
    assert filled.by_record("sentiment", [record])[record].truth is None, "they were not asked by the audit"
    QueueContents(store).add([NewItem(record, "sentiment", "audit", "random", 0.5, draw_weight=0.25)])
    found = filled.by_record("sentiment", [record, record + 1, 99])
    assert set(found) == {record, record + 1}
    assert (found[record].truth, found[record].vector) == ("good", b"\x01\x02")
    assert (found[record].kept, found[record].draw_weight, found[record + 1].draw_weight) == (
        "sample",
        0.25,
        1,
    )
    audited = filled.audited("sentiment", promotion.version, START, START + 100 * MINUTE)
    assert [(one.truth, one.draw_weight) for one in audited] == [("good", 0.25)]
    span = filled.span("sentiment", promotion.version, START, START + 100 * MINUTE)
    assert span is not None
    every = filled.predicted(span, 10_000)
    assert len(every) == filled.count(span)
    assert all(sum(one.probabilities) == pytest.approx(1, abs=1e-5) for one in every)
    assert 0 < len(filled.predicted(span, 20)) < len(every)
    assert filled.span("sentiment", "sentiment-ffffffffffff", START, START) is None
    # An embedding of another adapter lies in another space.
    assert (found[record + 1].truth, found[record + 1].vector) == (None, None)


def test_what_is_new_is_read_once_and_in_the_order_of_scoring(filled):
    promotion = _promotion(filled)
    positions = filled.positions(_whole(promotion, minutes=100))
    assert positions == {1: (1 << 40) + 50, 2: (2 << 40) + 50}
    records: list[int] = []
    while True:
        fresh, positions = filled.new_reviews(promotion, positions, 40)
        if not fresh:
            break
        assert [row.scored_at for row in fresh] == sorted(row.scored_at for row in fresh)
        records += [row.record for row in fresh]
    assert len(records) == len(set(records)) == 270
    assert positions == filled.ends() == {1: (1 << 40) + 200, 2: (2 << 40) + 200}


def test_the_first_reviews_last_as_long_as_the_season_at_least(filled):
    promotion = _promotion(filled)
    span = filled.first_reviews(promotion, 50, 100 * MINUTE)
    assert (span.since, span.until) == (START, START + 100 * MINUTE)
    assert filled.first_reviews(promotion, 200, 100 * MINUTE) == filled.first_reviews(promotion, 200)


def test_neighbours_are_drawn_together_where_the_sample_shall_have_the_bursts_of_the_stream(filled):
    span = _whole(_promotion(filled))
    runs: dict[int, int] = {}
    for row in filled.sample(span, 150, run_bits=4):
        runs[row.record >> 4] = runs.get(row.record >> 4, 0) + 1
    whole: dict[int, int] = {}
    for row in filled.sample(span, 1000):
        whole[row.record >> 4] = whole.get(row.record >> 4, 0) + 1
    assert 0 < len(runs) < len(whole)
    assert runs.items() <= whole.items()
    partitions = ({run & 63 for run in runs if run >> 36 == partition} for partition in (1, 2))
    assert next(partitions) == next(partitions)


def test_a_long_span_is_told_by_a_sample_of_its_records(filled, monkeypatch):
    span = _whole(_promotion(filled))
    exact = filled.course(span, 100 * MINUTE)
    monkeypatch.setattr(windows, "MOST_READ", 100)
    assert filled.count(span) == pytest.approx(360, abs=1)  # every record was drawn
    monkeypatch.setattr(windows, "_ESTIMATED_BY", 200)
    assert filled.count(span) == pytest.approx(360, abs=15)
    some = list(filled.sample(span, 100))
    assert 80 <= len(some) <= 100
    assert some == sorted(some, key=lambda row: (row.scored_at, row.record))
    assert {row.record >> 40 for row in some} == {1, 2}
    monkeypatch.setattr(windows, "_COURSE_SAMPLE", 50)
    about = filled.course(span, 100 * MINUTE)
    assert [(item.starts_at, item.label) for item in about] == [
        (item.starts_at, item.label) for item in exact
    ]
    assert sum(item.reviews for item in about) == pytest.approx(360, abs=20)
    assert {(item.label, item.characters, item.confidence) for item in about} == {
        ("bad", 10.0, 0.75), ("good", 11.0, 0.75),
    }  # fmt: skip


def test_a_long_sample_has_the_bursts_of_the_stream_in_every_partition():
    ranges = [RecordRange(5 << 40 | 100, 5 << 40 | 1_000), RecordRange(6 << 40 | 50, 6 << 40 | 900)]
    found = draw_runs(ranges, 400, 4, 0)
    assert found == draw_runs(ranges, 400, 4, 0)
    assert 300 <= len(found) <= 500
    assert all(any(one.first <= record < one.next for one in ranges) for record in found)
    runs = [{(record & 0xFFFF) >> 4 for record in found if record >> 40 == partition} for partition in (5, 6)]
    assert {run for run in runs[0] if run < 56} == {run for run in runs[1] if run > 6}
    assert len(draw_runs(ranges, 10_000, 4, 0)) == 900 + 850


def test_who_begins_to_follow_a_long_stream_reads_its_end_alone(filled, monkeypatch):
    promotion = _promotion(filled)
    monkeypatch.setattr(windows, "MOST_REPLAYED", 60)
    assert filled.positions(_whole(promotion, minutes=100)) == {1: (1 << 40) + 170, 2: (2 << 40) + 170}


def test_what_another_adapter_scored_is_passed_over_step_by_step(filled, monkeypatch):
    promotion = _promotion(filled)
    monkeypatch.setattr(windows, "_MOST_PASSED", 1)
    records, positions = [], {}
    while True:
        fresh, reached = filled.new_reviews(promotion, positions, 7)
        if reached == positions:
            break
        records += [row.record for row in fresh]
        positions = reached
    assert len(records) == len(set(records)) == 360
