"""The direct way to a review makes the same of a record as the rules of its source, or leaves it to them."""

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews.errors import InvalidMessage
from reviews.fields import is_visible
from reviews.message import ReviewMessage
from reviews.sources.direct import SEEN
from reviews.sources.mapping import SourceMapping
from reviews.sources.rules import MappedReview
from reviews.sources.settings import SourceSettings
from tests.unit.reviews.sources.mapped import LIMIT, PLACE, Raw

FIELDS: dict[str, Any] = {
    "id": "review.uuid",
    "text": "review.body",
    "product": "item",
    "source": "channel",
    "published_at": {"path": "created", "unit": "millis"},
    "stars": {"path": "rating", "scale": [1, 10]},
}
SOURCES: list[dict[str, Any]] = [
    {"fields": FIELDS},
    {"fields": {**FIELDS, "published_at": "created", "stars": "rating"}},
    {"fields": {**FIELDS, "published_at": {"path": "created", "unit": "iso8601"}, "stars": "review.stars"}},
    {"fields": {"id": "review.uuid", "text": "review.body", "source": {"constant": "shop"}}},
    {"fields": {"id": "item", "text": "channel", "published_at": "created", "stars": "rating"}},
]
FOREIGN = {"review": {"uuid": "r-1", "body": "It fits."}, "item": 4711, "rating": 7, "created": 1769860800000}
TEXTS = st.text(max_size=4) | st.sampled_from(
    ["7", "4,5", "2026-01-31T12:00:00Z", " ", "\u3164", "a\x00", "x" * 300, "Ж", "\u0378", "2026-01-31"]
)
JSON_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([1, 7, 10, 1769860800000, 4.5, 1e300, 10**30])
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | st.lists(st.integers(), max_size=1)
)
DECODED_LEAVES = (
    JSON_LEAVES
    | st.binary(max_size=3)
    | st.uuids()
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
)


def records(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    review = st.fixed_dictionaries({}, optional={"uuid": leaves, "body": leaves, "stars": leaves})
    return st.fixed_dictionaries(
        {},
        optional={
            "review": review | leaves, "item": leaves, "channel": leaves, "created": leaves, "rating": leaves,
            "source": leaves, "product": leaves, "stars": leaves,
        },
    ) | leaves  # fmt: skip


def both_ways(mapping: SourceMapping, value: bytes) -> tuple[ReviewMessage | None, ReviewMessage | None]:
    """What the direct way makes of a record, and what the rules make of it; None for a refusal."""
    record = Raw(value)
    try:
        mapped = mapping.read(record, -1, PLACE)
    except InvalidMessage:
        return mapping.direct(record), None
    assert isinstance(mapped, MappedReview)
    return mapping.direct(record), mapped.message


def _mapping(source: dict[str, Any]) -> SourceMapping:
    return SourceMapping(SourceSettings.model_validate({"topic": "t", **source}), LIMIT)


def _decoding(source: dict[str, Any], value: object) -> SourceMapping:
    settings = SourceSettings.model_validate({"topic": "t", "format": "avro", **source})
    return SourceMapping(settings, LIMIT, lambda _raw, _headers: value, lambda raw, _headers: raw)


def _same(direct: ReviewMessage, by_rules: ReviewMessage | None) -> bool:
    return repr(direct) == repr(by_rules)  # 4 and 4.0 are equal, and written otherwise


@given(st.sampled_from(SOURCES), records(JSON_LEAVES), st.booleans())
def test_both_ways_make_the_same_of_json(source: dict[str, Any], value: Any, wrapped: bool) -> None:
    mapping = _mapping({**source, "preset": "connect-json"} if wrapped else source)
    written = json.dumps({"payload": value} if wrapped else value).encode()
    direct, by_rules = both_ways(mapping, written)
    assert (direct is None) == (by_rules is None)
    assert direct is None or _same(direct, by_rules)


@given(st.sampled_from(SOURCES), records(DECODED_LEAVES))
def test_both_ways_make_the_same_of_decoded_values(source: dict[str, Any], value: Any) -> None:
    direct, by_rules = both_ways(_decoding(source, value), b"\x00")
    assert (direct is None) == (by_rules is None)
    assert direct is None or _same(direct, by_rules)


@given(st.binary(max_size=60))
def test_the_direct_way_takes_no_bytes_that_the_rules_refuse(value: bytes) -> None:
    direct, by_rules = both_ways(_mapping(SOURCES[0]), value)
    assert direct is None or _same(direct, by_rules)


@pytest.mark.parametrize("value", [None, b"[]", b"\xef\xbb\xbf{}", b'{"a": NaN}', b" " * (LIMIT + 1)])
def test_what_is_no_review_is_left_to_the_rules(value: bytes | None) -> None:
    assert _mapping(SOURCES[0]).direct(Raw(value)) is None


def test_the_direct_way_reads_what_a_source_declares() -> None:
    found = _mapping(SOURCES[0]).direct(Raw(json.dumps(FOREIGN).encode()))
    assert found is not None
    assert (found.id, found.text, found.product, found.source) == ("r-1", "It fits.", "4711", None)
    assert (found.published_at, found.stars) == (datetime(2026, 1, 31, 12, tzinfo=UTC), 3.666667)
    constant = _mapping(SOURCES[3]).direct(Raw(json.dumps({**FOREIGN, "source": "x", "stars": 3}).encode()))
    assert constant is not None
    assert (constant.source, constant.stars) == ("shop", None)


def test_values_of_binary_formats_are_read_directly() -> None:
    row = {
        "review": {"uuid": UUID(int=1), "body": b"Good."},
        "item": Decimal(12),
        "created": date(2026, 1, 31),
        "rating": Decimal("4.50"),
    }
    found = _decoding(SOURCES[1], row).direct(Raw(b"\x00"))
    assert found is not None
    assert (found.id, found.text, found.product, found.stars) == (str(UUID(int=1)), "Good.", "12", 4.5)
    assert found.published_at == datetime(2026, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    "source",
    [
        {"preset": "debezium"},
        {"preset": "cloudevents"},
        {"preset": "text"},
        {"fields": {"text": "text"}},
        {"fields": {"id": ["a", "b"], "text": "text"}},
        {"fields": {"id": {"hash": ["a"]}, "text": "text"}},
        {"fields": {"id": "id", "text": {"join": ["a", "b"]}}},
        {"fields": {"id": "$key", "text": "text"}},
        {"fields": {"id": "id", "text": "text", "source": {"constant": "x" * 600}}},
        {"attributes": {"a": "a"}},
        {"where": [{"path": "id", "present": True}]},
    ],
)
def test_a_source_that_declares_more_is_read_by_its_rules(source: dict[str, Any]) -> None:
    value = json.dumps({"id": "1", "text": "Good.", "op": "c", "a": "1", "b": "2"}).encode()
    assert _mapping(source).direct(Raw(value, b"k")) is None


def test_every_character_that_is_taken_as_visible_is() -> None:
    seen = re.compile(f"[{SEEN}]")
    assert all(is_visible(chr(code)) for code in range(0x11_0000) if seen.match(chr(code)))
