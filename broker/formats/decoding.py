"""One function for each format that needs a schema or has a frame: raw bytes to a plain value."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from broker.formats.avro import AvroOfFile, AvroRecords
from broker.formats.framing import Headers, Part, named_by_frame, named_by_header
from broker.formats.protobuf import ProtobufOfFile, ProtobufRecords
from broker.formats.registry import SchemaRegistry
from reviews.errors import WrongUse

FormatName = Literal["json-schema", "avro", "protobuf"]
"""How a value is written. Plain JSON and texts need nothing of this package."""

Decode = Callable[[bytes, Headers], Any]
"""The value of raw bytes, with the record's headers.

A mapping, list, string, number, boolean, None, or what the format's library makes of further types: bytes,
moments, decimals; of JSON Schema, the bytes of the JSON. It raises :class:`~reviews.errors.InvalidMessage`
for what can never be read, and :class:`~reviews.errors.Unavailable` while the schema registry does not
answer.
"""

_LIBRARIES = {"avro": "fastavro", "protobuf": "google.protobuf"}


class RecordFormat(NamedTuple):
    """How records are encoded.

    Attributes:
        name: Of the format.
        schema_file: The schema of all records, which then have no frame: ``.avsc`` for Avro, ``.desc`` or
            ``.proto`` for Protobuf. None: each record names its schema in the registry.
        message: The full name of the type of message in the file, for Protobuf.
        reader_schema_file: The schema that values are resolved to, for Avro.
    """

    name: FormatName
    schema_file: Path | None = None
    message: str | None = None
    reader_schema_file: Path | None = None


def needs_registry(choice: RecordFormat) -> bool:
    """Whether records of this kind name their schema in a registry that has to be asked."""
    return choice.name in _LIBRARIES and choice.schema_file is None


def open_decoder(
    choice: RecordFormat, registry: SchemaRegistry | None = None, part: Part = "value"
) -> Decode:
    """A function that decodes.

    Args:
        choice: How records are encoded.
        registry: Where their schemas are, if it is needed.
        part: Which part of the record is decoded.

    Raises:
        WrongUse: If a file cannot be used, a library is not installed, or the choice contradicts itself.
    """
    _require_sense(choice)
    if choice.name == "avro":
        if choice.schema_file is not None:
            return AvroOfFile(choice.schema_file, choice.reader_schema_file)
        return AvroRecords(_required(registry), part, choice.reader_schema_file)
    if choice.name == "protobuf":
        if choice.schema_file is not None:
            return ProtobufOfFile(choice.schema_file, choice.message)
        return ProtobufRecords(_required(registry), part)
    return FramedJson(part)


def _require_sense(choice: RecordFormat) -> None:
    if choice.name not in get_args(FormatName):
        raise WrongUse(
            f"There is no format '{choice.name}': the formats are {', '.join(get_args(FormatName))}."
        )
    library = _LIBRARIES.get(choice.name)
    if library is None and choice.schema_file is not None:
        raise WrongUse(f"The format '{choice.name}' takes no schema_file.")
    if choice.message is not None and (choice.name != "protobuf" or choice.schema_file is None):
        raise WrongUse("'message' names a type in the schema_file of the format 'protobuf'.")
    if choice.reader_schema_file is not None and choice.name != "avro":
        raise WrongUse("'reader_schema_file' is for the format 'avro'.")
    if library is not None and not _is_installed(library):
        raise WrongUse(
            f"The format '{choice.name}' needs packages that are not installed: run pip install "
            "'reviewloop[formats]'."
        )


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def _required(registry: SchemaRegistry | None) -> SchemaRegistry:
    if registry is None:
        raise WrongUse(
            "The schema registry of these records is not configured: set REVIEWLOOP_REGISTRY__URL."
        )
    return registry


class FramedJson:
    """The bytes of JSON behind the id of its JSON Schema.

    The schema is not asked for: it would say whether the value is valid, not how to read it, and a mapping
    says what it needs. Such records are read while the registry is unavailable, too.

    Args:
        part: Which part of the record this reads.
    """

    def __init__(self, part: Part) -> None:
        self._part = part

    def __call__(self, raw: bytes, headers: Headers = ()) -> bytes:
        """The bytes that have to be JSON.

        Raises:
            InvalidMessage: If there is no frame.
        """
        if headers and named_by_header(headers, self._part) is not None:
            return raw
        return raw[len(named_by_frame(raw)) :]
