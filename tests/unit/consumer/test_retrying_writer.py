"""Batches into a database that is away, busy or right to refuse: each record ends once, and in its place."""

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from consumer.measures import Measures
from consumer.retrying_writer import RetryingWriter
from reviews.dead_letter import DeadLetter
from reviews.errors import Exhausted, Unavailable, Unstorable
from reviews.message import PLAIN_TEXT
from reviews.stream_records import AcceptedWithdrawal, PartitionRange, ScoredReview
from reviews.withdrawal import Withdrawal
from storage.stream.stream_writer import Written
from tests.scored import scored_review

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _review(offset: int, text: str = "fine") -> ScoredReview:
    return scored_review(offset, f"r{offset}", text, None, None, None, NOW, NOW, (), raw=text.encode())


def _range(partition: int, texts: Sequence[str], first: int = 0, step: int = 1) -> PartitionRange:
    reviews = [_review(first + step * index, text) for index, text in enumerate(texts)]
    return PartitionRange(partition, first, first + step * len(texts), reviews)


@dataclass
class Tables:
    """A database: positions move by compare-and-set, bad texts are refused, slow ones take too long.

    Attributes:
        positions: The stored offset by partition.
        failures: Raised by the next writes, the last one first.
        busy: How many more statements take too long, whatever they hold.
        refuses_all: Whether nothing is taken.
    """

    positions: dict[int, int] = field(default_factory=lambda: {1: 0, 2: 0})
    reviews: list[tuple[int, int]] = field(default_factory=list)
    letters: list[tuple[int, DeadLetter]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    busy: int = 0
    refuses_all: bool = False
    writes: int = 0

    def write(self, ranges: Sequence[PartitionRange]) -> Written:
        self.writes += 1
        if self.failures:
            raise self.failures.pop()
        self.rehearse(ranges)
        owned = [part for part in ranges if self.positions[part.partition_id] == part.expected]
        for part in owned:
            self.positions[part.partition_id] = part.next
            self.reviews += [(part.partition_id, review.offset) for review in part.accepted]
            self.letters += [(part.partition_id, letter) for letter in part.dead_letters]
        lost = frozenset(part.partition_id for part in ranges) - {part.partition_id for part in owned}
        return Written(owned, lost)

    def rehearse(self, ranges: Sequence[PartitionRange]) -> None:
        texts = [row.review.message.text for part in ranges for row in part.accepted]
        self.busy -= self.busy > 0
        if "slow" in texts or self.busy:
            raise Exhausted("too slow", "database")
        if "bad" in texts or self.refuses_all:
            raise Unstorable(
                "refused", "program_limit_exceeded", "The database refuses to store this record."
            )


def _writer(tables: Tables, stopping: threading.Event | None = None, measures: Measures | None = None):
    return RetryingWriter(tables, measures or Measures(), stopping or threading.Event(), 0.001)


@pytest.mark.parametrize("busy", range(1, 20))
def test_a_database_that_recovers_at_any_moment_blames_no_record(busy: int):
    tables = Tables(busy=busy)
    _writer(tables).write([_range(1, ["fine"])])
    assert (tables.reviews, tables.letters) == ([(1, 0)], [])


@pytest.mark.parametrize("fault", ["bad", "slow"])
def test_the_record_at_fault_becomes_a_dead_letter_and_every_other_a_review(fault: str):
    tables = Tables()
    texts = ["fine"] * 7 + [fault] + ["fine"] * 3
    written = _writer(tables).write([_range(1, texts), _range(2, ["fine"] * 2)])
    assert sorted(tables.reviews) == [(1, n) for n in range(11) if n != 7] + [(2, 0), (2, 1)]
    ((partition, letter),) = tables.letters
    assert (partition, letter.offset, letter.stage, letter.raw) == (1, 7, "store", fault.encode())
    assert letter.reason == ("program_limit_exceeded" if fault == "bad" else "statement_timeout")
    assert tables.positions == {1: 11, 2: 2}
    assert written.lost == frozenset()
    assert sum(len(part.offsets()) for part in written.ranges) == 13


def test_any_mixture_of_faults_and_gaps_leaves_each_record_once_and_in_order():
    draw = random.Random(3)
    for _ in range(50):
        tables = Tables()
        mixtures = {
            partition: draw.choices(["fine", "bad", "slow"], [8, 1, 1], k=draw.randrange(1, 30))
            for partition in (1, 2)
        }
        _writer(tables).write([_range(name, texts, step=2) for name, texts in mixtures.items()])
        for name, texts in mixtures.items():
            expected = [2 * index for index, text in enumerate(texts) if text == "fine"]
            assert [offset for partition, offset in tables.reviews if partition == name] == expected
            refused = [letter.offset for partition, letter in tables.letters if partition == name]
            assert refused == [2 * index for index, text in enumerate(texts) if text != "fine"]
            assert tables.positions[name] == 2 * len(texts)


def test_a_busy_database_is_waited_for_and_refuses_nothing():
    tables = Tables(busy=12)
    _writer(tables).write([_range(1, ["fine"] * 2)])
    assert sorted(tables.reviews) == [(1, 0), (1, 1)]
    assert tables.letters == []


def test_a_database_that_is_away_is_not_asked_for_less():
    tables = Tables(failures=[Unavailable("away", "database")] * 20)
    measures = Measures()
    _writer(tables, measures=measures).write([_range(1, ["fine"] * 8)])
    assert (tables.writes, measures.retries["database"], measures.answers("database")) == (21, 20, True)


def test_a_partition_that_somebody_else_moves_meanwhile_is_left_alone():
    tables = Tables(positions={1: 5, 2: 0})
    written = _writer(tables).write([_range(1, ["fine"] * 4), _range(2, ["bad", "fine"])])
    assert written.lost == {1}
    assert {part.partition_id for part in written.ranges} == {2}
    assert tables.positions == {1: 5, 2: 2}
    assert tables.reviews == [(2, 1)]


def test_a_database_that_refuses_a_plain_record_too_turns_no_record_into_a_dead_letter():
    tables = Tables(refuses_all=True)
    with pytest.raises(Unstorable, match="A plain record is refused as well"):
        _writer(tables).write([_range(1, ["fine", PLAIN_TEXT])])
    assert (tables.reviews, tables.letters) == ([], [])


def test_a_dead_letter_whose_bytes_are_refused_is_stored_by_its_beginning():
    tables = Tables()
    letter = DeadLetter(0, "parse", "not_json", "No JSON.", b"huge" * 1000, b"key", NOW)
    refusing = PartitionRange(1, 0, 1, [], [letter])
    accepts = tables.rehearse

    def rehearse(ranges: Sequence[PartitionRange]) -> None:
        if any(len(item.raw or b"") > 1000 for part in ranges for item in part.dead_letters):
            raise Unstorable("refused", "program_limit_exceeded", "Too long.")
        accepts([PartitionRange(1, 0, 1)])

    tables.rehearse = rehearse  # type: ignore[method-assign]
    _writer(tables).write([refusing])
    ((_, stored),) = tables.letters
    assert stored.raw == b"huge" * 250
    assert stored.message == "No JSON. Of its 4000 bytes the first 1000 are kept."


def test_a_withdrawal_that_is_refused_becomes_a_dead_letter_and_its_neighbours_are_stored():
    tables = Tables()
    accepts, stored = tables.rehearse, []
    withdrawals = [
        AcceptedWithdrawal(offset, Withdrawal(id=name), NOW, NOW, b"{}", b"key")
        for offset, name in ((1, "bad"), (2, "r2"))
    ]

    def rehearse(ranges: Sequence[PartitionRange]) -> None:
        ids = [one.message.id for part in ranges for one in part.withdrawals]
        if "bad" in ids:
            raise Unstorable("refused", "untranslatable_character", "No such character.")
        accepts(ranges)
        stored.extend(ids)

    tables.rehearse = rehearse  # type: ignore[method-assign]
    _writer(tables).write([PartitionRange(1, 0, 3, [_review(0)], [], withdrawals)])
    assert tables.reviews == [(1, 0)]
    assert [(letter.offset, letter.key) for _, letter in tables.letters] == [(1, b"key")]
    assert "r2" in stored
    assert tables.positions[1] == 3


def test_a_database_that_becomes_busy_meanwhile_gets_the_dead_letter_later_and_whole():
    tables = Tables()
    accepts = tables.rehearse
    plain_ones = iter((False, True))  # the second one is followed by the dead letter

    def rehearse(ranges: Sequence[PartitionRange]) -> None:
        accepts(ranges)
        texts = [row.review.message.text for part in ranges for row in part.accepted]
        if PLAIN_TEXT in texts and next(plain_ones):
            tables.busy = 8

    tables.rehearse = rehearse  # type: ignore[method-assign]
    _writer(tables).write([_range(1, ["bad"])])
    ((_, letter),) = tables.letters
    assert (letter.reason, letter.raw) == ("program_limit_exceeded", b"bad")


def test_a_worker_that_is_told_to_stop_does_not_wait_for_a_busy_database():
    stopping = threading.Event()
    stopping.set()
    with pytest.raises(Unavailable):
        _writer(Tables(busy=1000), stopping).write([_range(1, ["fine"])])
