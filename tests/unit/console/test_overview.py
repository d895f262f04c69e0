"""The overview's arithmetic: samples, quality, lag, troubles, and what waits for what."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from broker.topics import TopicChoice, TopicEnds
from console.overview.background import BackgroundValue
from console.overview.kafka_watch import KafkaLag, KafkaWatch, totals
from console.overview.quality import measure_quality
from console.overview.samples import DailySamples, StreamSample, TaskLabels, to_arrays
from console.overview.snapshot import task_labels
from drift.performance import performance
from reviews.adapter import AdapterVersion
from reviews.errors import Unavailable
from reviews.label_set import LabelChange, LabelSet
from storage.queries.overview import AuditedReview, SampledPrediction
from storage.record_ranges import RecordRange, draw_records
from storage.stream.partitions import StreamPosition

_NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
_DAY = timedelta(days=1)
_LABELS = TaskLabels(
    ("bad", "good"), {"new": ("bad", "good"), "turned": ("good", "bad"), "other": ("x", "y")}
)


class _Store:
    """Positions and predictions by rule: two partitions, with 100 and 50 records a day."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def positions(self, moments: Sequence[datetime]) -> dict[datetime, dict[int, int]]:
        start = _NOW.replace(hour=0) - 40 * _DAY
        return {
            moment: {
                number: (number << 40) + round(min(40.5, max(0.0, (moment - start) / _DAY)) * rate)
                for number, rate in ((1, 100), (2, 50))
            }
            for moment in moments
        }

    def sample(self, task: str, records: Sequence[int]) -> list[SampledPrediction]:
        self.asked += records
        return [
            SampledPrediction(record, version, "good", probabilities)
            for record in records
            for version, probabilities in ((("new", [0.2, 0.8]) if record % 2 else ("turned", [0.8, 0.2])),)
        ]


def test_a_draw_takes_each_record_once_and_all_where_they_are_few() -> None:
    ranges = [RecordRange(100, 400), RecordRange(7, 107)]
    drawn = draw_records(ranges, 200, "seed")
    assert len(set(drawn)) == 200
    assert drawn == draw_records(ranges, 200, "seed")
    assert all(100 <= record < 400 or 7 <= record < 107 for record in drawn)
    assert 100 < sum(record >= 107 for record in drawn) < 190  # 150 on average
    assert draw_records([RecordRange(100, 102), RecordRange(7, 8)], 200, "seed") == [100, 101, 7]
    assert draw_records([RecordRange(100, 100)], 200, "seed") == []


def test_days_are_counted_exactly_and_a_day_that_is_over_is_read_once() -> None:
    store = _Store()
    samples = DailySamples(store, "sentiment")  # type: ignore[arg-type]
    days = samples.days(_NOW, 3, _LABELS)
    assert [day.records for day in days] == [150, 150, 75]
    assert [day.begins for day in days] == [_NOW.replace(hour=0) - back * _DAY for back in (2, 1, 0)]
    assert len(store.asked) == len(set(store.asked)) == 375
    np.testing.assert_allclose(days[0].probabilities, [[0.2, 0.8]] * 150)
    again = samples.days(_NOW, 3, _LABELS)
    assert again[:2] == days[:2]
    assert len(store.asked) == 375 + 75


def test_the_reference_is_the_first_records_since_the_promotion() -> None:
    reference = DailySamples(_Store(), "sentiment").since(_NOW - 10 * _DAY, 300, _LABELS)  # type: ignore[arg-type]
    assert reference.records == pytest.approx(300, abs=2)
    np.testing.assert_allclose(reference.shares(), [0, 1])


def test_quality_counts_audit_labels_of_the_active_adapter_and_weeks_of_every_one() -> None:
    audited = [_audited("new", "good", "good", 1)] * 40 + [_audited("new", "good", "bad", 1)] * 10
    audited += [_audited("turned", "bad", "bad", 9)] * 20 + [_audited("other", "x", "x", 1)]
    days = [_sample(_NOW - back * _DAY, "new") for back in range(13, -1, -1)]
    found = measure_quality(audited, days, "new", _LABELS, _NOW + _DAY)
    assert found.active is not None
    assert (found.active.labels, found.active.accuracy) == (50, pytest.approx(0.8))
    assert found.active.macro_f1 == pytest.approx(performance(np.array([[0.0, 10], [0, 40]])).macro_f1)
    assert 0 < found.active.low < found.active.macro_f1 < found.active.high < 1
    assert 0.6 < found.active.accuracy_low < 0.8 < found.active.accuracy_high < 0.95
    assert [week.audited.labels for week in found.course] == [20, 50]
    assert found.calibrated_on == 50
    assert all(value is not None and 0 <= value <= 1 for value in found.expected)


def test_no_audit_label_gives_no_quality_and_few_reviews_no_expectation() -> None:
    found = measure_quality([], [_sample(_NOW, "new", 5)], "new", _LABELS, _NOW + _DAY)
    assert (found.active, found.course, found.expected, found.calibrated_on) == (None, (), (None,), 0)


def test_audit_answers_of_an_adapter_with_other_labels_say_nothing_of_the_task() -> None:
    audited = [_audited("other", "good", "good", 1)] * 20
    found = measure_quality(audited, [_sample(_NOW, "new")], "other", _LABELS, _NOW + _DAY)
    assert found.active is None


def test_answers_that_were_drawn_more_often_count_less_in_the_quality() -> None:
    right = [_audited("new", "good", "good", 1)] * 20
    wrong = [_audited("new", "good", "bad", 1)._replace(draw_weight=0.1)] * 20
    found = measure_quality(right + wrong, [_sample(_NOW, "new")], "new", _LABELS, _NOW + _DAY)
    assert found.active is not None
    assert found.active.accuracy == pytest.approx(10 / 11)


def test_lag_counts_partitions_that_were_never_read_and_no_other_topic() -> None:
    ends = {"reviews": TopicEnds("c", "now", {0: 100, 1: 50, 2: 7})}
    positions = [_position("now", 0, 90), _position("now", 1, 50), _position("before", 2, 7)]
    assert totals(ends, positions) == (157, 140)


def test_the_time_to_clear_follows_from_what_is_gained() -> None:
    assert KafkaLag(100, 10.0, 30.0).seconds_to_clear == 5
    assert KafkaLag(100, 30.0, 10.0).seconds_to_clear is None
    assert KafkaLag(0).seconds_to_clear == 0
    assert KafkaLag(100).seconds_to_clear is None


@pytest.mark.parametrize(
    ("lag", "is_small"),
    [
        (KafkaLag(1, 1.6, 1.6), True),
        (KafkaLag(30, 2.0, 1.0), True),
        (KafkaLag(31, 2.0, 1.0), False),
        (KafkaLag(1, 1.0, 0.0), False),
        (KafkaLag(1), False),
        (KafkaLag(), False),
    ],
)
def test_a_stream_that_keeps_up_may_have_half_a_minutes_work_before_it(lag: KafkaLag, is_small: bool):
    assert lag.is_small is is_small


def test_kafka_that_does_not_answer_is_said_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.overview.kafka_watch._ASK_SECONDS", 0.01)
    attempts = iter([Unavailable("nobody answers"), {"reviews": TopicEnds("c", "now", {0: 10})}])

    class Reader:
        def read(self, choice: TopicChoice) -> dict[str, TopicEnds]:
            found = next(attempts, {"reviews": TopicEnds("c", "now", {0: 10})})
            if isinstance(found, Unavailable):
                raise found
            return found

        def close(self) -> None:
            pass

    watch = KafkaWatch(TopicChoice(("reviews",)), Reader, lambda: [_position("now", 0, 4)])
    assert watch.look(5).problem in {"nobody answers", ""}
    for _ in range(1_000):
        if watch.look().records is not None:
            break
        threading.Event().wait(0.01)
    assert watch.look().records == 6
    assert watch.look().problem == ""


def test_a_background_value_is_computed_by_one_thread_and_never_waited_for() -> None:
    now, going, calls = [0.0], threading.Event(), []

    def compute() -> int:
        calls.append(threading.current_thread().name)
        going.wait(10)
        return len(calls)

    value = BackgroundValue(compute, 60, 3_600, lambda: now[0])
    assert value.get() is None
    assert value.get() is None
    going.set()
    while value.get() is None:
        pass
    assert (value.get(), calls) == (1, ["background-value"])
    now[0] = 100
    going.clear()
    assert value.get() == 1  # old, while the next one is computed
    now[0] = 5_000
    assert value.get() is None  # too old
    going.set()


def _audited(version: str, label: str, truth: str, days_ago: int) -> AuditedReview:
    return AuditedReview(1, version, label, [0.3, 0.7], truth, _NOW - days_ago * _DAY)


def test_quality_counts_answers_of_before_the_labels_changed_as_what_they_mean_now() -> None:
    labels = task_labels(("bad", "so-so", "good"), [_adapter("old", ("bad", "so-so", "good"))], _MERGED)
    assert labels.ordered == ("poor", "good")
    audited = [
        AuditedReview(1, "old", "so-so", [0.2, 0.5, 0.3], "poor", _NOW),
        AuditedReview(2, "old", "good", [0.2, 0.2, 0.6], "good", _NOW),
    ]
    found = measure_quality(audited, [], "old", labels, _NOW)
    assert found.active is not None
    assert (found.active.labels, found.active.accuracy) == (2, 1.0)
    probabilities, predicted, _ = to_arrays(audited, labels)
    assert predicted.tolist() == [0, 1]
    assert probabilities[0] == pytest.approx([0.7, 0.3])


def _adapter(version: str, labels: tuple[str, ...]) -> AdapterVersion:
    return AdapterVersion(version, "sentiment", labels, "none", None, version)


_MERGED = LabelSet(("bad", "so-so", "good")).changed(LabelChange("merge", ("bad", "so-so"), ("poor",)))


def _sample(begins: datetime, version: str, rows: int = 50) -> StreamSample:
    probabilities = np.tile([0.3, 0.7], (rows, 1))
    return StreamSample(begins, rows, probabilities, np.ones(rows, np.int64), (version,) * rows)


def _position(topic_id: str, partition: int, next_offset: int) -> StreamPosition:
    return StreamPosition(1, "c", "reviews", topic_id, partition, 0, next_offset)
