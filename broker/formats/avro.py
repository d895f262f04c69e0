"""Avro records, each in its binary encoding without a file around it (https://avro.apache.org/docs/1.12.0/specification/).

fastavro reads them. It trusts the bytes: it reads past the end without a word, recurses without a limit and
makes as many items as an array claims to have. Hence the check of where it ended, and, where a schema lets
few bytes become much, the walk of :mod:`broker.formats.avro_bounds` before it. Flat records are read by
:mod:`broker.formats.avro_source`.
"""

import json
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from broker.formats.avro_bounds import Bounds, bounds_of
from broker.formats.avro_source import FlatReader, flat_reader
from broker.formats.framing import FramedRecords, Part, Reader, UnframedRecords, look_up
from broker.formats.registry import SchemaRegistry
from reviews.errors import InvalidMessage, WrongUse

MAX_SCHEMA_BYTES: Final = 1024 * 1024
_MAX_SCHEMA_DEPTH = 64
_GUARD = b"\x00"


def reader_of(schema: Any, named: dict[str, Any], wanted: Any = None) -> Reader:
    """A function that reads records of one schema.

    Args:
        schema: As fastavro parsed it, of the writer.
        named: The definitions of the types that it names.
        wanted: The same of the reader, which values are resolved to; None: as they were written.

    Raises:
        InvalidMessage: If even the smallest record of this schema takes more memory than a record may.
    """
    bounds = bounds_of(schema, named)
    flat = flat_reader(schema, named) if wanted is None else None
    return library_reader(schema, wanted, bounds) if flat is None else _careful(flat)


def _careful(flat: FlatReader) -> Reader:
    """A reader that makes a refusal of what goes wrong."""

    def read(raw: bytes, at: int) -> Any:
        try:
            value, end = flat(raw, at)
        except (IndexError, ValueError, OverflowError, struct.error) as err:
            raise _unreadable(err) from None
        if end != len(raw):
            raise _not_this_schema("is cut off" if end > len(raw) else "goes on behind its last field")
        return value

    return read


def library_reader(schema: Any, wanted: Any, bounds: Bounds) -> Reader:
    """A reader of any schema.

    Args:
        schema: As fastavro parsed it, of the writer.
        wanted: The same of the reader, or None.
        bounds: Of the writer's schema.
    """
    from fastavro import schemaless_reader

    def read(raw: bytes, at: int) -> Any:
        end = len(raw)
        if bounds.needs_walk(end - at):
            bounds.walk(raw, at)
        source = BytesIO(raw + _GUARD)
        source.seek(at)
        try:
            value = schemaless_reader(source, schema, wanted)
        except MemoryError:
            raise
        except Exception as err:  # noqa: BLE001  whatever its reading of foreign bytes ends in
            raise _unreadable(err) from None
        if source.tell() != end:  # a string that claims to be longer than the rest ends behind the guard
            raise _not_this_schema("is cut off" if source.tell() > end else "goes on behind its last field")
        return value

    return read


def _unreadable(err: Exception) -> InvalidMessage:
    if type(err).__name__ == "SchemaResolutionError":
        return InvalidMessage(
            "schema_mismatch", "The record's schema cannot be resolved to the reader's schema of the source."
        )
    if isinstance(err, UnicodeDecodeError):
        return InvalidMessage("not_utf8", "A string of the record is not UTF-8.")
    return _not_this_schema(f"cannot be read ({type(err).__name__})")


def _not_this_schema(why: str) -> InvalidMessage:
    return InvalidMessage("bad_avro", f"The record {why}: it was not written with the schema that it names.")


def parse(text: str, named: dict[str, Any]) -> Any:
    """A schema as fastavro wants it.

    Args:
        text: JSON.
        named: The definitions of named types; those of this schema are added.

    Raises:
        InvalidMessage: If it is no Avro schema, or one that is too large.
    """
    from fastavro import parse_schema

    if len(text) > MAX_SCHEMA_BYTES:
        raise _bad_schema(f"it has more than {MAX_SCHEMA_BYTES:,} characters")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _bad_schema("it is not JSON") from None
    _require_shallow(content)
    try:
        return parse_schema(content, named_schemas=named)
    except Exception as err:  # noqa: BLE001  fastavro trusts that a schema has the right shape
        raise _bad_schema(f"it is not valid ({type(err).__name__})") from None


def _require_shallow(content: Any) -> None:
    """Refuse what is nested so deeply that a parser without a limit would exhaust its stack."""
    level = [content]
    for _ in range(_MAX_SCHEMA_DEPTH * 3):  # a record in a record is an object in a list in an object
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise _bad_schema(f"it is nested deeper than {_MAX_SCHEMA_DEPTH} records")


def _bad_schema(why: str) -> InvalidMessage:
    return InvalidMessage("bad_schema", f"The record's Avro schema cannot be used: {why}.")


class AvroRecords(FramedRecords):
    """Reads records whose frame or header names their schema in a registry.

    Args:
        registry: Where the schemas are.
        part: Which part of the record this reads.
        reader_schema_file: The schema to which values are resolved, with aliases and defaults of its own;
            None: values are read as they were written.

    Raises:
        WrongUse: If that file cannot be used.
    """

    def __init__(self, registry: SchemaRegistry, part: Part, reader_schema_file: Path | None) -> None:
        super().__init__(part, self._make)
        self._registry = registry
        self._wanted = None if reader_schema_file is None else read_schema_file(reader_schema_file)[0]

    def _make(self, named: bytes) -> Reader:
        schema = look_up(self._registry, named, "AVRO")
        types: dict[str, Any] = {}
        for other in self._registry.referenced(schema).values():
            parse(other.text, types)
        return reader_of(parse(schema.text, types), types, self._wanted)


class AvroOfFile(UnframedRecords):
    """Reads records that were all written with the schema in a file, without a frame.

    Args:
        schema_file: The writer's schema (``.avsc``).
        reader_schema_file: As of :class:`AvroRecords`.

    Raises:
        WrongUse: If one of them cannot be used.
    """

    def __init__(self, schema_file: Path, reader_schema_file: Path | None) -> None:
        schema, types = read_schema_file(schema_file)
        wanted = None if reader_schema_file is None else read_schema_file(reader_schema_file)[0]
        try:
            super().__init__(reader_of(schema, types, wanted))
        except InvalidMessage as err:
            raise WrongUse(f"The schema file '{schema_file}' cannot be used. {err}") from None


def read_schema_file(path: Path) -> tuple[Any, dict[str, Any]]:
    """A schema as fastavro wants it, and the definitions of the types that it names.

    Raises:
        WrongUse: If the file cannot be read, or holds no Avro schema.
    """
    types: dict[str, Any] = {}
    try:
        return parse(path.read_text(encoding="utf-8-sig"), types), types
    except (OSError, UnicodeDecodeError) as err:
        why = getattr(err, "strerror", None) or "it is not UTF-8"
        raise WrongUse(f"The schema file '{path}' cannot be read: {why}.") from err
    except InvalidMessage as err:
        raise WrongUse(f"The schema file '{path}' cannot be used. {err}") from None
