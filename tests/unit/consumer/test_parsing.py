"""Raw records in, one outcome each out, in order and with everything that a dead letter needs."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from consumer.batch import Accepted
from consumer.parsing import parse_records
from reviews.batch import DeadLetter, Replay

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_GOOD = b'{"id": "1", "text": "Good."}'
_BAD = b"no json"
_REPLAY = [("reviewloop.dead_letter", b"topic:3:7"), ("reviewloop.timestamp", b"5000")]


def _record(offset: int, value: bytes | None, **more: Any) -> Any:
    return SimpleNamespace(
        **{"offset": offset, "timestamp": 1000, "key": b"k", "value": value, "headers": [], **more}
    )


def _parse(*records: Any, limit: int = 1000) -> list[Accepted | DeadLetter]:
    return parse_records(records, _NOW, limit)


def test_every_record_has_one_outcome_in_its_place() -> None:
    outcomes = _parse(_record(5, _GOOD), _record(6, _BAD), _record(9, None), _record(10, _GOOD))
    assert [type(outcome) for outcome in outcomes] == [Accepted, DeadLetter, DeadLetter, Accepted]
    assert [outcome.offset for outcome in outcomes] == [5, 6, 9, 10]


def test_a_dead_letter_keeps_the_record_as_it_came() -> None:
    (letter,) = _parse(_record(6, _BAD, key=b"\xff", timestamp=-1))
    assert letter[1:3] == ("parse", "not_json")
    assert letter[4:] == (_BAD, b"\xff", _NOW, -1, None)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [(1000, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), (0, datetime(1970, 1, 1, tzinfo=UTC)), (-1, _NOW)],
)
def test_without_a_time_of_its_own_a_review_has_the_records_or_that_of_its_receipt(
    timestamp: int, expected: datetime
) -> None:
    (accepted,) = _parse(_record(0, _GOOD, timestamp=timestamp))
    assert isinstance(accepted, Accepted)
    assert accepted.published_at == expected


@pytest.mark.parametrize("timestamp", [253_402_300_800_000, 2**63 - 1])
def test_a_time_beyond_the_year_9999_is_refused(timestamp: int) -> None:
    (letter,) = _parse(_record(0, _GOOD, timestamp=timestamp))
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "bad_timestamp"


def test_a_replay_keeps_the_first_time_and_says_whose_it_is_accepted_or_refused() -> None:
    accepted, refused = _parse(_record(0, _GOOD, headers=_REPLAY), _record(1, _BAD, headers=_REPLAY))
    assert isinstance(accepted, Accepted)
    assert accepted.published_at == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    for outcome in (accepted, refused):
        assert outcome.replay == Replay("topic", 3, 7, 5000)
        assert outcome.timestamp_ms == 5000


def test_headers_of_others_change_nothing() -> None:
    (accepted,) = _parse(_record(0, _GOOD, headers=[("trace", b"1"), ("reviewloop.dead_letter", None)]))
    assert isinstance(accepted, Accepted)
    assert (accepted.replay, accepted.timestamp_ms) == (None, 1000)
