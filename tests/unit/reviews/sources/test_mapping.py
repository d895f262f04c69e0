"""A mapping makes of each record a review, a withdrawal, nothing, or an error that says what is wrong."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews.errors import InvalidMessage, Undecodable
from reviews.record_value import CutBytes
from reviews.sources.rules import MappedReview
from reviews.withdrawal import Withdrawal
from tests.unit.reviews.sources.mapped import PLACE, read, read_decoded

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
FOREIGN = {
    "review": {"uuid": "r-1", "v.2": {"body": "It fits."}},
    "title": "Nice",
    "asin": 4711,
    "rating": 7,
    "created": 1769860800000,
    "market": "de",
    "flags": {"verified": True},
    "kind": "review",
}
FIELDS: dict[str, Any] = {
    "id": "review.uuid",
    "text": {"join": ["title", "review.`v.2`.body"]},
    "product": ["sku", "asin"],
    "source": {"constant": "shop"},
    "published_at": {"path": "created", "unit": "millis"},
    "stars": {"path": "rating", "scale": [1, 10]},
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def review(mapped: object) -> MappedReview:
    assert isinstance(mapped, MappedReview)
    return mapped


def refused(source: dict[str, Any], value: Any, **more: Any) -> InvalidMessage:
    with pytest.raises(InvalidMessage) as caught:
        read(source, value, **more)
    return caught.value


def test_every_field_is_read_as_its_source_declares_it() -> None:
    found = review(
        read({"fields": FIELDS, "attributes": {"market": "market", "ok": "flags.verified"}}, FOREIGN)
    )
    message = found.message
    assert (message.id, message.text, message.product, message.source) == (
        "r-1",
        "Nice\n\nIt fits.",
        "4711",
        "shop",
    )
    assert (message.published_at, message.stars) == (NOON, 3.666667)
    assert json.loads(found.attributes or b"") == {"market": "de", "ok": True}


def test_without_fields_they_have_their_own_names() -> None:
    found = review(read({"where": [{"path": "id", "present": True}]}, {"id": 1, "text": "Good.", "stars": 4}))
    assert (found.message.id, found.message.text, found.message.stars) == ("1", "Good.", 4)


def test_with_fields_only_those_are_read() -> None:
    found = review(
        read({"fields": {"id": "id", "text": "text"}}, {"id": 1, "text": "Good.", "stars": 400, "source": {}})
    )
    assert (found.message.stars, found.message.source) == (None, None)


def test_a_review_without_an_id_is_named_after_its_place() -> None:
    assert review(read({"fields": {"text": "text"}}, {"id": 1, "text": "Good."})).message.id == str(PLACE)


def test_an_id_may_be_a_hash_of_fields() -> None:
    source = {"fields": {"id": {"hash": ["user", ["asin", "sku"]]}, "text": "text"}}
    values = [
        {"user": "u", "asin": "a", "text": "Good."},
        {"user": "u", "sku": "a", "text": "Bad."},
        {"user": "v", "text": "."},
    ]
    first, second, other = (review(read(source, value)).message.id for value in values)
    assert first == second != other
    assert first.startswith("sha256:")
    assert refused(source, {"text": "Good."}).reason == "missing_id"


def test_key_headers_and_time_are_parts_of_a_record() -> None:
    source = {
        "fields": {"id": "$key.id", "text": "text", "product": "$headers.sku", "published_at": "$timestamp"},
        "attributes": {"at": "$timestamp", "trace": "$headers.trace", "key": "$key"},
    }
    found = review(
        read(
            source,
            {"text": "Good."},
            key=b'{"id": 7}',
            headers=[("sku", b"A"), ("sku", b"B"), ("trace", None)],
        )
    )
    assert (found.message.id, found.message.product, found.message.published_at) == ("7", "B", NOON)
    assert json.loads(found.attributes or b"") == {"at": "2026-01-31T12:00:00Z", "key": {"id": 7}}


def test_a_key_is_a_text_where_no_field_of_it_is_read() -> None:
    assert (
        review(read({"fields": {"id": "$key", "text": "text"}}, {"text": "Good."}, key=b"{k}")).message.id
        == "{k}"
    )


@pytest.mark.parametrize(
    ("key", "headers", "reason"),
    [
        (b"\xff", (), "not_utf8"),
        (CutBytes(b"k", 5_000_000, "00"), (), "bad_key"),
        (None, (), "missing_id"),
        (b"", (), "bad_id"),
        (b"k", [("sku", b"\xff")], "bad_header"),
        (b"k", [("sku", CutBytes(b"k", 5_000_000, "00"))], "bad_header"),
    ],
)
def test_a_key_or_a_header_that_cannot_be_read_is_refused(key: Any, headers: Any, reason: str) -> None:
    source = {"fields": {"id": "$key", "text": "text", "product": "$headers.sku"}}
    assert refused(source, {"text": "Good."}, key=key, headers=headers).reason == reason


@pytest.mark.parametrize(
    ("where", "value", "is_read"),
    [
        ({"path": "kind", "one_of": ["review", "comment"]}, {"kind": "comment"}, True),
        ({"path": "kind", "one_of": ["review"]}, {"kind": "question"}, False),
        ({"path": "kind", "one_of": ["review"]}, {}, False),
        ({"path": "kind", "one_of": [1]}, {"kind": True}, False),
        ({"path": "kind", "one_of": [True]}, {"kind": True}, True),
        ({"path": "kind", "one_of": ["review"]}, {"kind": ["review"]}, False),
        ({"path": "kind", "none_of": ["question"]}, {"kind": "review"}, True),
        ({"path": "kind", "none_of": ["question"]}, {"kind": "question"}, False),
        ({"path": "kind", "none_of": ["question"]}, {}, True),
        ({"path": "deleted", "present": False}, {}, True),
        ({"path": "deleted", "present": False}, {"deleted": 1}, False),
        ({"path": "a.b", "present": True}, {"a": {"b": 0}}, True),
        ({"path": "$headers.kind", "one_of": ["review"]}, {}, False),
    ],
)
def test_a_condition_decides_which_records_are_read(where: Any, value: dict[str, Any], is_read: bool) -> None:
    mapped = read({"where": [where]}, {"id": 1, "text": "Good.", **value})
    assert (mapped is not None) == is_read


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (b"no json", Undecodable, "not_json"),
        (b"\xff", Undecodable, "not_utf8"),
        (b'{"id": NaN}', Undecodable, "not_json"),
        (b"[]", Undecodable, "not_an_object"),
        (CutBytes(b"{", 5_000_000, "00"), Undecodable, "too_long"),
        (b"{" + b" " * 1_000_000, Undecodable, "too_long"),
        ({}, InvalidMessage, "missing_id"),
        ({"review": {"uuid": "r"}}, InvalidMessage, "missing_text"),
        ({**FOREIGN, "review": {"uuid": 1.5}}, InvalidMessage, "bad_id"),
        ({**FOREIGN, "rating": 70}, InvalidMessage, "bad_stars"),
        ({**FOREIGN, "created": "yesterday"}, InvalidMessage, "bad_published_at"),
        ({**FOREIGN, "title": 5}, InvalidMessage, "bad_text"),
        ({**FOREIGN, "market": "x" * 20_000}, InvalidMessage, "bad_attributes"),
    ],
)
def test_a_broken_record_is_refused_with_a_reason(value: Any, kind: type, reason: str) -> None:
    err = refused({"fields": FIELDS, "attributes": {"market": "market"}}, value)
    assert (type(err), err.reason) == (kind, reason)


def test_a_refusal_names_the_paths_and_never_the_value() -> None:
    err = refused({"fields": FIELDS}, {**FOREIGN, "rating": 4242})
    assert str(err).endswith("Its source reads it from 'rating'.")
    assert "4242" not in str(err)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("operation", ["c", "u", "r"])
def test_a_change_of_debezium_is_the_review_after_it(operation: str, wrapped: bool) -> None:
    row = {"id": 7, "text": "Good.", "stars": 4}
    event = {"before": None, "after": row, "source": {"table": "reviews"}, "op": operation, "ts_ms": 1}
    value = {"schema": {"type": "struct"}, "payload": event} if wrapped else event
    found = review(read({"preset": "debezium"}, value))
    assert (found.message.id, found.message.source) == ("7", None)


@pytest.mark.parametrize(
    ("before", "key"),
    [
        ({"id": 7, "text": "Good."}, None),
        ({"id": 7, "text": None}, b"not even JSON"),
        (None, b'{"id": 7}'),
        (None, b'{"schema": {"type": "struct"}, "payload": {"id": 7}}'),
    ],
)
def test_a_deletion_of_debezium_withdraws_the_review_that_it_names(before: Any, key: bytes | None) -> None:
    value = {"before": before, "after": None, "op": "d", "ts_ms": 1}
    for event in (value, {"schema": {}, "payload": value}):
        assert read({"preset": "debezium"}, event, key=key) == Withdrawal(id="7")


def test_a_deletion_that_lacks_a_field_of_a_hash_withdraws_nothing_else() -> None:
    source = {"preset": "debezium", "fields": {"id": {"hash": ["user", "asin"]}, "text": "text"}}
    row = {"user": "u", "asin": "a", "text": "Good."}
    stored = review(read(source, {"op": "c", "after": row})).message.id
    assert read(source, {"op": "d", "before": row}) == Withdrawal(id=stored)
    assert refused(source, {"op": "d", "before": {"user": "u", "asin": None}}).reason == "missing_id"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"id": 7, "text": "Good."}, "not_a_change"),
        ({"op": "t", "before": None, "after": None}, "unknown_operation"),
        ({"op": ["c"], "after": {}}, "unknown_operation"),
        ({"op": "c", "after": None}, "missing_id"),
        ({"op": "d", "before": None}, "missing_id"),
        ({"op": "d", "before": {"id": 1.5}}, "bad_id"),
    ],
)
def test_what_is_no_change_of_a_row_is_refused(value: Any, reason: str) -> None:
    assert refused({"preset": "debezium"}, value).reason == reason


def test_a_tombstone_does_what_its_source_says() -> None:
    assert refused({"fields": {"id": "id", "text": "text"}}, None).reason == "tombstone"
    assert read({"preset": "debezium"}, None, key=b'{"id": 7}') is None
    assert read({"tombstones": "ignore"}, None) is None
    fields = {"id": ["id", "$key"], "text": "text"}
    withdrawn = read({"tombstones": "withdraw", "fields": fields}, None, key=b"r-1")
    assert withdrawn == Withdrawal(id="r-1", kind="tombstone")
    assert read({"tombstones": "withdraw", "key_format": "json"}, None, key=b'{"id": 7}') == Withdrawal(
        id="7", kind="tombstone"
    )
    assert refused({"tombstones": "withdraw"}, None, key=b"r-1").reason == "missing_id"
    assert refused({"tombstones": "withdraw"}, None).reason == "missing_id"


def test_the_payload_of_kafka_connect_is_read() -> None:
    found = review(read({"preset": "connect-json"}, {"schema": {}, "payload": {"id": "1", "text": "Good."}}))
    assert found.message.text == "Good."
    assert refused({"preset": "connect-json"}, {"id": "1", "text": "Good."}).reason == "missing_id"
    assert refused({"preset": "connect-json"}, {"schema": {}, "payload": None}).reason == "missing_id"


BINARY = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e-1"),
    ("ce_source", b"/shop"),
    ("ce_type", b"review.written"),
    ("ce_time", b"2026-01-31T12:00:00Z"),
    ("content-type", b"application/json"),
]
STRUCTURED = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "review.written",
         "time": "2026-01-31T12:00:00Z", "datacontenttype": "application/json"}  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        {},
        {
            "attributes": {"type": "$headers.ce_type"},
            "where": [{"path": "$headers.ce_type", "one_of": ["review.written"]}],
        },
    ],
)
def test_both_modes_of_cloudevents_say_the_same(source: dict[str, Any]) -> None:
    data = {"id": "1", "text": "Good."}
    preset = {"preset": "cloudevents", **source}
    found = [read(preset, data, headers=BINARY), read(preset, {**EVENT, "data": data}, headers=STRUCTURED)]
    assert found[0] == found[1]
    message = review(found[0]).message
    assert (message.id, message.source, message.published_at) == ("1", "/shop", NOON)


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        ({"id": "1", "text": "Good."}, (), "not_an_event"),
        (b"[]", [("content-type", b"application/cloudevents-batch+json")], "unknown_event_format"),
        (b"\x00", [("content-type", b"application/cloudevents+avro")], "unknown_event_format"),
        ({**EVENT, "data_base64": "AAEC"}, STRUCTURED, "binary_data"),
        (EVENT, STRUCTURED, "missing_id"),
        (b"no json", STRUCTURED, "not_json"),
        (b"no json", BINARY, "not_json"),
    ],
)
def test_what_is_no_readable_event_is_refused(value: Any, headers: Any, reason: str) -> None:
    assert refused({"preset": "cloudevents"}, value, headers=headers).reason == reason


def test_a_value_may_be_the_text() -> None:
    found = review(read({"preset": "text", "fields": {"id": "$key"}}, "Gut 👍".encode(), key=b"7"))
    assert (found.message.id, found.message.text) == ("7", "Gut 👍")
    assert review(read({"preset": "text"}, b"Good.")).message.id == str(PLACE)
    assert refused({"preset": "text"}, b"\xff").reason == "not_utf8"
    assert refused({"preset": "text"}, b" ").reason == "bad_text"


def test_a_json_value_without_fields_can_be_read_whole() -> None:
    source = {"fields": {"text": "$value"}}
    assert review(read(source, b'"Good."')).message.text == "Good."
    assert refused(source, b'{"text": "Good."}').reason == "bad_text"


def test_values_of_a_binary_format_are_read_like_json() -> None:
    row = {
        "id": UUID(int=1),
        "text": b"Good.",
        "at": NOON,
        "rating": Decimal("7.0"),
        "sku": Decimal(12),
        "price": Decimal("9.99"),
    }
    fields = {
        "id": "id",
        "text": "text",
        "product": "sku",
        "published_at": "at",
        "stars": {"path": "rating", "scale": [1, 10]},
    }
    found = review(read_decoded({"fields": fields, "attributes": {"price": "price"}}, row))
    assert (found.message.id, found.message.product) == (str(UUID(int=1)), "12")
    assert (found.message.published_at, found.message.stars) == (NOON, 3.666667)
    assert json.loads(found.attributes or b"") == {"price": "9.99"}
    assert read_decoded({"preset": "debezium"}, {"op": "d", "before": None}, b'{"id": 7}') == Withdrawal(
        id="7"
    )


@pytest.mark.parametrize("value", [None, 5, "text", [], b"bytes"])
def test_a_decoded_value_without_fields_is_refused(value: object) -> None:
    with pytest.raises(InvalidMessage) as caught:
        read_decoded({}, value)
    assert caught.value.reason == "not_an_object"


@given(
    JSON_VALUES,
    st.binary(max_size=20) | st.none(),
    st.sampled_from(["plain", "debezium", "connect-json", "cloudevents"]),
    st.sampled_from([(), STRUCTURED, BINARY]),
)
def test_any_json_is_read_left_out_or_refused(
    value: Any, key: bytes | None, preset: str, headers: Any
) -> None:
    source = {"preset": preset, "tombstones": "withdraw", "attributes": {"a": "a", "k": "$value.b"}}
    try:
        mapped = read(source, json.dumps(value).encode(), key=key, headers=headers)
    except InvalidMessage:
        return
    assert mapped is None or isinstance(mapped, MappedReview | Withdrawal)


@given(st.binary(max_size=60), st.sampled_from(["plain", "debezium", "connect-json", "cloudevents", "text"]))
def test_any_bytes_are_read_left_out_or_refused(value: bytes, preset: str) -> None:
    try:
        read({"preset": preset, "fields": {"id": "$key", "text": "$value"}}, value, key=b"k", headers=BINARY)
    except InvalidMessage:
        return
