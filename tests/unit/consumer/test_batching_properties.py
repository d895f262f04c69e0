"""What holds of batches and offsets in whatever order records come."""

from collections import defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.structs import TopicPartition

from consumer.batch import Batch, Batcher, Outcome
from consumer.pipeline import merge
from consumer.settings import ConsumerSettings
from reviews.dead_letter import DeadLetter
from reviews.message import ReviewMessage
from reviews.record_id import MAX_OFFSET, record_id
from reviews.stream_records import (
    AcceptedReview,
    AcceptedWithdrawal,
    FilteredOut,
    PartitionRange,
    ScoredReview,
)
from reviews.withdrawal import Withdrawal
from tests.scored import scored_review

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_PARTITIONS = [TopicPartition("reviews", number) for number in range(3)]
_SETTINGS = ConsumerSettings(
    max_batch_tokens=200, max_batch_reviews=7, max_batch_bytes=1_500, max_wait_seconds=1.0
)


_FILTERED, _WITHDRAWN = -2, -1


def _outcome(offset: int, length: int) -> Outcome[AcceptedReview]:
    if length == _FILTERED:
        return FilteredOut(offset)
    if length == _WITHDRAWN:
        return _withdrawal(offset)
    if length == 0:
        return DeadLetter(offset, "parse", "not_json", "No.", b"", None, _NOW)
    return AcceptedReview(offset, ReviewMessage(id="1", text="x" * length), _NOW, _NOW, b"r" * length, None)


def _withdrawal(offset: int) -> AcceptedWithdrawal:
    return AcceptedWithdrawal(offset, Withdrawal(id="1"), _NOW, _NOW, b"w" * 40, b"1")


class Run:
    """A batcher, and what ought to be in it."""

    def __init__(self) -> None:
        self.batcher = Batcher(_SETTINGS)
        self.now = 0.0
        self.expected = dict.fromkeys(_PARTITIONS, 0)  # what the next record continues
        self.waiting: dict[TopicPartition, list[int]] = {partition: [] for partition in _PARTITIONS}
        self.taken = dict.fromkeys(_PARTITIONS, 0)  # what the next slice has to continue

    def add(self, number: int, lengths: list[int], skipped: int) -> None:
        partition = _PARTITIONS[number]
        first = self.expected[partition] + skipped
        outcomes = [_outcome(first + index, length) for index, length in enumerate(lengths)]
        reached = self.batcher.add(partition, number, self.expected[partition], outcomes, self.now)
        assert reached == (first + len(lengths) if lengths else self.expected[partition])
        self.waiting[partition] += [
            outcome.offset for outcome in outcomes if not isinstance(outcome, FilteredOut)
        ]
        self.expected[partition] = reached

    def skip(self, number: int, more: int) -> None:
        partition = _PARTITIONS[number]
        position = self.expected[partition] + more
        self.batcher.skip(partition, number, self.expected[partition], position, self.now)
        self.expected[partition] = position

    def drop(self, number: int, back: int) -> None:
        """Revoked and placed again at the stored offset, which what was taken has reached or not."""
        partition = _PARTITIONS[number]
        self.batcher.drop(partition)
        self.waiting[partition] = []
        self.expected[partition] = self.taken[partition] = max(0, self.taken[partition] - back)

    def take(self, batch: Batch | None) -> None:
        if batch is None:
            return
        assert batch.records <= _SETTINGS.max_batch_reviews
        tokens = [review.tokens for review in batch.accepted()]
        assert sum(tokens) < _SETTINGS.max_batch_tokens + max(tokens, default=0)
        held = [
            one.held_bytes
            for part in batch.ranges.values()
            for one in (*part.accepted, *part.dead_letters, *part.withdrawals)
        ]
        assert sum(held) < _SETTINGS.max_batch_bytes + max(held, default=0)
        for partition, part in batch.ranges.items():
            assert part.expected == self.taken[partition]
            offsets = part.offsets()
            assert offsets == self.waiting[partition][: len(offsets)]
            assert [item.offset for item in part.accepted] == sorted(item.offset for item in part.accepted)
            assert all(part.expected <= offset < part.next for offset in offsets)
            del self.waiting[partition][: len(offsets)]
            self.taken[partition] = part.next


_STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.integers(0, 2),
            st.lists(st.integers(_FILTERED, 300), max_size=12),
            st.integers(0, 2),
        ),
        st.tuples(st.just("skip"), st.integers(0, 2), st.integers(1, 5)),
        st.tuples(st.just("drop"), st.integers(0, 2), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.25, 0.5, 1.5])),
        st.tuples(st.just("take")),
    ),
    max_size=30,
)


@settings(max_examples=500, deadline=None)
@given(_STEPS)
def test_batches_hold_each_partitions_records_in_order_without_a_hole_or_a_double(steps) -> None:
    run = Run()
    for name, *arguments in steps:
        if name == "wait":
            run.now += arguments[0]
        elif name == "take":
            run.take(run.batcher.take(run.now))
        else:
            getattr(run, name)(*arguments)
    while (batch := run.batcher.take_rest()) is not None:
        run.take(batch)
    assert not any(run.waiting.values())
    assert run.taken == run.expected


@settings(max_examples=200, deadline=None)
@given(_STEPS)
def test_a_batch_goes_when_it_is_full_or_its_oldest_record_has_waited_and_not_before(steps) -> None:
    run = Run()
    for name, *arguments in steps:
        if name == "wait":
            run.now += arguments[0]
        elif name != "take":
            getattr(run, name)(*arguments)
        left = run.batcher.seconds_left(run.now)
        assert 0.0 <= left <= _SETTINGS.max_wait_seconds
        batch = run.batcher.take(run.now)
        assert (batch is None) == (left > 0)
        if batch is not None:
            is_full = (
                batch.tokens >= _SETTINGS.max_batch_tokens
                or batch.records >= _SETTINGS.max_batch_reviews
                or batch.held_bytes >= _SETTINGS.max_batch_bytes
            )
            assert is_full or run.now - batch.opened_at >= _SETTINGS.max_wait_seconds
        run.take(batch)


_IDS = st.integers(0, 2**23 - 1)
_OFFSETS = st.integers(0, MAX_OFFSET)


@given(_IDS, _OFFSETS, _IDS, _OFFSETS)
def test_a_record_number_is_taken_apart_again_and_keeps_the_order_of_its_parts(
    partition: int, offset: int, other_partition: int, other_offset: int
) -> None:
    record = record_id(partition, offset)
    assert (record >> 40, record & MAX_OFFSET) == (partition, offset)
    assert 0 <= record < 2**63  # a bigint
    other = record_id(other_partition, other_offset)
    assert (record < other) == ((partition, offset) < (other_partition, other_offset))


@pytest.mark.parametrize("offset", [-1, MAX_OFFSET + 1])
def test_an_offset_that_does_not_fit_is_refused_instead_of_naming_another_record(offset: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        record_id(1, offset)


def _scored(offset: int) -> ScoredReview:
    return scored_review(offset, "1", "x", None, None, None, _NOW, _NOW, ())


def _range(number: int, expected: int, length: int) -> PartitionRange:
    part = PartitionRange(number, expected, expected + length)
    for offset in range(expected, expected + length):
        if offset % 5 == 1:
            part.withdrawals.append(_withdrawal(offset))
        elif offset % 3:
            part.accepted.append(_scored(offset))
        else:
            part.dead_letters.append(DeadLetter(offset, "parse", "x", "X.", b"", None, _NOW))
    return part


def _write(stored: dict[int, int], rows: dict[int, list[int]], part: PartitionRange) -> None:
    """The compare-and-set of the database (I2)."""
    if stored[part.partition_id] == part.expected:
        stored[part.partition_id] = part.next
        rows[part.partition_id] += part.offsets()


def _cut(pieces: list[tuple[int, int, int]]) -> list[dict[TopicPartition, PartitionRange]]:
    """Batches of one range each; with a jump, a range does not continue the one before it."""
    positions = dict.fromkeys(range(3), 0)
    batches = []
    for number, length, jump in pieces:
        expected = max(0, positions[number] + jump)
        batches.append({_PARTITIONS[number]: _range(number, expected, length)})
        positions[number] = expected + length
    return batches


def _store_merged(batches) -> tuple[dict[int, int], dict[int, list[int]]]:
    stored, rows = dict.fromkeys(range(3), 0), defaultdict(list)
    for group in merge(batches):
        for partition, part in group.items():
            assert partition.partition == part.partition_id
            _write(stored, rows, part)
    return stored, rows


_PIECES = st.tuples(st.integers(0, 2), st.integers(0, 4), st.sampled_from([0, 0, 0, 0, 2]))
_REREAD = st.tuples(st.integers(0, 2), st.integers(0, 4), st.sampled_from([0, 0, 0, 2, -2]))


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES, max_size=25))
def test_ranges_stored_together_leave_what_they_would_have_left_one_by_one(pieces) -> None:
    batches = _cut(pieces)
    stored, rows = dict.fromkeys(range(3), 0), defaultdict(list)
    for batch in batches:
        for part in batch.values():
            _write(stored, rows, part)
    assert _store_merged(batches) == (stored, rows)


@settings(max_examples=300, deadline=None)
@given(st.lists(_REREAD, max_size=25))
def test_ranges_that_overlap_store_no_record_twice_and_leave_no_hole(pieces) -> None:
    stored, rows = _store_merged(_cut(pieces))
    for number, end in stored.items():
        assert rows[number] == list(range(end))
