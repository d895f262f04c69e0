"""Foreign topics in every format, from Confluent's serialisers to rows and dead letters."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.message_factory import GetMessageClass

from broker.formats.proto_files import compile_schemas
from broker.formats.settings import RegistrySettings
from consumer.parsing import ReviewParser
from reviewloop.settings import Settings
from reviewloop.wiring.sources import open_mappings
from tests.integration.in_process import InProcess, Stream

OFF = {"window_messages": 1000, "max_invalid_share": 1, "max_invalid_run": 0}
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
FIELDS = {"id": "id", "text": "body", "stars": "rating", "published_at": "at"}
REVIEW = {
    "type": "record",
    "name": "Review",
    "namespace": "com.shop",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "body", "type": ["null", "string"]},
        {"name": "rating", "type": "int"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    ],
}
PROTO = """
syntax = "proto3";
package com.shop;
import "google/protobuf/timestamp.proto";
message Review {
  string id = 1; string body = 2; int32 rating = 3; google.protobuf.Timestamp at = 4; map<string, string> more = 5;
}
"""  # noqa: E501  a line of a schema


@pytest.fixture
def client(schema_registry: str) -> Iterator[SchemaRegistryClient]:
    """Confluent's own client."""
    with SchemaRegistryClient({"url": schema_registry}) as opened:
        yield opened


def _consume(made: InProcess, url: str | None, **source: Any) -> None:
    """Read all of the topic with the parts that a worker is wired with."""
    settings = Settings(
        sources=({"topic": made.topic, **source},),  # type: ignore[arg-type]  # as a file gives it
        registry=RegistrySettings(url=url),
    )
    made.consume(parts={"parse": ReviewParser(open_mappings(settings))}, breaker=OFF)


def _rows(made: InProcess, columns: str = "review_id, text") -> list[tuple[Any, ...]]:
    return made.sql(f"SELECT {columns} FROM scored_reviews ORDER BY review_id")


def _letters(made: InProcess) -> list[tuple[Any, ...]]:
    return made.sql("SELECT kafka_offset, stage, error FROM dead_letters ORDER BY kafka_offset")


def _context(made: InProcess, part: str = MessageField.VALUE) -> SerializationContext:
    return SerializationContext(made.topic, part)


def _review(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"r{number}", "body": "Good.", "rating": 5, "at": NOON, "price": Decimal("1.50"), **changes}


def _bare(schema: Any, value: Any) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def test_avro_becomes_rows_and_what_is_broken_a_dead_letter(
    stream: Stream, client: SchemaRegistryClient, schema_registry: str
) -> None:
    made = stream()
    write = AvroSerializer(client, json.dumps(REVIEW))
    whole = write(_review(1), _context(made))
    made.publish(
        [
            whole,
            whole[:-3],
            whole + b"x",
            b"\x00\x7f\xff\xff\xff" + whole[5:],
            b'{"id": "r9", "body": "JSON."}',
            b"",
            write(_review(2, body=None), _context(made)),
            write(_review(3), _context(made)),
        ]
    )

    _consume(made, schema_registry, format="avro", fields=FIELDS, attributes={"price": "price"})

    assert _rows(made, "review_id, text, stars, published_at, attributes") == [
        ("r1", "Good.", 5, NOON, {"price": "1.50"}),
        ("r3", "Good.", 5, NOON, {"price": "1.50"}),
    ]
    assert _letters(made) == [
        (1, "decode", "bad_avro"),
        (2, "decode", "bad_avro"),
        (3, "decode", "unknown_schema"),
        (4, "decode", "not_framed"),
        (5, "decode", "not_framed"),
        (6, "map", "missing_text"),
    ]
    assert made.sql("SELECT next_offset FROM stream_partition") == [(8,)]


def test_a_schema_that_changes_in_mid_stream_is_followed(
    stream: Stream, client: SchemaRegistryClient, schema_registry: str, tmp_path: Path
) -> None:
    made = stream()
    fields = REVIEW["fields"]
    added = {**REVIEW, "fields": [*fields, {"name": "lang", "type": "string", "default": "en"}]}
    removed = {**REVIEW, "fields": [field for field in fields if field["name"] not in {"rating", "price"}]}
    renamed = {
        **removed,
        "fields": [*removed["fields"][:1], {"name": "text", "type": "string"}, removed["fields"][2]],
    }
    client.set_compatibility(f"{made.topic}-value", "NONE")
    values = [
        AvroSerializer(client, json.dumps(schema))(value, _context(made))
        for schema, value in (
            (REVIEW, _review(1)),
            (added, _review(2, lang="de")),
            (removed, _review(3)),
            (renamed, {"id": "r4", "text": "Renamed.", "at": NOON}),
            (REVIEW, _review(5)),
        )
    ]
    made.publish(values)
    wanted = {
        **REVIEW,
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "body", "type": ["null", "string"], "aliases": ["text"]},
            {"name": "rating", "type": ["null", "int"], "default": None},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "lang", "type": "string", "default": "none"},
        ],
    }
    (tmp_path / "reader.avsc").write_text(json.dumps(wanted))

    _consume(
        made,
        schema_registry,
        format="avro",
        fields=FIELDS,
        attributes={"lang": "lang"},
        reader_schema_file=str(tmp_path / "reader.avsc"),
    )

    assert _letters(made) == []
    assert _rows(made, "review_id, text, stars, attributes->>'lang'") == [
        ("r1", "Good.", 5, "none"),
        ("r2", "Good.", 5, "de"),
        ("r3", "Good.", None, "none"),
        ("r4", "Renamed.", None, "none"),
        ("r5", "Good.", 5, "none"),
    ]


def test_protobuf_becomes_rows_and_what_is_broken_a_dead_letter(
    stream: Stream, client: SchemaRegistryClient, schema_registry: str
) -> None:
    made = stream()
    review = GetMessageClass(compile_schemas(PROTO, {}).message_types_by_name["Review"])
    write = ProtobufSerializer(review, client, {"skip.known.types": True})
    message = review(id="r1", body="Gut 👍", rating=4, more={"market": "de"})
    message.at.FromDatetime(NOON)
    whole = write(message, _context(made))
    made.publish(
        [whole, whole[:-3], whole[:5] + b"\x02\x12" + whole[6:], write(review(id="r2"), _context(made))]
    )

    _consume(
        made,
        schema_registry,
        format="protobuf",
        fields=FIELDS,
        attributes={"market": "more.market"},
    )

    assert _rows(made, "review_id, text, stars, published_at, attributes") == [
        ("r1", "Gut 👍", 4, NOON, {"market": "de"})
    ]
    assert _letters(made) == [
        (1, "decode", "bad_protobuf"),
        (2, "decode", "bad_frame"),
        (3, "map", "bad_text"),
    ]


def test_json_behind_a_frame_becomes_rows(
    stream: Stream, client: SchemaRegistryClient, schema_registry: str
) -> None:
    made = stream()
    schema = '{"type": "object", "title": "Review", "properties": {"id": {"type": "string"}}}'
    write = JSONSerializer(schema, client)
    whole = write({"id": "r1", "body": "Good.", "rating": 5}, _context(made))
    made.publish([whole, whole[5:], whole[:-2]])

    _consume(made, schema_registry, format="json-schema", fields=FIELDS)

    assert _rows(made) == [("r1", "Good.")]
    assert _letters(made) == [(1, "decode", "not_framed"), (2, "decode", "not_json")]


def test_changes_of_debezium_in_avro_become_rows_and_withdrawals(
    stream: Stream, client: SchemaRegistryClient, schema_registry: str
) -> None:
    made = stream()
    row = {
        "type": "record",
        "name": "Value",
        "fields": [{"name": "id", "type": "long"}, {"name": "body", "type": ["null", "string"]}],
    }
    envelope = {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "before", "type": ["null", row]},
            {"name": "after", "type": ["null", "Value"]},
            {"name": "op", "type": "string"},
            {"name": "ts_ms", "type": ["null", "long"]},
        ],
    }
    key = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}
    write = AvroSerializer(client, json.dumps(envelope))
    name = AvroSerializer(client, json.dumps(key))

    def change(operation: str, before: Any, after: Any, number: int, at: int) -> None:
        event = {"before": before, "after": after, "op": operation, "ts_ms": at}
        made.publish(
            [write(event, _context(made))],
            key=name({"id": number}, _context(made, MessageField.KEY)),
            timestamp_ms=at,
        )

    change("c", None, {"id": 1, "body": "Good."}, 1, 1_000_000)
    change("r", None, {"id": 2, "body": "Fine."}, 2, 1_000_001)
    change("d", {"id": 1, "body": None}, None, 1, 1_000_002)

    _consume(made, schema_registry, format="avro", preset="debezium", fields={"id": "id", "text": "body"})

    assert _letters(made) == []
    assert _rows(made) == [("2", "Fine.")]
    assert made.sql("SELECT review_id, kind FROM withdrawal") == [("1", "delete")]


def test_cloudevents_in_avro_keep_their_headers(
    stream: Stream, client: SchemaRegistryClient, schema_registry: str
) -> None:
    made = stream()
    write = AvroSerializer(client, json.dumps(REVIEW))
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"e1"),
        ("ce_type", b"review"),
        ("ce_source", b"/shop"),
        ("content-type", b"application/avro"),
    ]
    made.publish([write(_review(1), _context(made))], headers=headers)

    _consume(
        made,
        schema_registry,
        format="avro",
        preset="cloudevents",
        fields={**FIELDS, "source": "$headers.ce_source"},
    )

    assert _letters(made) == []
    assert _rows(made, "review_id, source") == [("r1", "/shop")]


def test_records_without_a_frame_are_read_by_schema_files(stream: Stream, tmp_path: Path) -> None:
    (tmp_path / "review.avsc").write_text(json.dumps(REVIEW))
    (tmp_path / "review.proto").write_text(PROTO)
    avro, protobuf = stream(), stream()
    review = GetMessageClass(compile_schemas(PROTO, {}).message_types_by_name["Review"])
    avro.publish([_bare(REVIEW, _review(1)), b"\x02"])
    protobuf.publish([review(id="r2", body="Fine.", rating=5).SerializeToString(), b"\xff"])

    _consume(avro, None, format="avro", fields=FIELDS, schema_file=str(tmp_path / "review.avsc"))
    _consume(protobuf, None, format="protobuf", fields=FIELDS, schema_file=str(tmp_path / "review.proto"))

    # One database for both topics.
    assert _rows(avro) == [("r1", "Good."), ("r2", "Fine.")]
    assert sorted(_letters(avro)) == [(1, "decode", "bad_avro"), (1, "decode", "bad_protobuf")]
