"""Schemas of every kind, and valid records of them, to be broken."""

import random
import string
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

_REVIEW = {
    "type": "record",
    "name": "Review",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "text", "type": ["null", "string"]},
        {"name": "rating", "type": "int"},
        {"name": "weight", "type": "double"},
        {"name": "share", "type": "float"},
        {"name": "seen", "type": "boolean"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "micros", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "hour", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 4}},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "APP"]}},
    ],
}
_FLAT = {**_REVIEW, "name": "Flat", "fields": [*_REVIEW["fields"][:9], *_REVIEW["fields"][12:]]}
_NESTED = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "numbers", "type": {"type": "array", "items": {"type": "array", "items": "long"}}},
        {
            "name": "more",
            "type": {"type": "map", "values": ["null", "long", {"type": "array", "items": "null"}]},
        },
        {"name": "nothings", "type": {"type": "array", "items": "null"}},
        {
            "name": "lines",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Line",
                    "fields": [{"name": f"f{number}", "type": ["null", "int"]} for number in range(20)],
                },
            },
        },
    ],
}
_TREE = {
    "type": "record",
    "name": "Comment",
    "fields": [
        {"name": "text", "type": "string"},
        {"name": "parent", "type": ["null", "Comment"]},
        {"name": "replies", "type": {"type": "array", "items": "Comment"}},
    ],
}
AVRO: tuple[Any, ...] = (
    _FLAT,
    _REVIEW,
    _NESTED,
    _TREE,
    {"type": "map", "values": "bytes"},
    ["null", "string", "double"],
)

PROTO = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/wrappers.proto";

message Review {
  string id = 1;
  optional string text = 2;
  int64 rating = 3;
  sint32 change = 4;
  double weight = 5;
  fixed32 digest = 6;
  bytes raw = 7;
  bool seen = 8;
  enum Channel { UNKNOWN = 0; WEB = 1; APP = 2; }
  Channel channel = 9;
  google.protobuf.Timestamp at = 10;
  google.protobuf.StringValue title = 11;
}

message Comment {
  string text = 1;
  Comment parent = 2;
  repeated Comment replies = 3;
  repeated int32 numbers = 4;
  repeated string tags = 5;
  map<string, Review> reviews = 6;
  google.protobuf.Struct more = 7;
  google.protobuf.Value any = 8;
}
"""


def avro_value(draw: random.Random, schema: Any, depth: int = 0) -> Any:
    """A valid value of a schema."""
    if isinstance(schema, list):
        branch = schema[0] if depth > 3 else draw.choice(schema)
        return avro_value(draw, branch, depth)
    kind = schema if isinstance(schema, str) else schema["type"]
    logical = schema.get("logicalType") if isinstance(schema, dict) else None
    if logical is not None:
        return _logical(draw, logical)
    if kind == "Comment":
        return avro_value(draw, _TREE, depth + 1)
    return _complex(draw, schema, kind, depth)


def _complex(draw: random.Random, schema: Any, kind: str, depth: int) -> Any:
    if kind == "record":
        return {field["name"]: avro_value(draw, field["type"], depth + 1) for field in schema["fields"]}
    if kind == "array":
        count = 0 if depth > 3 else draw.randrange(4)
        return [avro_value(draw, schema["items"], depth + 1) for _ in range(count)]
    if kind == "map":
        return {_text(draw): avro_value(draw, schema["values"], depth + 1) for _ in range(draw.randrange(4))}
    return _simple(draw, schema, kind)


def _simple(draw: random.Random, schema: Any, kind: str) -> Any:
    if kind == "fixed":
        return draw.randbytes(schema["size"])
    if kind == "enum":
        return draw.choice(schema["symbols"])
    return {
        "null": lambda: None,
        "boolean": lambda: draw.random() < 0.5,
        "int": lambda: draw.randrange(-(2**31), 2**31),
        "long": lambda: draw.randrange(-(2**63), 2**63),
        "float": lambda: float(draw.randrange(100)),
        "double": draw.random,
        "bytes": lambda: draw.randbytes(draw.randrange(20)),
        "string": lambda: _text(draw),
    }[kind]()


def _logical(draw: random.Random, logical: str) -> Any:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=draw.randrange(10**7))
    return {
        "timestamp-millis": moment,
        "timestamp-micros": moment,
        "date": date(2026, 1, 1 + draw.randrange(28)),
        "time-millis": time(draw.randrange(24)),
        "uuid": UUID(int=draw.getrandbits(128)),
        "decimal": Decimal(draw.randrange(10**6)) / 100,
    }[logical]


def _text(draw: random.Random) -> str:
    return "".join(draw.choices(string.printable + "äß你👍", k=draw.choice([0, 3, 20, 200])))


def proto_value(draw: random.Random, message: Any, depth: int = 0) -> Any:
    """A valid message."""
    if message.DESCRIPTOR.name == "Review":
        message.id, message.text, message.rating = _text(draw), _text(draw), draw.randrange(2**40)
        message.change, message.weight, message.channel = -draw.randrange(9), draw.random(), draw.randrange(4)
        message.at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
        message.title.value, message.raw = _text(draw), draw.randbytes(draw.randrange(30))
        return message
    message.text = _text(draw)
    message.numbers.extend(draw.randrange(2**20) for _ in range(draw.randrange(5)))
    message.tags.extend(_text(draw) for _ in range(draw.randrange(3)))
    message.more.update({"a": [1, None, {"b": _text(draw)}], "c": True})
    message.any.number_value = draw.random()
    if depth < 3:
        proto_value(draw, message.reviews[_text(draw)], depth + 1)
        proto_value(draw, message.parent, depth + 1)
        for _ in range(draw.randrange(3)):
            proto_value(draw, message.replies.add(), depth + 1)
    return message
