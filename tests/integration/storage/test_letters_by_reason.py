"""Dead letters by reason: counted, listed page by page and chosen, each bounded."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import text

from reviews.dead_letter import DeadLetter
from reviews.stream_records import PartitionRange
from storage.database import Database
from storage.stream import letters_by_reason
from storage.stream.dead_letters import Choice, DeadLetterStore
from storage.stream.letters_by_reason import count_reasons, find_attempts, find_letter, list_letters
from storage.stream.partitions import PartitionStore
from storage.stream.review_writer import ReviewWriter

START = datetime(2026, 1, 1, tzinfo=UTC)
REASONS = (("label", "bad_task"), ("parse", "bad_stars"), ("parse", "not_json"), ("score", "model_failed"))


@pytest.fixture
def filled(store: Database) -> Database:
    """120 dead letters: one in ten of the model, one in three of the others with each reason."""
    PartitionStore(store).register("cluster", "reviews", "topic", 0, 0)
    ReviewWriter(store).write([PartitionRange(1, 0, 120, dead_letters=[_letter(n) for n in range(120)])])
    return store


def _letter(offset: int) -> DeadLetter:
    stage, reason = REASONS[3] if offset % 10 == 0 else REASONS[offset % 3]
    at = START + timedelta(minutes=offset // 2)  # two in each minute
    return DeadLetter(offset, stage, reason, "Something is wrong.", b"value %d" % offset, None, at)


def test_reasons_are_counted_up_to_a_bound(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {(count.stage, count.reason): count.letters for count in count_reasons(filled)}
    assert counted == {reason: sum(_letter(n)[1:3] == reason for n in range(120)) for reason in REASONS}
    assert count_reasons(filled, "discarded") == []
    latest = {count.reason: count.latest_at for count in count_reasons(filled)}
    assert latest["model_failed"] == _letter(110).received_at


@pytest.mark.parametrize("reason", [None, *REASONS])
def test_the_pages_of_a_list_hold_every_letter_once_the_latest_first(
    filled: Database, reason: tuple[str, str] | None
) -> None:
    stage, name = reason or (None, None)
    seen, before = [], None
    while page := list_letters(filled, stage=stage, reason=name, before=before, limit=7):
        seen += page
        before = page[-1].received_at, page[-1].record
    places = [(line.received_at, line.record) for line in seen]
    assert all(earlier > later for earlier, later in pairwise(places))
    wanted = [n for n in range(120) if reason is None or _letter(n)[1:3] == reason]
    assert sorted(line.offset for line in seen) == wanted
    assert seen[0].beginning == b"value %d" % seen[0].offset


def test_a_choice_of_the_oldest_of_a_reason_is_bounded(filled: Database) -> None:
    store = DeadLetterStore(filled)
    chosen = store.choose(Choice(error="bad_stars", stage="parse", limit=5))
    wanted = [n for n in range(120) if _letter(n).reason == "bad_stars"][:5]
    assert [letter.place for letter in chosen] == [("reviews", 0, n) for n in wanted]
    assert [one.record for one in store.choose(Choice(records=(chosen[2].record,)))] == [chosen[2].record]


def test_attempts_at_one_letter_are_found_from_each_of_them(filled: Database) -> None:
    first, *_ = list_letters(filled, limit=1)
    second = list_letters(filled, limit=2)[1]
    with filled.begin() as connection:
        connection.execute(
            text("UPDATE dead_letter SET replay_of = :first, attempts = 2 WHERE record = :second"),
            {"first": first.record, "second": second.record},
        )
    for record in (first.record, second.record):
        found = find_letter(filled, record)
        assert found is not None
        assert {line.record for line in find_attempts(filled, found)} == {first.record, second.record}
    assert find_letter(filled, 7) is None


def test_more_than_the_bound_is_said_as_one_more(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    bounded = str(letters_by_reason._COUNTS).replace(str(letters_by_reason.COUNTED_LETTERS + 1), "4")
    monkeypatch.setattr(letters_by_reason, "_COUNTS", text(bounded))
    assert {count.letters for count in count_reasons(filled)} == {4}
