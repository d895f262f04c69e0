"""The message format of sinks: the pydantic model and the committed Avro schema say the same."""

import json
from datetime import UTC, datetime
from typing import Any

from reviews.scored_row import SCHEMA_VERSION, ScoredRow, avro_schema, to_json

_AVRO_OF_JSON = {
    ("integer", None): {"int", "long"},
    ("number", None): {"double"},
    ("string", None): {"string"},
    ("string", "date-time"): {"timestamp-micros"},
    ("boolean", None): {"boolean"},
    ("object", None): {"map", "string"},  # attributes, which have any fields, are a string of JSON
}
ROW = ScoredRow(
    change="scored", event_id="7/a", as_of=datetime(2026, 1, 1, tzinfo=UTC), record=7, review_id="r ✓",
    text='line\n"quoted" \u2028 ✓', probabilities={"bad": 0.25, "good": 0.75}, stars=4.5,
    published_at=datetime(2026, 1, 1, 12, 30, 0, 250_000, tzinfo=UTC),
    kafka_topic="reviews", kafka_partition=0, kafka_offset=7,
)  # fmt: skip


def _without_null(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    options = schema.get("anyOf", [schema])
    (given,) = [option for option in options if option.get("type") != "null"]
    return given, len(options) == 2


def _avro_kind(type_: Any) -> str:
    if isinstance(type_, dict):
        return str(type_.get("logicalType") or type_["type"])
    return str(type_)


def test_the_avro_schema_has_the_fields_of_the_model_in_their_order_with_their_types_and_defaults():
    fields = {field["name"]: field for field in json.loads(avro_schema())["fields"]}
    described = ScoredRow.model_json_schema()
    assert list(fields) == list(ScoredRow.model_fields)
    for name, schema in described["properties"].items():
        given, may_be_null = _without_null(schema)
        avro = fields[name]["type"]
        assert isinstance(avro, list) is may_be_null, name
        kind = _avro_kind(avro[1] if may_be_null else avro)
        assert kind in _AVRO_OF_JSON[given["type"], given.get("format")], name
        assert ("default" in fields[name]) is (name not in described["required"]), name
        if "default" in fields[name]:
            assert fields[name]["default"] == ScoredRow.model_fields[name].default, name


def test_every_field_of_a_message_says_what_it_is():
    assert all(field.description for field in ScoredRow.model_fields.values())


def test_a_reader_of_today_ignores_the_fields_of_tomorrow():
    later = json.dumps({**json.loads(to_json(ROW)), "added_later": [1]})
    assert ScoredRow.model_validate_json(later) == ROW


def test_json_holds_unicode_as_it_is_and_times_in_utc():
    written = to_json(ROW)
    assert "✓".encode() in written
    assert json.loads(written)["published_at"] == "2026-01-01T12:30:00.250000Z"
    assert json.loads(written)["schema_version"] == SCHEMA_VERSION


def test_a_row_without_its_text_says_so_and_is_the_same_otherwise():
    cut = ROW.without_text()
    assert (cut.text, cut.text_left_out) == (None, True)
    assert cut.model_copy(update={"text": ROW.text, "text_left_out": False}) == ROW
