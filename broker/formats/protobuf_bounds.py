"""How much memory a Protobuf record may take, and a careful walk over those that could take more.

protobuf makes a whole object of every message within a message, two bytes each where it is empty. A record
that could go beyond :data:`~broker.formats.avro_bounds.MAX_DECODED_BYTES` that way is walked before it is
parsed, with nothing kept. protobuf itself limits how deeply messages are nested.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from broker.formats.avro_bounds import MAX_DECODED_BYTES
from reviews.errors import InvalidMessage

MAX_DEPTH: Final = 100

# What protobuf and CPython take together: an object and its dictionary, each of its fields, an item.
_MESSAGE_BYTES = 256
_FIELD_BYTES = 128
_ITEM_BYTES = 96
_LONGEST_VARINT = 10
_VARINT, _EIGHT_BYTES, _LENGTH, _GROUP, _END, _FOUR_BYTES = range(6)
_HEADER_BYTES = 2
"""The fewest bytes of a message within a message: its field's number and its length."""


@dataclass(slots=True)
class MessageShape:
    """What a walk needs to know of a type of message.

    Attributes:
        held: About the most bytes of memory of a message, without those within it and without its texts.
        messages: The types of its fields that are messages, by the fields' numbers.
        lists: The numbers of its fields that are lists of numbers or texts, and whether many items may share
            one length.
    """

    held: int
    messages: "dict[int, MessageShape]" = field(default_factory=dict)
    lists: dict[int, bool] = field(default_factory=dict)


class ProtobufBounds:
    """What messages of one type can become.

    Args:
        shape: Of the type.
        growth: About the most bytes of memory for each byte.
    """

    def __init__(self, shape: MessageShape, growth: float) -> None:
        self._shape = shape
        self._growth = growth

    def needs_walk(self, encoded_bytes: int) -> bool:
        """Whether a message of so many bytes has to be walked before it is parsed."""
        return self._growth * encoded_bytes > MAX_DECODED_BYTES

    def walk(self, raw: bytes) -> None:
        """Walk over a message.

        Raises:
            InvalidMessage: If it cannot be parsed, is nested too deeply, or would take too much memory.
        """
        _Walk(raw).message(self._shape, 0, len(raw), 0)


def bounds_of(descriptor: Any) -> ProtobufBounds:
    """The bounds of a type of message.

    Raises:
        InvalidMessage: If one message takes too much already.
    """
    shapes: dict[str, MessageShape] = {}
    shape = _shape_of(descriptor, shapes)
    if shape.held > MAX_DECODED_BYTES:
        raise InvalidMessage(
            "bad_schema",
            "The record's Protobuf schema cannot be used: each record would take too much memory.",
        )
    within = {id(inner): inner for one in shapes.values() for inner in one.messages.values()}
    growth = max((inner.held / _HEADER_BYTES for inner in within.values()), default=0.0)
    if any(one.lists for one in shapes.values()):
        growth = max(growth, float(_ITEM_BYTES))
    return ProtobufBounds(shape, growth)


def _shape_of(descriptor: Any, shapes: dict[str, MessageShape]) -> MessageShape:
    """The shape of a type and of all types within it, without recursion: names can chain without a limit."""
    waiting = [descriptor]
    while waiting:
        current = waiting.pop()
        shape = shapes.setdefault(current.full_name, MessageShape(0))
        if shape.held:
            continue
        shape.held = _MESSAGE_BYTES + _FIELD_BYTES * len(current.fields)
        for one in current.fields:
            if one.message_type is not None:
                shape.messages[one.number] = shapes.setdefault(one.message_type.full_name, MessageShape(0))
                waiting.append(one.message_type)
            elif one.is_repeated:
                shape.lists[one.number] = one.type not in {one.TYPE_STRING, one.TYPE_BYTES}
    return shapes[descriptor.full_name]


class _Walk:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._left = MAX_DECODED_BYTES

    def message(self, shape: MessageShape | None, at: int, end: int, depth: int, group: int = 0) -> int:
        """Walk over the fields up to the end, or to the end of a group; the offset behind them."""
        if depth > MAX_DEPTH:
            raise InvalidMessage("too_deep", f"The record is nested deeper than {MAX_DEPTH} levels.")
        while at < end:
            tag, at = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            if kind == _END:
                if number != group:
                    raise _unreadable()
                return at
            inner = shape.messages.get(number) if shape else None
            if kind == _GROUP:
                self._take(inner.held if inner else _MESSAGE_BYTES)
                at = self.message(inner, at, end, depth + 1, number)
            elif kind == _LENGTH:
                length, at = self._varint(at, end)
                behind = self._moved(at, length, end)
                if inner is not None:
                    self._take(inner.held)
                    self.message(inner, at, behind, depth + 1)
                else:
                    self._take_items(shape, number, length)
                at = behind
            else:
                self._take_items(shape, number, 1)
                at = self._number(kind, at, end)
        if group:
            raise _unreadable()
        return at

    def _take_items(self, shape: MessageShape | None, number: int, most: int) -> None:
        """Account for the items of a list, of which there may be so many where they share one length."""
        if shape and number in shape.lists:
            self._take(_ITEM_BYTES * (most if shape.lists[number] else 1))

    def _number(self, kind: int, at: int, end: int) -> int:
        if kind == _VARINT:
            return self._varint(at, end)[1]
        if kind not in {_EIGHT_BYTES, _FOUR_BYTES}:
            raise _unreadable()
        return self._moved(at, 8 if kind == _EIGHT_BYTES else 4, end)

    def _take(self, held_bytes: int) -> None:
        self._left -= held_bytes
        if self._left < 0:
            raise InvalidMessage(
                "too_large",
                f"What the record holds would take more than {MAX_DECODED_BYTES:,} bytes of memory.",
            )

    def _moved(self, at: int, count: int, end: int) -> int:
        if count > end - at:
            raise _unreadable()
        return at + count

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        number = 0
        for place, byte in enumerate(self._raw[at : min(at + _LONGEST_VARINT, end)]):
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return number, at + place + 1
        raise _unreadable()


def _unreadable() -> InvalidMessage:
    return InvalidMessage(
        "bad_protobuf", "The record cannot be read: it was not written with the schema that it names."
    )
