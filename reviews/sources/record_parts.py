"""The parts of one record that paths lead into, beside its value."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from reviews.errors import InvalidMessage, Undecodable
from reviews.record_value import CutBytes

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNREAD = object()

Headers = Sequence[tuple[str, bytes | None]]
Decode = Callable[[bytes, Headers], object]
"""What the bytes of a value or a key say, as plain Python; the headers may name their schema.

Raises InvalidMessage where they cannot be read, and Unavailable where a schema registry does not answer.
"""


class RecordPlace(NamedTuple):
    """What Kafka itself calls a record, for ever: the topic by its id, which no other topic ever has."""

    topic_id: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic_id}:{self.partition}:{self.offset}"


class RawRecord(Protocol):
    """A record as it was delivered, or as a dead letter keeps it."""

    @property
    def key(self) -> bytes | None:
        """Raw bytes."""

    @property
    def value(self) -> bytes | None:
        """Raw bytes; None is a tombstone."""

    @property
    def headers(self) -> Headers:
        """Names and raw values."""


class RecordParts:
    """One record; its key and its headers are decoded when a path asks for them.

    Args:
        record: The record.
        timestamp_ms: Kafka's time of it; below 0 where it has none.
        place: Of the first attempt, where the record is a replay.
        decode_key: Decodes the key.
    """

    __slots__ = ("_decode_key", "_key", "place", "record", "timestamp_ms")

    def __init__(self, record: RawRecord, timestamp_ms: int, place: RecordPlace, decode_key: Decode) -> None:
        self.record = record
        self.timestamp_ms = timestamp_ms
        self.place = place
        self._decode_key = decode_key
        self._key: object = _UNREAD

    def key(self) -> object:
        """The decoded key; None where there is none.

        Raises:
            Undecodable: If it cannot be read.
            Unavailable: If a schema registry does not answer.
        """
        if self._key is _UNREAD:
            raw = self.record.key
            if isinstance(raw, CutBytes):
                raise Undecodable("bad_key", f"The key has {raw.full_bytes:,} bytes, too many to be read.")
            self._key = None if raw is None else decoded(self._decode_key, raw, self.record.headers)
        return self._key

    def header(self, name: str) -> str | None:
        """The last header of this name, as Kafka's own ``lastHeader`` has it; None where there is none.

        Raises:
            InvalidMessage: If it is no text in UTF-8.
        """
        for found, value in reversed(self.record.headers):
            if found == name:
                if isinstance(value, CutBytes):
                    raise InvalidMessage("bad_header", f"The header '{name}' is too long to be read.")
                try:
                    return None if value is None else value.decode()
                except UnicodeDecodeError:
                    raise InvalidMessage("bad_header", f"The header '{name}' is not UTF-8.") from None
        return None

    def moment(self) -> datetime | None:
        """Kafka's time of the record (UTC); None where it has none, or one beyond the year 9999."""
        if self.timestamp_ms < 0:
            return None
        try:
            return _EPOCH + timedelta(milliseconds=self.timestamp_ms)
        except OverflowError:
            return None


def decoded(decode: Decode, raw: bytes, headers: Headers) -> object:
    """The decoded bytes.

    Raises:
        Undecodable: If they cannot be read.
        Unavailable: If a schema registry does not answer.
    """
    try:
        return decode(raw, headers)
    except Undecodable:
        raise
    except InvalidMessage as err:
        raise Undecodable(err.reason, str(err)) from err


def follow(value: object, steps: Sequence[str]) -> Any:
    """What is at the end of these names; None where one of them is missing."""
    for step in steps:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value
