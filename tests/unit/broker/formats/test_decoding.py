"""One function for each format, and choices that cannot be meant."""

import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from broker.formats import decoding
from broker.formats.decoding import RecordFormat, needs_registry, open_decoder
from reviews.errors import InvalidMessage, WrongUse


def test_the_frame_of_json_schema_is_taken_off_and_nobody_is_asked():
    decode = open_decoder(RecordFormat("json-schema"))
    assert decode(b'\x00\x00\x00\x00\x07{"a": 1}', ()) == b'{"a": 1}'
    assert decode(b"\x01" + bytes(16) + b'{"a": 1}', ()) == b'{"a": 1}'
    assert decode(b'{"a": 1}', [("__value_schema_id", b"\x01" + bytes(16))]) == b'{"a": 1}'
    with pytest.raises(InvalidMessage, match="begins like JSON, whose format is 'json'"):
        decode(b'{"a": 1}', ())


def test_a_registry_is_needed_where_records_name_their_schema(tmp_path: Path):
    assert needs_registry(RecordFormat("avro"))
    assert needs_registry(RecordFormat("protobuf"))
    assert not needs_registry(RecordFormat("avro", tmp_path))
    assert not needs_registry(RecordFormat("json-schema"))
    with pytest.raises(WrongUse, match="REVIEWLOOP_REGISTRY__URL"):
        open_decoder(RecordFormat("avro"))


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        (RecordFormat("xml"), "There is no format 'xml': the formats are json-schema, avro, protobuf"),  # type: ignore[arg-type]
        (RecordFormat("json-schema", schema_file=Path("a")), "takes no schema_file"),
        (RecordFormat("avro", schema_file=Path("a"), message="M"), "'message' names a type"),
        (RecordFormat("protobuf", message="M"), "'message' names a type"),
        (
            RecordFormat("protobuf", schema_file=Path("a"), reader_schema_file=Path("b")),
            "'reader_schema_file' is for",
        ),
    ],
)
def test_a_choice_that_contradicts_itself_is_refused(choice: RecordFormat, says: str):
    with pytest.raises(WrongUse, match=says):
        open_decoder(choice)


@pytest.mark.parametrize("name", ["avro", "protobuf"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    name, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    def nothing(_: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(decoding, "find_spec", nothing)
    (tmp_path / "a.avsc").write_text(json.dumps("string"))
    with pytest.raises(WrongUse, match=r"pip install 'reviewloop\[formats\]'"):
        open_decoder(RecordFormat(name, tmp_path / "a.avsc"))
