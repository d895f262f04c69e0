"""Wiring of sources: their decoders, the schema registry, and the mapping of each topic."""

from collections.abc import Callable
from functools import cache

from broker.formats.decoding import FormatName, RecordFormat, needs_registry, open_decoder
from broker.formats.registry import SchemaRegistry
from broker.formats.settings import RegistrySettings
from console.source_trial import SourceTrier
from reviewloop.settings import Settings
from reviews.errors import InvalidMessage
from reviews.sources.record_parts import Decode
from reviews.sources.settings import Format, SourceSettings
from reviews.sources.topics import Decoders, TopicMappings

_DECODED: dict[Format, FormatName] = {"json-schema": "json-schema", "avro": "avro", "protobuf": "protobuf"}
"""Formats that a mapping does not read by itself."""
Registry = Callable[[], SchemaRegistry]
Note = Callable[[Exception | None], None]
_KINDS: dict[str, Format] = {"AVRO": "avro", "PROTOBUF": "protobuf", "JSON": "json-schema"}


def open_mappings(settings: Settings, note: Note = lambda _: None) -> TopicMappings:
    """How the records of each topic are read.

    Args:
        settings: All settings.
        note: Told of each failed attempt to ask the schema registry, and with None of each that succeeded.

    Raises:
        WrongUse: If a source needs a library, a file or a registry that is not there.
    """
    return TopicMappings(settings.sources, settings.consumer.max_message_bytes, _decoders(settings, note))


def open_trier(settings: Settings) -> SourceTrier:
    """What tries sources on live records."""
    return SourceTrier(
        settings.kafka,
        settings.consumer.max_message_bytes,
        _decoders(settings, lambda _: None),
        lambda number: _schema_kind(settings.registry, number),
    )


def _decoders(settings: Settings, note: Note) -> Decoders:
    """What makes the decoders of a source; the registry is opened when one of them needs it."""
    pause_seconds = settings.consumer.retry_max_seconds
    registry = cache(
        lambda: SchemaRegistry(settings.registry, longest_pause_seconds=pause_seconds, note=note)
    )

    def of(source: SourceSettings) -> tuple[Decode | None, Decode | None]:
        return _value_decoder(source, registry), _key_decoder(source, registry)

    return of


def _value_decoder(source: SourceSettings, registry: Registry) -> Decode | None:
    if (name := _DECODED.get(source.value_format)) is None:
        return None
    choice = RecordFormat(name, source.schema_file, source.message, source.reader_schema_file)
    return open_decoder(choice, registry() if needs_registry(choice) else None, "value")


def _key_decoder(source: SourceSettings, registry: Registry) -> Decode | None:
    """Of keys: always by the registry, since a schema file is of the values."""
    if (name := _DECODED.get(source.keys_format)) is None:
        return None
    choice = RecordFormat(name)
    return open_decoder(choice, registry() if needs_registry(choice) else None, "key")


def _schema_kind(settings: RegistrySettings, number: int) -> Format | None:
    """The format of the schema with this number; None where no registry is configured, or it has none."""
    if settings.url is None:
        return None
    try:
        return _KINDS.get(SchemaRegistry(settings).by_id(number).kind)
    except InvalidMessage:
        return None
