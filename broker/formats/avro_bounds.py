"""How much memory a record of an Avro schema may take, and a careful walk over those that could take more.

A few bytes can claim an array of a billion nulls, or a list that is nested a million times. What a schema
allows is computed once; a record that could go beyond :data:`MAX_DECODED_BYTES` is walked, field by field and
with nothing kept, before anything is made of it. Most schemas allow nothing of the kind, and their records
cost one comparison.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from reviews.errors import InvalidMessage

MAX_DECODED_BYTES: Final = 64 * 1024 * 1024
"""About how much memory what was made of one record may take, beside its texts."""
MAX_DEPTH: Final = 64

# What CPython takes: a container of its own, a slot of it, and a value in it.
_CONTAINER_BYTES = 64
_SLOT_BYTES = 96
_ITEM_BYTES = 64
_LONGEST_VARINT = 10
_FAST_DECIMAL_BYTES = 4_096
_MAX_DECIMAL_BYTES = 1_024
_FIXED_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_VARIABLE = {"int", "long", "string", "bytes", "enum"}


class ValueSize(NamedTuple):
    """What the values of a type take.

    Attributes:
        least: The fewest bytes that a value is encoded in.
        held: About the most bytes of memory that a value takes, without its texts and without items.
        levels: How many records, arrays and maps are nested, without what contains itself.
    """

    least: int
    held: int
    levels: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the records of one schema can become.

    Attributes:
        held: About the most bytes of memory of a record without items.
        growth: About the most bytes of memory for each byte of items; infinite where items may take no byte.
        is_recursive: Whether a type contains itself.
        has_decimals: Whether there are decimals of any length, which take long to convert.
        skip: Walks over one value.
    """

    held: int
    growth: float
    is_recursive: bool
    has_decimals: bool
    skip: "Skip"

    def needs_walk(self, encoded_bytes: int) -> bool:
        """Whether a record of so many bytes has to be walked before it is read."""
        return (
            self.is_recursive
            or self.held + self.growth * encoded_bytes > MAX_DECODED_BYTES
            or (self.has_decimals and encoded_bytes > _FAST_DECIMAL_BYTES)
        )

    def walk(self, raw: bytes, at: int) -> None:
        """Walk over a record.

        Raises:
            InvalidMessage: If it is cut off, nested too deeply, or would take too much memory.
        """
        self.skip(Walk(raw, at))


def bounds_of(schema: Any, named: Mapping[str, Any]) -> Bounds:
    """The bounds of a schema.

    Args:
        schema: As fastavro parsed it.
        named: The definitions of the types that it names.

    Raises:
        InvalidMessage: If the smallest record takes too much already, or types are nested too deeply.
    """
    survey = _Survey(named)
    size = survey.size(schema, 0)
    if size.held > MAX_DECODED_BYTES:
        raise InvalidMessage(
            "bad_schema", "The record's Avro schema cannot be used: each record would take too much memory."
        )
    skips = _Skips(named)
    return Bounds(size.held, survey.growth, survey.is_recursive, survey.has_decimals, skips.of(schema))


def _kind(schema: Any) -> str:
    """The kind of a schema: ``union``, a primitive or complex type, or the name of a defined type."""
    if isinstance(schema, list):
        return "union"
    kind = schema["type"] if isinstance(schema, dict) else schema
    return kind if isinstance(kind, str) else "nested"


class _Survey:
    """Computes sizes; each named type once, or a few lines could stand for a billion fields."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._known: dict[str, ValueSize | None] = {}
        self.growth = 0.0
        self.is_recursive = False
        self.has_decimals = False
        self._complex: dict[str, Callable[[Any, int], ValueSize]] = {
            "nested": lambda schema, depth: self.size(schema["type"], depth + 1),
            "union": self._union,
            "array": lambda schema, depth: self._items(self.size(schema["items"], depth + 1), 0),
            "map": lambda schema, depth: self._items(self.size(schema["values"], depth + 1), 1),
            "record": self._record,
            "error": self._record,
            "fixed": lambda schema, _: self._fixed(schema),
        }

    def size(self, schema: Any, depth: int) -> ValueSize:
        if depth > MAX_DEPTH * 3:
            raise _nested_too_deeply()
        kind = _kind(schema)
        complex_type = self._complex.get(kind)
        return complex_type(schema, depth) if complex_type else self._simple(schema, kind, depth)

    def _simple(self, schema: Any, kind: str, depth: int) -> ValueSize:
        if kind in _FIXED_SIZES:
            return ValueSize(_FIXED_SIZES[kind], _ITEM_BYTES)
        if kind in _VARIABLE:
            if kind == "bytes" and isinstance(schema, dict) and schema.get("logicalType") == "decimal":
                self.has_decimals = True
            return ValueSize(1, _ITEM_BYTES)
        return self._reference(kind, depth)

    def _fixed(self, schema: Any) -> ValueSize:
        count: int = schema["size"]
        if schema.get("logicalType") == "decimal" and count > _MAX_DECIMAL_BYTES:
            raise InvalidMessage(
                "bad_schema", "The record's Avro schema cannot be used: it has a decimal that is too long."
            )
        return ValueSize(count, _ITEM_BYTES + count)

    def _reference(self, name: str, depth: int) -> ValueSize:
        found = self._known.get(name)
        if found is not None:
            return found
        if name in self._known:  # it is being computed
            self.is_recursive = True
            return ValueSize(0, 0)
        return self.size(self._named[name], depth + 1)

    def _record(self, schema: Any, depth: int) -> ValueSize:
        name = schema["name"]
        found = self._known.get(name)
        if found is not None:
            return found
        self._known[name] = None
        fields = [self.size(field["type"], depth + 1) for field in schema["fields"]]
        held = sum(field.held + _SLOT_BYTES for field in fields)
        levels = _one_more(fields)
        size = ValueSize(sum(field.least for field in fields), _CONTAINER_BYTES + held, levels)
        self._known[name] = size
        return size

    def _union(self, branches: list[Any], depth: int) -> ValueSize:
        sizes = [self.size(branch, depth + 1) for branch in branches]
        least = min((size.least for size in sizes), default=0)
        held = max((size.held for size in sizes), default=0)
        return ValueSize(1 + least, held, max((size.levels for size in sizes), default=0))

    def _items(self, item: ValueSize, key_bytes: int) -> ValueSize:
        least = item.least + key_bytes
        grows = (item.held + _SLOT_BYTES) / least if least else float("inf")
        self.growth = max(self.growth, grows)
        return ValueSize(1, _CONTAINER_BYTES, _one_more([item]))


def _one_more(inner: list[ValueSize]) -> int:
    levels = 1 + max((size.levels for size in inner), default=0)
    if levels > MAX_DEPTH:
        raise _nested_too_deeply()
    return levels


def _nested_too_deeply() -> InvalidMessage:
    return InvalidMessage(
        "bad_schema", f"The record's Avro schema cannot be used: types are nested deeper than {MAX_DEPTH}."
    )


class Walk:
    """One walk over the bytes of a record.

    Attributes:
        raw: The bytes.
        at: The offset of the next value.
        left: How many bytes of memory its values may still take.
        depth: How deeply it is nested here.
    """

    __slots__ = ("at", "depth", "left", "raw")

    def __init__(self, raw: bytes, at: int) -> None:
        self.raw = raw
        self.at = at
        self.left = MAX_DECODED_BYTES
        self.depth = 0

    def take(self, held_bytes: int) -> None:
        """Account for values before they are walked."""
        self.left -= held_bytes
        if self.left < 0:
            raise InvalidMessage(
                "too_large",
                f"What the record holds would take more than {MAX_DECODED_BYTES:,} bytes of memory.",
            )

    def move(self, count: int) -> None:
        """Go on behind so many bytes."""
        if not 0 <= count <= len(self.raw) - self.at:
            raise _cut_off()
        self.at += count

    def number(self) -> int:
        """The next whole number, a zigzag varint."""
        number = 0
        for place, byte in enumerate(self.raw[self.at : self.at + _LONGEST_VARINT]):
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                self.at += place + 1
                return (number >> 1) ^ -(number & 1)
        raise _cut_off()

    def enter(self) -> None:
        """Go a level deeper."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InvalidMessage("too_deep", f"The record is nested deeper than {MAX_DEPTH} levels.")


Skip = Callable[[Walk], None]
"""Moves a walk behind one value."""


def _cut_off() -> InvalidMessage:
    return InvalidMessage(
        "bad_avro", "The record is cut off: it was not written with the schema that it names."
    )


class _Skips:
    """Makes the functions that walk over the values of types, each named type once."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._records: dict[str, Skip] = {}
        self._complex: dict[str, Callable[[Any], Skip]] = {
            "nested": lambda schema: self.of(schema["type"]),
            "union": lambda schema: _skip_union([self.of(branch) for branch in schema]),
            "array": lambda schema: _skip_items(self.of(schema["items"]), has_keys=False),
            "map": lambda schema: _skip_items(self.of(schema["values"]), has_keys=True),
            "record": self._record,
            "error": self._record,
            "fixed": lambda schema: _skip_bytes(schema["size"]),
        }

    def of(self, schema: Any) -> Skip:
        kind = _kind(schema)
        complex_type = self._complex.get(kind)
        if complex_type:
            return complex_type(schema)
        if kind in _FIXED_SIZES:
            return _skip_bytes(_FIXED_SIZES[kind])
        if kind not in _VARIABLE:
            return self.of(self._named[kind])
        if kind not in {"string", "bytes"}:
            return _skip_number
        is_decimal = isinstance(schema, dict) and schema.get("logicalType") == "decimal"
        return _skip_decimal if is_decimal else _skip_text

    def _record(self, schema: Any) -> Skip:
        name = schema["name"]
        if name in self._records:
            return self._records[name]
        fields: list[Skip] = []
        held_bytes = _CONTAINER_BYTES + _SLOT_BYTES * len(schema["fields"])

        def skip(walk: Walk) -> None:
            walk.take(held_bytes)
            walk.enter()
            for field in fields:
                field(walk)
            walk.depth -= 1

        self._records[name] = skip
        fields += [self.of(field["type"]) for field in schema["fields"]]
        return skip


def _skip_bytes(count: int) -> Skip:
    return lambda walk: walk.move(count)


def _skip_number(walk: Walk) -> None:
    walk.number()


def _skip_text(walk: Walk) -> None:
    walk.move(walk.number())


def _skip_decimal(walk: Walk) -> None:
    count = walk.number()
    if count > _MAX_DECIMAL_BYTES:
        raise InvalidMessage(
            "too_large", f"A decimal of the record has more than {_MAX_DECIMAL_BYTES:,} bytes."
        )
    walk.move(count)


def _skip_union(branches: list[Skip]) -> Skip:
    def skip(walk: Walk) -> None:
        index = walk.number()
        if not 0 <= index < len(branches):
            raise _cut_off()
        branches[index](walk)

    return skip


def _skip_items(item: Skip, *, has_keys: bool) -> Skip:
    def skip(walk: Walk) -> None:
        walk.take(_CONTAINER_BYTES)
        walk.enter()
        while count := walk.number():
            if count < 0:
                count = -count
                walk.number()  # how many bytes the block has
            walk.take(count * _ITEM_BYTES)
            for _ in range(count):
                if has_keys:
                    _skip_text(walk)
                item(walk)
        walk.depth -= 1

    return skip
