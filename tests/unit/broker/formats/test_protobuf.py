"""Protobuf: what Google's library writes is read back, by texts, serialised files and descriptor sets."""

import resource
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message_factory import GetMessageClass

from broker.formats import proto_files
from broker.formats.avro_bounds import MAX_DECODED_BYTES
from broker.formats.proto_files import compile_file, compile_schemas
from broker.formats.protobuf import ProtobufOfFile, ProtobufRecords, reader_of
from broker.formats.protobuf_bounds import bounds_of
from reviews.errors import InvalidMessage, WrongUse
from tests.unit.broker.formats.served import Served

REVIEW = """
syntax = "proto3";
package com.shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/duration.proto";

message Other { string name = 1; }

message Review {
  string id = 1;
  optional string text = 2;
  int64 rating = 3;
  enum Channel { UNKNOWN = 0; WEB = 1; APP = 2; }
  Channel channel = 4;
  repeated string tags = 5;
  map<string, int32> counts = 6;
  map<bool, Other> others = 7;
  google.protobuf.Timestamp at = 8;
  google.protobuf.StringValue title = 9;
  google.protobuf.Struct more = 10;
  google.protobuf.Duration spent = 11;
  Review parent = 12;
  repeated Review replies = 13;
  oneof rest { string a = 14; bytes b = 15; }
  message Nested { bool yes = 1; message Deep { double x = 1; } }
}
"""


@pytest.fixture(scope="module")
def file() -> Any:
    """The compiled file."""
    return compile_schemas(REVIEW, {})


@pytest.fixture(scope="module")
def review(file: Any) -> Any:
    """The class of its messages."""
    return GetMessageClass(file.message_types_by_name["Review"])


def _review(review: Any) -> Any:
    message = review(id="r1", text="Gut 👍", rating=2**40, channel=2, tags=["a", "b"], a="left")
    message.counts["x"] = 3
    message.others[True].name = "o"
    message.at.FromDatetime(datetime(2026, 1, 31, 12, 30, tzinfo=UTC))
    message.title.value = ""
    message.more.update({"n": None, "l": [1, "x"], "o": {"b": True}})
    message.spent.FromMilliseconds(1_500)
    message.parent.id = "r0"
    message.replies.add(id="r2")
    return message


EMPTY = {"id": "", "rating": 0, "channel": "UNKNOWN", "tags": [], "counts": {}, "others": {}, "replies": []}
VALUE = {
    "id": "r1",
    "text": "Gut 👍",
    "rating": 2**40,
    "channel": "APP",
    "tags": ["a", "b"],
    "counts": {"x": 3},
    "others": {"true": {"name": "o"}},
    "at": datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
    "title": "",
    "more": {"n": None, "l": [1.0, "x"], "o": {"b": True}},
    "spent": 1.5,
    "parent": {**EMPTY, "id": "r0"},
    "replies": [{**EMPTY, "id": "r2"}],
    "a": "left",
}


def test_a_framed_record_is_read_by_the_schema_and_the_type_it_names(served: Served, review: Any):
    served.add(7, REVIEW, kind="PROTOBUF")
    decode = ProtobufRecords(served.registry(), "value")
    raw = b"\x00\x00\x00\x00\x07\x02\x02" + _review(review).SerializeToString()
    for _ in range(3):
        assert decode(raw, ()) == VALUE
    other = b"\x00\x00\x00\x00\x07\x00\x0a\x02hi"
    for _ in range(3):
        assert decode(other, ()) == {"name": "hi"}
    assert served.asked == ["/schemas/ids/7"]


def test_nested_types_are_found_by_their_indexes(served: Served):
    served.add(7, REVIEW, kind="PROTOBUF")
    decode = ProtobufRecords(served.registry(), "value")
    frame = b"\x00\x00\x00\x00\x07"
    types = [
        found.full_name for found in compile_schemas(REVIEW, {}).message_types_by_name["Review"].nested_types
    ]
    nested = types.index("com.shop.Review.Nested")
    path = b"\x04\x02" + bytes([2 * nested])
    assert decode(frame + path + b"\x08\x01", ()) == {"yes": True}
    deep = b"\x06\x02" + bytes([2 * nested]) + b"\x00"
    assert decode(frame + deep, ()) == {"x": 0.0}


def test_a_header_names_schema_and_type_of_a_record_without_a_frame(served: Served, review: Any):
    guid = "89791762-2336-4186-9674-299b90a802e2"
    served.answers[f"/schemas/guids/{guid}"] = (200, {"schema": REVIEW, "schemaType": "PROTOBUF"})
    header = b"\x01" + bytes.fromhex(guid.replace("-", "")) + b"\x02\x02"
    decode = ProtobufRecords(served.registry(), "value")
    for _ in range(2):
        assert decode(_review(review).SerializeToString(), [("__value_schema_id", header)]) == VALUE


def test_indexes_that_lead_nowhere_are_the_records_fault(served: Served):
    served.add(7, REVIEW, kind="PROTOBUF")
    with pytest.raises(InvalidMessage, match="lead to no type"):
        ProtobufRecords(served.registry(), "value")(b"\x00\x00\x00\x00\x07\x02\x12", ())


def test_references_are_imports_of_the_text(served: Served):
    imported = 'syntax = "proto3"; package p; message Product { string sku = 1; }'
    text = 'syntax = "proto3"; import "shop/product.proto"; message R { p.Product product = 1; }'
    served.answers["/subjects/product/versions/1"] = (200, {"schema": imported, "schemaType": "PROTOBUF"})
    reference = {"name": "shop/product.proto", "subject": "product", "version": 1}
    served.add(7, text, kind="PROTOBUF", references=[reference])
    decode = ProtobufRecords(served.registry(), "value")
    assert decode(b"\x00\x00\x00\x00\x07\x00\x0a\x04\x0a\x02ab", ()) == {"product": {"sku": "ab"}}


def test_serialised_files_are_schemas_as_well(served: Served, file: Any, review: Any):
    served.add(7, b64encode(file.serialized_pb).decode(), kind="PROTOBUF")
    decode = ProtobufRecords(served.registry(), "value")
    assert decode(b"\x00\x00\x00\x00\x07\x02\x02" + _review(review).SerializeToString(), ()) == VALUE


def test_a_field_that_the_schema_does_not_know_is_left_out_and_a_new_one_has_its_default():
    old = compile_schemas('syntax = "proto3"; message R { string id = 1; string gone = 2; }', {})
    new = compile_schemas('syntax = "proto3"; message R { string id = 1; int32 added = 3; }', {})
    raw = GetMessageClass(old.message_types_by_name["R"])(id="a", gone="b").SerializeToString()
    assert reader_of(new.message_types_by_name["R"])(raw, 0) == {"id": "a", "added": 0}


def test_proto2_fields_are_there_where_they_were_set():
    file = compile_schemas(
        'syntax = "proto2"; message R { required string id = 1; optional int32 n = 2 [default = 4]; '
        "optional group Part = 3 { optional bool x = 4; } extensions 100 to 200; } "
        "extend R { optional string more = 100; }",
        {},
    )
    message = GetMessageClass(file.message_types_by_name["R"])(id="a", part={"x": True})
    assert reader_of(message.DESCRIPTOR)(message.SerializeToString(), 0) == {"id": "a", "part": {"x": True}}


def test_an_unknown_number_of_an_enumeration_stays_a_number(review: Any):
    read = reader_of(review.DESCRIPTOR)
    assert read(b"\x20\x63", 0)["channel"] == 99


@pytest.mark.parametrize(
    "raw",
    [b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab", b"\x07", b"\x0a\x02\xff\xfe", b"\x00\x00", b"\xff" * 30],
)
def test_bytes_that_are_no_message_are_refused(review: Any, raw: bytes):
    with pytest.raises(InvalidMessage) as raised:
        reader_of(review.DESCRIPTOR)(raw, 0)
    assert raised.value.reason == "bad_protobuf"


def test_a_time_beyond_the_calendar_is_refused(review: Any):
    message = review()
    message.at.seconds = 2**62
    with pytest.raises(InvalidMessage, match="a time that does not exist"):
        reader_of(review.DESCRIPTOR)(message.SerializeToString(), 0)


def test_nesting_without_an_end_is_refused(review: Any):
    raw = b""
    for _ in range(300):
        raw = b"\x62" + _length(raw) + raw
    with pytest.raises(InvalidMessage):
        reader_of(review.DESCRIPTOR)(raw, 0)


def _length(raw: bytes) -> bytes:
    count, out = len(raw), b""
    while count > 0x7F:
        out += bytes([count & 0x7F | 0x80])
        count >>= 7
    return out + bytes([count])


@pytest.mark.parametrize("item", [b"\x6a\x00", b"\x2a\x00", b"\x32\x00"])
def test_many_empty_items_that_take_much_memory_are_refused(review: Any, item: bytes):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidMessage) as raised:
        reader_of(review.DESCRIPTOR)(item * 1_500_000, 0)
    assert raised.value.reason == "too_large"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 2 * MAX_DECODED_BYTES


def test_a_large_record_that_could_have_been_hostile_is_read(review: Any):
    message = review(tags=["t" * 200] * 5_000, replies=[{"id": "r" * 300}] * 2_000)
    raw = message.SerializeToString()
    assert bounds_of(review.DESCRIPTOR).needs_walk(len(raw))
    assert len(reader_of(review.DESCRIPTOR)(raw, 0)["replies"]) == 2_000


def test_a_schema_file_is_a_proto_or_a_descriptor_set(tmp_path: Path, review: Any):
    (tmp_path / "review.proto").write_text(REVIEW)
    raw = _review(review).SerializeToString()
    assert ProtobufOfFile(tmp_path / "review.proto", "com.shop.Review")(raw, ()) == VALUE
    made = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={tmp_path}", "--include_imports"]
    subprocess.run([*made, f"--descriptor_set_out={tmp_path / 'review.desc'}", "review.proto"], check=True)
    assert ProtobufOfFile(tmp_path / "review.desc", "com.shop.Review")(raw, ()) == VALUE
    assert {found.full_name for found in compile_file(tmp_path / "review.desc")} == {
        "com.shop.Other",
        "com.shop.Review",
        "com.shop.Review.Nested",
        "com.shop.Review.Nested.Deep",
    }


def test_the_one_type_of_a_file_needs_no_name_and_several_do(tmp_path: Path):
    (tmp_path / "one.proto").write_text('syntax = "proto3"; message R { string id = 1; }')
    assert ProtobufOfFile(tmp_path / "one.proto", None)(b"\x0a\x01a", ()) == {"id": "a"}
    (tmp_path / "two.proto").write_text('syntax = "proto3"; message A {} message B {}')
    with pytest.raises(WrongUse, match=r"Several types are in the schema file .*\(A, B\)"):
        ProtobufOfFile(tmp_path / "two.proto", None)
    with pytest.raises(WrongUse, match=r"The type 'C' is not in"):
        ProtobufOfFile(tmp_path / "two.proto", "C")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.proto", None, "cannot be read: No such file"),
        ("a.desc", None, "cannot be read: No such file"),
        ("a.proto", b"message {", r"the compiler says: \S*a.proto:1"),
        ("a.desc", b"message R { string id = 1; }", "no descriptor set.*protoc --include_imports"),
        ("a.proto", b'syntax = "proto3"; import "b.proto";', "b.proto"),
    ],
)
def test_a_schema_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, content: bytes | None, says: str
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongUse, match=says):
        ProtobufOfFile(tmp_path / name, None)


@pytest.mark.parametrize(
    ("text", "imported", "says"),
    [
        ("this is no schema", {}, "the compiler says"),
        ('syntax = "proto3"; message R { Missing m = 1; }', {}, "the compiler says"),
        ('syntax = "proto3"; import "/etc/passwd";', {}, "the compiler says"),
        ('syntax = "proto3"; import "../../etc/passwd";', {}, "the compiler says"),
        ('syntax = "proto3";', {"../evil.proto": ""}, "a name that cannot be used"),
        ('syntax = "proto3";', {"/etc/evil.proto": ""}, "a name that cannot be used"),
        ('syntax = "proto3";', {"a\x00b.proto": ""}, "a name that cannot be used"),
        ('syntax = "proto3";', {"x" * 300: ""}, "a name that cannot be used"),
        ("x" * 2_000_000, {}, "more than"),
        ("AAAA", {}, "neither a text nor a serialised file|do not fit"),
        ('syntax = "proto3"; message R {' + "message M {" * 5_000 + "}" * 5_001, {}, "the compiler"),
    ],
    ids=range(11),
)
def test_a_text_that_cannot_be_compiled_is_the_records_fault(text: str, imported: dict[str, str], says: str):
    with pytest.raises(InvalidMessage, match=says) as raised:
        compile_schemas(text, imported)
    assert raised.value.reason == "bad_schema"


def test_a_compiler_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(proto_files, "COMPILER_SECONDS", 0.01)
    with pytest.raises(InvalidMessage, match=r"took longer than 0\.01 s"):
        compile_schemas(REVIEW, {})


def test_without_the_compiler_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "grpc_tools.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[4]}")
    with pytest.raises(WrongUse, match=r"pip install 'reviewloop\[formats\]'"):
        compile_schemas(REVIEW, {})
