"""Raw records in, one outcome each out, in order and with everything that a dead letter needs."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from consumer.parsing import parse_reviews
from consumer.settings import ConsumerSettings
from reviews.dead_letter import DeadLetter, Replay
from reviews.stream_records import AcceptedReview

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_GOOD = b'{"id": "1", "text": "Good."}'
_BAD = b"no json"
_REPLAY = [("reviewloop.dead_letter", b"topic:3:7"), ("reviewloop.timestamp", b"5000")]


def _record(offset: int, value: bytes | None, **more: Any) -> Any:
    return SimpleNamespace(
        **{"offset": offset, "timestamp": 1000, "key": b"k", "value": value, "headers": [], **more}
    )


def _parse(*records: Any, limit: int = 1000) -> list[AcceptedReview | DeadLetter]:
    return parse_reviews(
        records, _NOW, ConsumerSettings(max_message_bytes=limit, clock_tolerance_seconds=300)
    )


def test_every_record_has_one_outcome_in_its_place() -> None:
    outcomes = _parse(_record(5, _GOOD), _record(6, _BAD), _record(9, None), _record(10, _GOOD))
    assert [type(outcome) for outcome in outcomes] == [AcceptedReview, DeadLetter, DeadLetter, AcceptedReview]
    assert [outcome.offset for outcome in outcomes] == [5, 6, 9, 10]


def test_a_dead_letter_keeps_the_record_as_it_came() -> None:
    headers = [("trace", b"\x00")]
    (letter,) = _parse(_record(6, _BAD, key=b"\xff", timestamp=-1, headers=headers))
    assert letter[1:3] == ("parse", "not_json")
    assert letter[4:] == (_BAD, b"\xff", _NOW, -1, None, headers)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [(1000, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), (0, datetime(1970, 1, 1, tzinfo=UTC)), (-1, _NOW)],
)
def test_without_a_time_of_its_own_a_review_has_the_records_or_that_of_its_receipt(
    timestamp: int, expected: datetime
) -> None:
    (accepted,) = _parse(_record(0, _GOOD, timestamp=timestamp))
    assert isinstance(accepted, AcceptedReview)
    assert accepted.event_time == expected


@pytest.mark.parametrize("timestamp", [253_402_300_800_000, 2**63 - 1])
def test_a_time_beyond_the_year_9999_is_refused(timestamp: int) -> None:
    (letter,) = _parse(_record(0, _GOOD, timestamp=timestamp))
    assert isinstance(letter, DeadLetter)
    assert letter.reason == "bad_timestamp"


def test_a_replay_keeps_the_first_time_and_says_whose_it_is_accepted_or_refused() -> None:
    accepted, refused = _parse(_record(0, _GOOD, headers=_REPLAY), _record(1, _BAD, headers=_REPLAY))
    assert isinstance(accepted, AcceptedReview)
    assert accepted.event_time == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    for outcome in (accepted, refused):
        assert outcome.replay == Replay("topic", 3, 7, 5000)
        assert outcome.kafka_ms == 5000


def _at(minutes: float) -> datetime:
    return _NOW + timedelta(minutes=minutes)


def _ms(minutes: float) -> int:
    return int(_at(minutes).timestamp() * 1000)


def _published(moment: datetime, **more: Any) -> Any:
    value = b'{"id": "1", "text": "Good.", "published_at": "%s"}' % moment.isoformat().encode()
    return _record(0, value, **more)


@pytest.mark.parametrize(
    ("stated", "kafka", "published", "marked"),
    [
        (-60, -60, -60, False),
        (-56, -60, -56, False),  # clocks differ by so much
        (-54, -60, -60, True),
        (5_000_000, -60, -60, True),
        (4, 100, 4, False),  # Kafka's time is to come, and no measure
        (6, 100, 0, True),
        (6, None, 0, True),
    ],
)
def test_a_review_is_not_published_after_kafka_had_it_and_what_was_stated_is_kept(
    stated: float, kafka: float | None, published: float, marked: bool
) -> None:
    timestamp_ms = -1 if kafka is None else _ms(kafka)
    (accepted,) = _parse(_published(_at(stated), timestamp=timestamp_ms))
    assert isinstance(accepted, AcceptedReview)
    assert accepted.event_time == _at(published)
    assert accepted.stated_at == (_at(stated) if marked else None)
    assert accepted.arrived_ms == (_ms(0) if kafka in {None, 100} else timestamp_ms)
    assert accepted.kafka_ms == timestamp_ms


def test_a_record_of_a_time_to_come_has_that_of_its_receipt_and_is_marked() -> None:
    (accepted,) = _parse(_record(0, _GOOD, timestamp=_ms(60)))
    assert isinstance(accepted, AcceptedReview)
    assert (accepted.event_time, accepted.stated_at, accepted.arrived_ms) == (_NOW, _at(60), _ms(0))


def test_a_mended_replay_may_state_any_time_until_it_was_published_again() -> None:
    (accepted,) = _parse(_published(_at(-30), headers=_REPLAY, timestamp=_ms(-1)))
    assert isinstance(accepted, AcceptedReview)
    assert (accepted.event_time, accepted.stated_at, accepted.arrived_ms) == (_at(-30), None, 5000)
    (clamped,) = _parse(_published(_at(30), headers=_REPLAY, timestamp=_ms(-1)))
    assert isinstance(clamped, AcceptedReview)
    assert clamped.event_time == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)


def test_headers_of_others_change_nothing() -> None:
    (accepted,) = _parse(_record(0, _GOOD, headers=[("trace", b"1"), ("reviewloop.dead_letter", None)]))
    assert isinstance(accepted, AcceptedReview)
    assert (accepted.replay, accepted.kafka_ms) == (None, 1000)
