"""Every message that was published, held against what became of it."""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from benchmarks.fuzz.mutations import POISON, Message
from consumer.settings import ConsumerSettings
from reviews.dead_letter import read_replay
from reviews.errors import InvalidMessage
from reviews.message import ReviewMessage, parse_review

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_BYTES = ConsumerSettings().max_message_bytes

Place = tuple[int, int]
"""Partition and offset."""


class Sent(NamedTuple):
    """A message and where Kafka put it."""

    place: Place
    message: Message


def account(sent: Iterable[Sent], rows: dict[Place, Any], letters: dict[Place, Any]) -> Counter[str]:
    """How many messages became what: ``review``, or the reason of the dead letter.

    Args:
        sent: What was published.
        rows: (id, text, product, source, stars, published_at as it was stated) by place.
        letters: (reason, raw, key) by place.

    Raises:
        AssertionError: If a message is not accounted for, or for the wrong reason or with other contents.
    """
    found: Counter[str] = Counter()
    for place, message in sent:
        assert (place in rows) != (place in letters), f"{place} is in neither or both: {message}"
        reason = _expected(message)
        if place in rows:
            assert reason is None, f"{place} was stored, yet {reason}: {message}"
            _check_row(message, rows[place])
        else:
            assert letters[place] == (reason, message.value, message.key), f"{letters[place]}: {message}"
        found[reason or "review"] += 1
    assert len(rows) + len(letters) == found.total(), "there are rows of messages that were never sent"
    return found


def _expected(message: Message) -> str | None:
    try:
        review = parse_review(message.value, _MAX_BYTES)
    except InvalidMessage as err:
        return err.reason
    if review.published_at is None and not _is_dated(message):
        return "bad_timestamp"
    return "model_failed" if POISON in review.text else None


def _is_dated(message: Message) -> bool:
    moment = _timestamp(message)
    return moment is None or moment < 253_402_300_800_000


def _timestamp(message: Message) -> int | None:
    replay = read_replay(message.headers)
    return message.timestamp_ms if replay is None or replay.timestamp_ms is None else replay.timestamp_ms


def _check_row(message: Message, row: tuple[Any, ...]) -> None:
    assert message.value is not None
    review = parse_review(message.value)
    expected = (review.id, review.text, review.product, review.source, review.stars)
    assert row[:5] == expected, f"{row}: {message}"
    moment = review.published_at
    if moment is None and (stamp := _timestamp(message)) is not None:
        moment = _EPOCH + timedelta(milliseconds=stamp)
    assert moment is None or row[5] == moment, f"{row}: {message}"
    _check_with_another_reader(message.value, review)


def _check_with_another_reader(raw: bytes, review: ReviewMessage) -> None:
    """Python's own JSON reader, told to refuse NaN, has to read the same review."""
    plain = json.loads(raw.removeprefix(b"\xef\xbb\xbf"), parse_constant=_refuse)
    assert (str(plain["id"]), plain["text"]) == (review.id, review.text), raw
    stars = str(plain.get("stars") or "").strip().replace(",", ".")
    assert (float(stars) if stars else None) == review.stars, raw


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
