"""Which schema a record was written with: the frame in front of its value, or a header.

Confluent's framing (https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop):
``0x00`` and the schema's id in 4 bytes, big-endian; or ``0x01`` and its GUID in 16 bytes, as newer publishers
write it into a header. In Protobuf, the indexes that lead to the message's type in its file follow.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Literal, TypeVar
from uuid import UUID

from broker.formats.registry import Schema, SchemaRegistry
from reviews.errors import InvalidMessage

Headers = Sequence[tuple[str, bytes | None]]
Part = Literal["value", "key"]
Reader = Callable[[bytes, int], Any]
"""The value that is encoded in these bytes from this offset on, to their very end."""

ID_BYTES: Final = 5
GUID_BYTES: Final = 17
_MAX_INDEXES = 32
_LONGEST_VARINT = 5
_KEPT = 1_000
_KEPT_REFUSALS = 10_000
_REFUSED_SECONDS = 30.0

_Made = TypeVar("_Made")


def named_by_header(headers: Headers, part: Part) -> bytes | None:
    """The id that a header names, with what follows it there; None without such a header.

    Raises:
        InvalidMessage: If the header's value is no id.
    """
    for name, value in headers:
        if name == f"__{part}_schema_id":
            return _whole(value or b"", f"the header {name}")
    return None


def named_by_frame(raw: bytes) -> bytes:
    """The id at the beginning of a record's value.

    Raises:
        InvalidMessage: If there is none.
    """
    if raw[:1] == b"\x00":
        return _whole(raw, "the frame")[:ID_BYTES]
    if raw[:1] == b"\x01":
        return _whole(raw, "the frame")[:GUID_BYTES]
    raise InvalidMessage("not_framed", f"The record does not begin with the id of a schema{_hint(raw)}.")


def _hint(raw: bytes) -> str:
    """What it may be instead."""
    if raw[:1] in {b"{", b"["}:
        return "; it begins like JSON, whose format is 'json'"
    if raw[:4] == b"Obj\x01":
        return "; it begins like an Avro file, which holds many records"
    return " (0x00 and 4 bytes); without a registry, name the schema_file of the source"


def _whole(named: bytes, where: str) -> bytes:
    needed = {0: ID_BYTES, 1: GUID_BYTES}.get(named[0]) if named else None
    if needed is None or len(named) < needed:
        raise InvalidMessage(
            "bad_frame", f"The id of the schema in {where} is cut off or of an unknown kind."
        )
    return named


def look_up(registry: SchemaRegistry, named: bytes, kind: str) -> Schema:
    """The schema that an id in a frame or a header names.

    Args:
        registry: Where to ask.
        named: At least the bytes of the id.
        kind: What it has to be: ``AVRO`` or ``PROTOBUF``.

    Raises:
        InvalidMessage: If there is none, or one of another kind.
        Unavailable: If the registry does not answer now.
    """
    if named[0] == 0:
        schema = registry.by_id(int.from_bytes(named[1:ID_BYTES], "big"))
    else:
        schema = registry.by_guid(UUID(bytes=named[1:GUID_BYTES]))
    if schema.kind != kind:
        found = schema.kind if schema.kind in {"AVRO", "PROTOBUF", "JSON"} else "unknown"
        raise InvalidMessage(
            "other_format", f"The schema that the record names is of the type {found}, not {kind}."
        )
    return schema


def id_bytes(named: bytes) -> int:
    """How many bytes the id takes at the beginning of a frame or a header."""
    return ID_BYTES if named[0] == 0 else GUID_BYTES


def read_indexes(raw: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """The indexes that lead to a message's type in its file, and the offset behind them.

    A count and that many numbers, as zigzag varints; a count of 0 stands for the first message.

    Raises:
        InvalidMessage: If they are cut off, too many or negative.
    """
    count, at = _zigzag(raw, at)
    if count == 0:
        return (0,), at
    if not 0 < count <= _MAX_INDEXES:
        raise _bad_indexes()
    indexes = []
    for _ in range(count):
        index, at = _zigzag(raw, at)
        if index < 0:
            raise _bad_indexes()
        indexes.append(index)
    return tuple(indexes), at


def _zigzag(raw: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(raw[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + place + 1
    raise _bad_indexes()


def _bad_indexes() -> InvalidMessage:
    return InvalidMessage("bad_frame", "The indexes of the message's type in the frame cannot be read.")


class Prepared(Generic[_Made]):
    """What was made of each schema, and for a while why there is nothing to be made of others.

    Args:
        make: Makes it from the bytes that name the schema.
        clock: Seconds of a monotonic clock.

    Attributes:
        ready: What was made, by these bytes; for a caller that looks here first.
    """

    def __init__(self, make: Callable[[bytes], _Made], clock: Callable[[], float] = time.monotonic) -> None:
        self.ready: dict[bytes, _Made] = {}
        self._make = make
        self._clock = clock
        self._refused: dict[bytes, tuple[float, str, str]] = {}

    def of(self, named: bytes) -> _Made:
        """What was made of this schema, now or before.

        Raises:
            InvalidMessage: If nothing can be made of it.
            Unavailable: If the registry does not answer now.
        """
        found = self.ready.get(named)
        if found is not None:
            return found
        until, reason, said = self._refused.get(named, (0.0, "", ""))
        if self._clock() < until:
            raise InvalidMessage(reason, said)
        try:
            made = self._make(named)
        except InvalidMessage as err:
            _keep(
                self._refused, named, (self._clock() + _REFUSED_SECONDS, err.reason, str(err)), _KEPT_REFUSALS
            )
            raise
        self._refused.pop(named, None)
        _keep(self.ready, named, made, _KEPT)
        return made


def _keep(kept: dict[bytes, _Made], named: bytes, value: _Made, most: int) -> None:
    kept.pop(named, None)
    while len(kept) >= most:
        del kept[next(iter(kept))]
    kept[named] = value


class UnframedRecords:
    """Reads records that have no frame, all by one reader."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    def __call__(self, raw: bytes, headers: Headers = ()) -> Any:
        """The value.

        Raises:
            InvalidMessage: If it cannot be read.
        """
        del headers
        return self._read(raw, 0)


class FramedRecords:
    """Reads records whose frame or header names their schema, by a reader that is made once for each name.

    Args:
        part: Which part of the record this reads.
        make: Makes the reader from the bytes that name the schema.
        usual_bytes: So many bytes name the schema of most records.
        end_of_name: Where the name ends, from the bytes that begin with an id and the offset behind the id.
    """

    def __init__(
        self,
        part: Part,
        make: Callable[[bytes], Reader],
        usual_bytes: int = ID_BYTES,
        end_of_name: Callable[[bytes, int], int] = lambda _, at: at,
    ) -> None:
        self._part = part
        self._prepared = Prepared(make)
        self._ready = self._prepared.ready
        self._usual_bytes = usual_bytes
        self._end_of_name = end_of_name

    def __call__(self, raw: bytes, headers: Headers = ()) -> Any:
        """The value.

        Raises:
            InvalidMessage: If it cannot be read.
            Unavailable: If its schema is not known yet and the registry does not answer.
        """
        if headers:
            named = named_by_header(headers, self._part)
            if named is not None:
                return self._prepared.of(named[: self._end_of_name(named, id_bytes(named))])(raw, 0)
        read = self._ready.get(raw[: self._usual_bytes])
        if read is not None:
            return read(raw, self._usual_bytes)
        end = self._end_of_name(raw, len(named_by_frame(raw)))
        return self._prepared.of(raw[:end])(raw, end)
