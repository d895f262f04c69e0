"""What holds of the parser whatever it is given."""

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz.mutations import messages
from reviews.dead_letter import StoredLetter, connect_headers, read_replay, replay_headers
from reviews.errors import InvalidMessage
from reviews.fields import MAX_ID_CHARACTERS, MAX_NAME_CHARACTERS
from reviews.message import ReviewMessage, parse_review
from reviews.record_id import MAX_OFFSET
from tests.unit.reviews.bad_input import ACCEPTED, REFUSED

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = st.sampled_from(["id", "text", "product", "source", "published_at", "stars", "other"])
_OBJECTS = st.dictionaries(_FIELDS, _JSON | st.datetimes().map(str), max_size=7)
_RAW = st.one_of(
    st.binary(max_size=200),
    _OBJECTS.map(lambda value: json.dumps(value).encode()),
    _OBJECTS.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.integers(0, 2**32).map(lambda seed: next(messages(seed, 1)).value or b""),
    st.sampled_from([raw for raw, _ in [*REFUSED.values(), *ACCEPTED.values()] if raw and len(raw) < 1000]),
)


def _is_storable(value: str | None) -> bool:
    """Whether PostgreSQL takes it: it does not know NUL, and half a surrogate pair is not UTF-8."""
    return value is None or ("\x00" not in value and value == value.encode("utf-8").decode("utf-8"))


def _check_storable(review: ReviewMessage) -> None:
    assert all(map(_is_storable, (review.id, review.text, review.product, review.source)))
    assert 0 < len(review.id) <= MAX_ID_CHARACTERS
    assert len(review.product or "") <= MAX_NAME_CHARACTERS
    assert len(review.source or "") <= MAX_NAME_CHARACTERS
    assert review.text.strip()
    assert review.stars is None or 1 <= review.stars <= 5
    assert review.published_at is None or review.published_at.utcoffset() == timedelta(0)


def _check_refusal(err: InvalidMessage) -> None:
    assert re.fullmatch(r"[a-z0-9_]{3,40}", err.reason)
    assert _is_storable(str(err))
    assert len(str(err)) < 300


def _refuse_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@settings(max_examples=500, deadline=None)
@given(_RAW)
@example(b"\xef\xbb\xbf")
@example(b'{"id": "1", "text": "\\ud800"}')
def test_the_parser_refuses_with_a_reason_or_returns_what_can_be_stored_and_nothing_else(raw: bytes) -> None:
    try:
        review = parse_review(raw)
    except InvalidMessage as err:
        _check_refusal(err)
        return
    _check_storable(review)
    plain = json.loads(raw.removeprefix(b"\xef\xbb\xbf"), parse_constant=_refuse_constant)
    assert (str(plain["id"]), plain["text"]) == (review.id, review.text)


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200),
    st.none() | st.integers(1, 5),
    st.none() | st.datetimes(timezones=st.just(UTC)),
    st.booleans(),
)
def test_every_storable_text_with_something_to_see_comes_through_unchanged(
    text: str, stars: int | None, moment: datetime | None, escaped: bool
) -> None:
    fields: dict[str, Any] = {"id": "1", "text": f"x{text}", "stars": stars}
    fields["published_at"] = moment and moment.isoformat()
    review = parse_review(json.dumps(fields, ensure_ascii=escaped).encode())
    assert (review.text, review.stars, review.published_at) == (f"x{text}", stars, moment)


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=True, allow_infinity=True) | st.integers(), st.integers(0, 5))
def test_a_number_that_nobody_reads_matters_only_where_it_is_no_json(number: float, depth: int) -> None:
    value: Any = number
    for _ in range(depth):
        value = [value]
    raw = json.dumps({"id": "1", "text": "x", "other": value}).encode()
    if math.isfinite(number):
        assert parse_review(raw).id == "1"
        return
    with pytest.raises(InvalidMessage) as refused:
        parse_review(raw)
    assert refused.value.reason == "not_json"


_HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["reviewloop.dead_letter", "reviewloop.timestamp", "x"]),
        st.none() | st.binary(max_size=40) | st.from_regex(rb"[a-z0-9-]{0,70}:[0-9]{0,14}:[0-9]{0,14}"),
    ),
    max_size=4,
)


@settings(max_examples=500, deadline=None)
@given(_HEADERS)
def test_headers_of_anybody_name_a_possible_record_or_none(headers: list[tuple[str, bytes | None]]) -> None:
    replay = read_replay(headers)
    if replay is not None:
        assert _is_storable(replay.topic_id)
        assert 0 <= replay.partition < 2**31
        assert 0 <= replay.offset <= MAX_OFFSET
        assert replay.timestamp_ms is None or 0 <= replay.timestamp_ms < 253_402_300_800_000


@given(st.integers(0, 2**31 - 1), st.integers(0, MAX_OFFSET), st.none() | st.integers(-(2**63), 2**63 - 1))
def test_what_a_replay_says_is_read_back(partition: int, offset: int, timestamp_ms: int | None) -> None:
    received_at = datetime(2026, 1, 1, tzinfo=UTC)
    letter = StoredLetter(
        7, "reviews", "topic-id", partition, offset, "parse", "not_json", "No.", b"", None, "waiting",
        timestamp_ms, received_at,
    )  # fmt: skip
    replay = read_replay(replay_headers(letter))
    assert replay is not None
    assert replay[:3] == ("topic-id", partition, offset)
    is_time = timestamp_ms is not None and 0 <= timestamp_ms < 253_402_300_800_000
    assert replay.timestamp_ms == (timestamp_ms if is_time else int(received_at.timestamp() * 1000))
    again = read_replay(replay_headers(letter._replace(offset=0, origin=replay)))
    assert again is not None
    assert again[:3] == replay[:3]
    assert dict(connect_headers(letter))["__connect.errors.offset"] == str(offset).encode()
