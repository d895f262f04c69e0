"""One record through the mapping of one source."""

import json
from typing import Any, NamedTuple

from reviews.dead_letter import RecordHeaders
from reviews.sources.mapping import Mapped, SourceMapping
from reviews.sources.record_parts import RecordPlace
from reviews.sources.settings import SourceSettings

PLACE = RecordPlace("AAAAAAAAAAAAAAAAAAAAAA", 3, 42)
LIMIT = 1_000_000


class Raw(NamedTuple):
    """A record."""

    value: bytes | None
    key: bytes | None = None
    headers: RecordHeaders = ()


def read(
    source: dict[str, Any],
    value: Any,
    key: bytes | None = None,
    headers: RecordHeaders = (),
    timestamp_ms: int = 1_769_860_800_000,
) -> Mapped:
    """What a source makes of a record; a value that is neither bytes nor None is written as JSON."""
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    mapping = SourceMapping(SourceSettings.model_validate({"topic": "t", **source}), LIMIT)
    return mapping.read(Raw(raw, key, headers), timestamp_ms, PLACE)


def read_decoded(source: dict[str, Any], value: object, key: bytes | None = None) -> Mapped:
    """The same of a value that a decoder of a binary format made."""
    settings = SourceSettings.model_validate({"topic": "t", "format": "avro", **source})
    mapping = SourceMapping(
        settings, LIMIT, lambda _raw, _headers: value, lambda raw, _headers: json.loads(raw)
    )
    return mapping.read(Raw(b"\x00", key), -1, PLACE)
