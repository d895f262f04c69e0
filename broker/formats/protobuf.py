"""Protobuf records: dictionaries by the field names of their ``.proto`` file (https://protobuf.dev/programming-guides/encoding/).

A field without presence is always there, with its default, as in Kafka Connect; any other only where it was
set. Enumerations are read as their names, timestamps as moments, wrappers as what they wrap.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from broker.formats.framing import (
    ID_BYTES,
    FramedRecords,
    Part,
    Prepared,
    Reader,
    UnframedRecords,
    id_bytes,
    look_up,
    read_indexes,
)
from broker.formats.proto_files import compile_file, compile_schemas
from broker.formats.protobuf_bounds import bounds_of
from broker.formats.registry import SchemaRegistry
from reviews.errors import InvalidMessage, WrongUse

_USUAL_BYTES: Final = ID_BYTES + 1  # an id, and a 0 for the first message of its file
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Convert = Callable[[Any], Any]
"""A plain value of one value as protobuf holds it."""


def reader_of(descriptor: Any) -> Reader:
    """A function that reads messages of one type.

    Args:
        descriptor: Of the type, as its pool has it.
    """
    from google.protobuf.message import DecodeError
    from google.protobuf.message_factory import GetMessageClass

    parse = GetMessageClass(descriptor).FromString
    convert = _Converters().of(descriptor)
    bounds = bounds_of(descriptor)

    def read(raw: bytes, at: int) -> Any:
        raw = raw[at:]
        if bounds.needs_walk(len(raw)):
            bounds.walk(raw)
        try:
            return convert(parse(raw))
        except DecodeError:
            raise InvalidMessage(
                "bad_protobuf", "The record cannot be read: it was not written with the schema that it names."
            ) from None
        except (OverflowError, ValueError):  # a moment beyond the year 9999
            raise InvalidMessage("bad_protobuf", "The record holds a time that does not exist.") from None

    return read


class _Converters:
    """Makes the functions that convert messages, one for each type; types may contain themselves."""

    def __init__(self) -> None:
        self._made: dict[str, Convert] = {}

    def of(self, descriptor: Any) -> Convert:
        name = descriptor.full_name
        if name in _WELL_KNOWN:
            return _WELL_KNOWN[name]
        if name not in self._made:
            shape = _Shape()
            self._made[name] = partial(_message, shape)
            for field in descriptor.fields:
                shape.fields[field.number] = (field.name, self._field(field))
                if field.is_repeated:
                    shape.containers[field.name] = dict if _is_map(field) else list
                elif not field.has_presence:
                    shape.defaults[field.name] = _default(field)
        return self._made[name]

    def _field(self, field: Any) -> Convert:
        if _is_map(field):
            return partial(_map, self._single(field.message_type.fields_by_name["value"]))
        single = self._single(field)
        return partial(_list, single) if field.is_repeated else single

    def _single(self, field: Any) -> Convert:
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.enum_type is not None:
            return partial(_name_of, {value.number: value.name for value in field.enum_type.values})
        return _same


def _is_map(field: Any) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _default(field: Any) -> Any:
    """What a single field without presence has when it was not set."""
    if field.enum_type is not None:
        return field.enum_type.values_by_number[field.default_value].name
    return field.default_value


@dataclass(slots=True)
class _Shape:
    """What becomes of the fields of a type of message.

    Attributes:
        fields: Name and conversion of each field, by its number.
        defaults: Of the single fields that are always there.
        containers: How the empty lists and maps are made, by the fields' names.
    """

    fields: dict[int, tuple[str, Convert]] = dataclass_field(default_factory=dict)
    defaults: dict[str, Any] = dataclass_field(default_factory=dict)
    containers: dict[str, Callable[[], Any]] = dataclass_field(default_factory=dict)


def _message(shape: _Shape, message: Any) -> dict[str, Any]:
    found = dict(shape.defaults)
    for field, value in message.ListFields():
        known = shape.fields.get(field.number)
        if known is not None:  # None: an extension
            found[known[0]] = known[1](value)
    for name, empty in shape.containers.items():
        if name not in found:
            found[name] = empty()
    return found


def _same(value: Any) -> Any:
    return value


def _name_of(names: Mapping[int, str], number: int) -> str | int:
    """An enumeration's name; a number that its schema does not know stays one."""
    return names.get(number, number)


def _list(convert: Convert, values: Iterable[Any]) -> list[Any]:
    return [convert(value) for value in values]


def _map(convert: Convert, values: Mapping[Any, Any]) -> dict[str, Any]:
    return {_key(key): convert(value) for key, value in values.items()}


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _moment(message: Any) -> datetime:
    return _EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def _seconds(message: Any) -> float:
    return float(message.seconds) + float(message.nanos) / 1e9


def _wrapped(message: Any) -> Any:
    return message.value


def _json_object(message: Any) -> dict[str, Any]:
    return {name: _json_value(value) for name, value in message.fields.items()}


def _json_list(message: Any) -> list[Any]:
    return [_json_value(value) for value in message.values]


def _json_value(message: Any) -> Any:
    kind = message.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    value = getattr(message, kind)
    if kind == "struct_value":
        return _json_object(value)
    return _json_list(value) if kind == "list_value" else value


_WRAPPERS = ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
_WELL_KNOWN: Final[Mapping[str, Convert]] = {
    "google.protobuf.Timestamp": _moment,
    "google.protobuf.Duration": _seconds,
    "google.protobuf.Struct": _json_object,
    "google.protobuf.ListValue": _json_list,
    "google.protobuf.Value": _json_value,
    **{f"google.protobuf.{name}Value": _wrapped for name in _WRAPPERS},
}


class ProtobufRecords(FramedRecords):
    """Reads records whose frame or header names their schema in a registry.

    Args:
        registry: Where the schemas are.
        part: Which part of the record this reads.
    """

    def __init__(self, registry: SchemaRegistry, part: Part) -> None:
        super().__init__(part, self._make, _USUAL_BYTES, lambda raw, at: read_indexes(raw, at)[1])
        self._registry = registry
        self._files = Prepared(self._make_file)

    def _make(self, named: bytes) -> Reader:
        start = id_bytes(named)
        indexes, _ = read_indexes(named, start)
        return reader_of(_type_at(self._files.of(named[:start]), indexes))

    def _make_file(self, named: bytes) -> Any:
        schema = look_up(self._registry, named, "PROTOBUF")
        return compile_schemas(
            schema.text, {name: other.text for name, other in self._registry.referenced(schema).items()}
        )


def _type_at(file: Any, indexes: tuple[int, ...]) -> Any:
    """The type of message that indexes lead to.

    Raises:
        InvalidMessage: If they lead nowhere.
    """
    try:
        found = list(file.message_types_by_name.values())[indexes[0]]
        for index in indexes[1:]:
            found = found.nested_types[index]
    except IndexError:
        raise InvalidMessage(
            "bad_frame", "The indexes in the frame lead to no type of message in the schema."
        ) from None
    return found


class ProtobufOfFile(UnframedRecords):
    """Reads records that are all messages of one type in a file, without a frame.

    Args:
        schema_file: A descriptor set (``.desc``), or a ``.proto`` file.
        message: The full name of the type; None where the file has one alone.

    Raises:
        WrongUse: If the file cannot be used, or has no such type.
    """

    def __init__(self, schema_file: Path, message: str | None) -> None:
        types = {found.full_name: found for found in compile_file(schema_file)}
        if message is None and len(types) == 1:
            (message,) = types
        if message not in types:
            there_are = ", ".join(sorted(types)[:20]) or "none"
            asked = "Several types are" if message is None else f"The type '{message}' is not"
            raise WrongUse(
                f"{asked} in the schema file '{schema_file}': name one of its types of message as the "
                f"source's 'message' ({there_are})."
            )
        super().__init__(reader_of(types[message]))
