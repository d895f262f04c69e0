"""A bounded part of very many records."""

from itertools import pairwise

import pytest

from storage.record_ranges import STRETCH, RecordRange, drawn, latest_and_drawn, steps, total

ONE, TWO = 1 << 40, 2 << 40
FEW = [RecordRange(ONE + 5, ONE + 105), RecordRange(TWO, TWO + 50)]
MANY = [RecordRange(ONE, ONE + 10_000_000), RecordRange(TWO + 7, TWO + 1_000_007)]


def _is_within(part: RecordRange, ranges: list[RecordRange]) -> bool:
    return any(one.first <= part.first < part.next <= one.next for one in ranges)


def test_few_records_are_all_taken() -> None:
    assert latest_and_drawn(FEW, 150, seed=1) == FEW
    assert total(drawn(FEW, 150, seed=1)) == 150
    assert latest_and_drawn([], 10, seed=1) == drawn([], 10, seed=1) == []


def test_of_many_records_the_latest_of_every_partition_are_taken_and_a_draw_from_all_before() -> None:
    found = latest_and_drawn(MANY, 100_000, seed=1)
    assert total(found) == pytest.approx(100_000, rel=0.02)
    assert all(_is_within(part, MANY) for part in found)
    *before, first, second = found
    assert (first.next, second.next) == (MANY[0].next, MANY[1].next)
    assert first.records == pytest.approx(10 * second.records, rel=0.01)
    assert first.records + second.records == pytest.approx(50_000, abs=2)
    assert all(part.next <= (first if part.first < TWO else second).first for part in before)
    assert all(part.records <= STRETCH for part in before)
    thirds = [sum(part.first < ONE + third * 3_333_333 for part in before) for third in (1, 2)]
    assert 40 < thirds[0] < 80 < thirds[1] < 160, "from all times alike"


def test_no_record_is_drawn_twice_and_the_same_seed_draws_the_same() -> None:
    found = latest_and_drawn(MANY, 100_000, seed=1)
    assert found == latest_and_drawn(MANY, 100_000, seed=1) != latest_and_drawn(MANY, 100_000, seed=2)
    ordered = sorted(found)
    assert all(one.next <= other.first for one, other in pairwise(ordered))


def test_single_records_are_drawn_each_as_likely_as_another() -> None:
    counts = [0] * 150
    for seed in range(600):
        for part in drawn(FEW, 15, seed, stretch=1):
            assert part.records == 1
            counts[part.first - FEW[0].first if part.first < TWO else 100 + part.first - TWO] += 1
    assert sum(counts) == 600 * 15
    assert 30 < min(counts) <= max(counts) < 100


def test_steps_cover_ranges_without_a_gap() -> None:
    assert steps(FEW, 40) == [
        RecordRange(ONE + 5, ONE + 45), RecordRange(ONE + 45, ONE + 85), RecordRange(ONE + 85, ONE + 105),
        RecordRange(TWO, TWO + 40), RecordRange(TWO + 40, TWO + 50),
    ]  # fmt: skip
