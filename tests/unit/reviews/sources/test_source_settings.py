"""Settings of sources: what contradicts itself is refused in words, and each topic has one mapping."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from reviews.sources.settings import MAX_ATTRIBUTES, Sources, SourceSettings, source_of

SOURCES = TypeAdapter[tuple[SourceSettings, ...]](Sources)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "exactly one of topic, pattern"),
        ({"topic": "a", "pattern": "a.*"}, "exactly one of topic, pattern"),
        ({"topic": "a b"}, "name of one topic"),
        ({"topic": ".."}, "name of one topic"),
        ({"pattern": "("}, "regular expression"),
        ({"pattern": r"(a)\1"}, "references"),
        ({"topic": "a", "fields": {"id": "id"}}, "text is missing"),
        ({"topic": "a", "fields": {"text": "a..b"}}, "empty name"),
        ({"topic": "a", "fields": {"text": []}}, "at least 1"),
        ({"topic": "a", "fields": {"text": {"path": "a", "join": ["b"]}}}, "exactly one of path, join"),
        ({"topic": "a", "fields": {"text": {}}}, "exactly one of path, join"),
        ({"topic": "a", "fields": {"text": "t", "product": {"hash": ["a"]}}}, "Extra inputs"),
        ({"topic": "a", "fields": {"text": "t", "stars": {"path": "s", "scale": [5, 5]}}}, "which differ"),
        ({"topic": "a", "fields": {"text": "t", "published_at": {"path": "p", "unit": "days"}}}, "iso8601"),
        ({"topic": "a", "attributes": {"a b": "x"}}, "no name"),
        ({"topic": "a", "attributes": {f"a{n}": "x" for n in range(MAX_ATTRIBUTES + 1)}}, "at most 32"),
        ({"topic": "a", "attributes": {f"a{n}": ["x", "y", "z"] for n in range(30)}}, "90 paths; at most 64"),
        ({"topic": "a", "where": [{"path": "a"}]}, "exactly one of one_of"),
        ({"topic": "a", "preset": "text", "format": "json"}, "go together"),
        ({"topic": "a", "format": "text"}, "go together"),
        ({"topic": "a", "preset": "text", "fields": {"id": "id"}}, "no fields"),
        ({"topic": "a", "preset": "connect-json", "format": "avro"}, "no such wrapping"),
        ({"topic": "a", "preset": "debezium", "fields": {"text": "t"}}, "id is missing"),
        ({"topic": "a", "tombstones": "withdraw", "fields": {"text": "t"}}, "id is missing"),
    ],
)
def test_what_contradicts_itself_is_refused_in_words(source: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SourceSettings.model_validate(source)


def test_a_topic_has_one_entry() -> None:
    with pytest.raises(ValidationError, match="two entries"):
        SOURCES.validate_python([{"topic": "a"}, {"topic": "a", "preset": "text"}])


def test_a_named_topic_goes_before_patterns_and_these_by_their_order() -> None:
    sources = SOURCES.validate_python(
        [{"pattern": "shop.*"}, {"pattern": ".*reviews"}, {"topic": "shop.reviews"}]
    )
    found = {
        topic: source_of(sources, topic)
        for topic in ("shop.reviews", "shop.other", "my.reviews", "my.reviews2")
    }
    assert [source and source.name for source in found.values()] == [
        "shop.reviews",
        "/shop.*/",
        "/.*reviews/",
        None,
    ]


@pytest.mark.parametrize(
    ("source", "is_plain"),
    [
        ({}, True),
        ({"tasks": ["sentiment"]}, True),
        ({"tombstones": "refuse"}, True),
        ({"tombstones": "ignore"}, False),
        ({"attributes": {"a": "a"}}, False),
        ({"format": "avro"}, False),
        ({"preset": "text"}, False),
        ({"where": [{"path": "a", "present": True}]}, False),
    ],
)
def test_only_what_declares_nothing_is_plain(source: dict[str, Any], is_plain: bool) -> None:
    assert SourceSettings.model_validate({"topic": "t", **source}).is_plain == is_plain


@pytest.mark.parametrize(
    ("source", "format_"),
    [
        ({}, "text"),
        ({"fields": {"id": "$key", "text": "t"}}, "text"),
        ({"fields": {"id": "$key.id", "text": "t"}}, "json"),
        ({"fields": {"id": "$key.id", "text": "t"}, "format": "avro"}, "avro"),
        ({"fields": {"id": "$key.id"}, "preset": "text"}, "json"),
        ({"preset": "debezium", "format": "avro"}, "avro"),
        ({"preset": "debezium", "format": "avro", "key_format": "json"}, "json"),
    ],
)
def test_keys_are_written_like_values_where_their_fields_are_read(
    source: dict[str, Any], format_: str
) -> None:
    assert SourceSettings.model_validate({"topic": "t", **source}).keys_format == format_
