"""Avro: what fastavro writes is read back, and hostile bytes are refused before they do harm."""

import json
import random
import resource
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from benchmarks.fuzz.frame_schemas import avro_value
from benchmarks.fuzz.frames import break_frame
from broker.formats.avro import AvroOfFile, AvroRecords, library_reader, parse, reader_of
from broker.formats.avro_bounds import MAX_DECODED_BYTES, bounds_of
from broker.formats.avro_source import flat_reader
from reviews.errors import InvalidMessage, Unavailable, WrongUse
from tests.unit.broker.formats.served import Served

REVIEW = {
    "type": "record",
    "name": "Review",
    "namespace": "com.shop",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "text", "type": ["null", "string"]},
        {"name": "rating", "type": "int"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "more", "type": {"type": "map", "values": ["null", "long", "string"]}},
    ],
}
VALUE: dict[str, Any] = {
    "id": "r1",
    "text": "Gut und günstig 👍",
    "rating": 5,
    "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "price": Decimal("12.50"),
    "tags": ["a", "b"],
    "more": {"x": 1, "y": "z", "n": None},
}
TREE = {
    "type": "record",
    "name": "Node",
    "fields": [{"name": "next", "type": ["null", "Node"]}],
}


def _written(schema: Any, value: Any) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def _framed(number: int, schema: Any, value: Any) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + _written(schema, value)


def _reader(schema: Any, wanted: Any = None):
    types: dict[str, Any] = {}
    parsed = parse(json.dumps(schema), types)
    return reader_of(parsed, types, None if wanted is None else parse(json.dumps(wanted), {}))


def _varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def test_a_framed_record_is_read_by_the_schema_it_names(served: Served):
    served.add(7, REVIEW)
    decode = AvroRecords(served.registry(), "value", None)
    for _ in range(3):
        assert decode(_framed(7, REVIEW, VALUE), ()) == VALUE
    assert served.asked == ["/schemas/ids/7"]


def test_a_header_names_the_schema_of_a_record_without_a_frame(served: Served):
    guid = "89791762-2336-4186-9674-299b90a802e2"
    served.answers[f"/schemas/guids/{guid}"] = (200, {"schema": json.dumps(REVIEW), "schemaType": "AVRO"})
    decode = AvroRecords(served.registry(), "value", None)
    header = b"\x01" + bytes.fromhex(guid.replace("-", ""))
    assert decode(_written(REVIEW, VALUE), [("__value_schema_id", header)]) == VALUE
    assert decode(header + _written(REVIEW, VALUE), ()) == VALUE


def test_references_are_types_of_the_schema(served: Served):
    product = {"type": "record", "name": "com.shop.Product", "fields": [{"name": "sku", "type": "string"}]}
    review = {"type": "record", "name": "R", "fields": [{"name": "product", "type": "com.shop.Product"}]}
    served.answers["/subjects/product/versions/2"] = (200, {"schema": json.dumps(product)})
    served.add(7, review, references=[{"name": "com.shop.Product", "subject": "product", "version": 2}])
    inline = {**review, "fields": [{"name": "product", "type": product}]}
    decode = AvroRecords(served.registry(), "value", None)
    assert decode(_framed(7, inline, {"product": {"sku": "s"}}), ()) == {"product": {"sku": "s"}}


def test_each_writers_schema_is_resolved_to_the_readers(served: Served, tmp_path: Path):
    old = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "body", "type": "string"}, {"name": "x", "type": "int"}],
    }
    new = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "text", "type": "string", "aliases": ["body"]},
            {"name": "lang", "type": "string", "default": "en"},
        ],
    }
    (tmp_path / "reader.avsc").write_text(json.dumps(new))
    served.add(1, old)
    served.add(2, new)
    decode = AvroRecords(served.registry(), "value", tmp_path / "reader.avsc")
    assert decode(_framed(1, old, {"body": "a", "x": 3}), ()) == {"text": "a", "lang": "en"}
    assert decode(_framed(2, new, {"text": "b", "lang": "de"}), ()) == {"text": "b", "lang": "de"}


def test_a_schema_that_cannot_be_resolved_is_a_mismatch(served: Served, tmp_path: Path):
    wanted = {"type": "record", "name": "R", "fields": [{"name": "must", "type": "string"}]}
    written = {"type": "record", "name": "R", "fields": [{"name": "other", "type": "string"}]}
    (tmp_path / "reader.avsc").write_text(json.dumps(wanted))
    served.add(1, written)
    with pytest.raises(InvalidMessage) as raised:
        AvroRecords(served.registry(), "value", tmp_path / "reader.avsc")(
            _framed(1, written, {"other": "a"}), ()
        )
    assert raised.value.reason == "schema_mismatch"


def test_a_registry_that_is_unavailable_is_no_fault_of_the_record(served: Served):
    served.answers["/schemas/ids/7"] = (503, {})
    with pytest.raises(Unavailable):
        AvroRecords(served.registry(), "value", None)(_framed(7, REVIEW, VALUE), ())


def test_a_schema_of_another_type_is_named(served: Served):
    served.add(7, "syntax = 'proto3';", kind="PROTOBUF")
    with pytest.raises(InvalidMessage, match="type PROTOBUF, not AVRO") as raised:
        AvroRecords(served.registry(), "value", None)(_framed(7, REVIEW, VALUE), ())
    assert raised.value.reason == "other_format"


def test_a_record_that_is_cut_off_anywhere_is_refused():
    read, whole = _reader(REVIEW), _written(REVIEW, VALUE)
    for length in range(len(whole)):
        with pytest.raises(InvalidMessage):
            read(whole[:length], 0)


def test_a_record_with_more_behind_it_is_refused():
    with pytest.raises(InvalidMessage, match="goes on behind its last field"):
        _reader(REVIEW)(_written(REVIEW, VALUE) + b"\x00", 0)


def test_a_text_that_is_not_utf_8_is_named():
    with pytest.raises(InvalidMessage) as raised:
        _reader("string")(b"\x04\xff\xfe", 0)
    assert raised.value.reason == "not_utf8"


@pytest.mark.parametrize(
    ("schema", "raw"),
    [
        ("string", _varint(2**62) + b"x"),
        ("string", _varint(-5) + b"xxxxxxx"),
        ("bytes", _varint(-1)),
        ({"type": "array", "items": "null"}, _varint(2**62)),
        ({"type": "array", "items": "null"}, _varint(-(2**62)) + b"\x02" + b"\x00"),
        ({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}, _varint(2**40)),
        ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}, _varint(2**50)),
        ({"type": "array", "items": {"type": "array", "items": "null"}}, _varint(1) + _varint(2**50)),
        ({"type": "map", "values": "null"}, _varint(2**62)),
        ({"type": "array", "items": "int"}, _varint(2**62) + b"\x00" * 100),
        (TREE, b"\x02" * 3_000_000),
        (REVIEW, b"\x02"),
        ("long", b"\xff" * 1_000),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, _varint(2**40)),
        (["null", "string"], _varint(7)),
    ],
)
def test_hostile_lengths_counts_and_nesting_are_refused_at_once(schema: Any, raw: bytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidMessage):
        _reader(schema)(raw, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 2 * MAX_DECODED_BYTES


def test_many_small_items_that_take_much_memory_are_refused_and_fewer_are_read():
    wide = {
        "type": "record",
        "name": "W",
        "fields": [{"name": f"f{number}", "type": "null"} for number in range(200)]
        + [{"name": "x", "type": "int"}],
    }
    read = _reader({"type": "array", "items": wide})
    item = {**{f"f{number}": None for number in range(200)}, "x": 0}
    raw = _varint(100) + b"\x00" * 100 + b"\x00"
    assert read(raw, 0) == [item] * 100
    with pytest.raises(InvalidMessage) as raised:
        read(_varint(1_000_000) + b"\x00" * 1_000_001, 0)
    assert raised.value.reason == "too_large"


def test_a_large_record_that_could_have_been_hostile_is_read():
    schema = {
        "type": "record",
        "name": "R",
        "fields": [{"name": "notes", "type": {"type": "array", "items": "string"}}],
    }
    value = {"notes": ["n" * 100] * 20_000}
    raw = _written(schema, value)
    assert bounds_of(parse(json.dumps(schema), types := {}), types).needs_walk(len(raw))
    assert _reader(schema)(raw, 0) == value


def test_nested_values_are_read_down_to_a_depth_and_no_further():
    value: Any = {"next": None}
    for _ in range(60):
        value = {"next": value}
    assert _reader(TREE)(_written(TREE, value), 0) == value
    for _ in range(10):
        value = {"next": value}
    with pytest.raises(InvalidMessage) as raised:
        _reader(TREE)(_written(TREE, value), 0)
    assert raised.value.reason == "too_deep"


def test_a_decimal_that_would_take_long_to_convert_is_refused():
    schema = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    with pytest.raises(InvalidMessage, match="decimal"):
        _reader(schema)(_varint(2_000_000) + b"\x7f" * 2_000_000, 0)


def test_a_plain_record_is_never_walked():
    flat = {
        **REVIEW,
        "fields": [field for field in REVIEW["fields"] if field["name"] in {"id", "text", "rating"}],
    }
    assert not bounds_of(parse(json.dumps(flat), types := {}), types).needs_walk(16 * 1024 * 1024)
    assert not bounds_of(parse(json.dumps(REVIEW), types := {}), types).needs_walk(4_000)


def _doubling(levels: int) -> list[Any]:
    """A few lines that stand for 2**levels fields."""
    types: list[Any] = [{"type": "record", "name": "T0", "fields": [{"name": "a", "type": "null"}]}]
    for number in range(1, levels):
        inner = f"T{number - 1}"
        fields = [{"name": name, "type": inner} for name in "ab"]
        types.append({"type": "record", "name": f"T{number}", "fields": fields})
    return types


def _chained(levels: int) -> list[Any]:
    types: list[Any] = [{"type": "record", "name": "T0", "fields": [{"name": "a", "type": "int"}]}]
    for number in range(1, levels):
        fields = [{"name": "a", "type": f"T{number - 1}"}]
        types.append({"type": "record", "name": f"T{number}", "fields": fields})
    return types


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ('{"type": "record"}', "not valid"),
        ('"com.shop.Unknown"', "not valid"),
        ("7", "not valid"),
        ("[" * 100_000 + "]" * 100_000, "not JSON|nested deeper"),
        ('{"type": "array", "items": ' * 900 + '"int"' + "}" * 900, "not JSON|nested deeper"),
        ('"' + "x" * 2_000_000 + '"', "more than"),
        (json.dumps(_doubling(40)), "too much memory"),
        (json.dumps(_chained(5_000)), "nested deeper"),
    ],
)
def test_a_schema_that_is_none_or_too_large_is_the_records_fault(served: Served, text: str, says: str):
    served.add(7, text)
    with pytest.raises(InvalidMessage, match=says) as raised:
        AvroRecords(served.registry(), "value", None)(b"\x00\x00\x00\x00\x07\x00", ())
    assert raised.value.reason == "bad_schema"


def test_a_schema_file_says_how_all_records_are_read(tmp_path: Path):
    (tmp_path / "review.avsc").write_text(json.dumps(REVIEW))
    assert AvroOfFile(tmp_path / "review.avsc", None)(_written(REVIEW, VALUE), ()) == VALUE


@pytest.mark.parametrize("content", [None, b"\xff", b"{", b'"unknown"'])
def test_a_schema_file_that_cannot_be_used_is_named_at_once(tmp_path: Path, content: bytes | None):
    path = tmp_path / "review.avsc"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WrongUse, match=r"The schema file '.*review\.avsc' cannot be"):
        AvroOfFile(path, None)


FLAT = {
    "type": "record",
    "name": "Flat",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "text", "type": ["null", "string"]},
        {"name": "count", "type": ["null", "long", "boolean", "double"]},
        {"name": "share", "type": "float"},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "micros", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "raw", "type": "bytes"},
        {"name": "digest", "type": {"type": "fixed", "name": "Digest", "size": 3}},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "APP"]}},
        {
            "name": "shop",
            "type": {"type": "record", "name": "Shop", "fields": [{"name": "n", "type": "int"}]},
        },
        {"name": "other", "type": ["null", "Shop"]},
    ],
}


def _both(schema: Any) -> tuple[Any, Any]:
    """The written-down reader of a schema, and the library's."""
    types: dict[str, Any] = {}
    parsed = parse(json.dumps(schema), types)
    assert flat_reader(parsed, types) is not None
    return reader_of(parsed, types), library_reader(parsed, None, bounds_of(parsed, types))


def test_a_flat_schema_is_read_as_fastavro_reads_it_and_broken_records_by_neither_or_alike():
    draw = random.Random(5)
    ours, library = _both(FLAT)
    most = {**FLAT, "fields": FLAT["fields"][:-1]}
    refused = 0
    for _ in range(2_000):
        raw = _written(FLAT, {**avro_value(draw, most), "other": draw.choice([None, {"n": 3}])})
        assert ours(raw, 0) == library(raw, 0)
        broken = break_frame(draw, raw)
        try:
            value = ours(broken, 0)
        except InvalidMessage:
            refused += 1  # fastavro takes negative indexes for ones from the end
        else:
            assert str(value) == str(library(broken, 0))
    assert refused > 1_000


@pytest.mark.parametrize("unit", [10**3, 10**6])
def test_a_time_is_exact_in_any_year(unit: int):
    kind = {10**3: "timestamp-millis", 10**6: "timestamp-micros"}[unit]
    ours, library = _both({"type": "long", "logicalType": kind})
    draw = random.Random(6)
    edge = 2**32 * unit
    some = [draw.randrange(-62_135_596_800 * unit, 253_402_300_800 * unit) for _ in range(2_000)]
    near = [draw.randrange(-edge, edge) for _ in range(2_000)]
    for number in [0, -1, 999, edge - 1, edge, 1 - edge, -edge, *some, *near]:
        raw = _written("long", number)
        assert ours(raw, 0) == library(raw, 0)


@pytest.mark.parametrize(
    ("schema", "raw"),
    [
        (["null", "string"], b"\x01"),
        (["null", "string"], b"\x04"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x01"),
        ("string", b"\x01xx"),
        ("long", b"\xff" * 11),
        ("boolean", b""),
        ("double", b"1234567"),
        ({"type": "fixed", "name": "F", "size": 4}, b"123"),
        ({"type": "long", "logicalType": "timestamp-millis"}, b"\xff" * 9 + b"\x01"),
        ({"type": "int", "logicalType": "date"}, b"\xff\xff\xff\xff\x0f"),
    ],
)
def test_a_flat_record_that_is_broken_is_refused(schema: Any, raw: bytes):
    read, _ = _both(schema)
    with pytest.raises(InvalidMessage):
        read(raw, 0)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": "int"},
        {"type": "map", "values": "int"},
        TREE,
        {"type": "string", "logicalType": "uuid"},
        {"type": "bytes", "logicalType": "decimal", "precision": 4},
        [{"type": "record", "name": f"R{n}", "fields": [{"name": "a", "type": "int"}]} for n in range(300)],
    ],
)
def test_what_is_not_flat_is_left_to_the_library(schema: Any):
    assert flat_reader(parse(json.dumps(schema), types := {}), types) is None


def test_the_names_of_a_schema_are_no_code():
    hostile = "'}; import os; os._exit(1) #"
    schema = {"type": "record", "name": "R", "fields": [{"name": hostile, "type": "int"}]}
    # fastavro refuses such names; should it ever let one pass, it is a key and nothing else.
    read = flat_reader(schema, {"R": schema})
    assert read is not None
    assert read(b"\x02", 0) == ({hostile: 1}, 1)
