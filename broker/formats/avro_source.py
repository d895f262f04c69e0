"""Readers of flat Avro schemas, written as Python source: twice as fast as one that asks for types.

fastavro asks at each field of each record what its type is. For records of texts, numbers, nulls and times,
which most topics consist of, the answers are written down as a function instead. Such records have no arrays,
maps or types that contain themselves, so none of them can become more than its bytes and its fields.
"""

import datetime as dt
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

FlatReader = Callable[[bytes, int], tuple[Any, int]]
"""The value that is encoded from this offset on, and the offset behind it.

A text that is cut off leads beyond the end of the bytes, which the caller compares.
"""

_MAX_FIELDS = 200
_MAX_LEVELS = 8
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY_ONE: Final = dt.date(1970, 1, 1).toordinal()
_LONGEST_VARINT = 10
# Until 2106 a float of seconds is off by less than half a microsecond, and fromtimestamp takes half the time.
_NEAR = 2**32
_TIMES: Final[Mapping[tuple[str, str | None], str]] = {
    ("long", "timestamp-millis"): (
        f"from_timestamp(n / 1000, UTC) if {-_NEAR * 1000} < n < {_NEAR * 1000} "
        "else EPOCH + timedelta(0, 0, n * 1000)"
    ),
    ("long", "timestamp-micros"): (
        f"from_timestamp(n / 1000000, UTC) if {-_NEAR * 10**6} < n < {_NEAR * 10**6} "
        "else EPOCH + timedelta(0, 0, n)"
    ),
    ("int", "date"): "from_ordinal(n + DAY_ONE)",
}


class NotFlat(Exception):
    """The schema has something that is not written down here."""


def varint(raw: bytes, at: int) -> tuple[int, int]:
    """The unsigned number of at most 64 bits whose first byte, at the offset before this one, is above 127.

    Raises:
        ValueError: If it does not end.
    """
    number = raw[at - 1] & 0x7F
    for place in range(1, _LONGEST_VARINT):
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number does not end")


def reader_source(schema: Any, named: Mapping[str, Any]) -> str:
    """The source of ``read(raw, at)``, which returns a value and the offset behind it.

    Args:
        schema: As fastavro parsed it.
        named: The definitions of the types that it names.

    Raises:
        NotFlat: If the schema has arrays, maps, types that contain themselves, or other logical types.
    """
    lines = _Writer(named).lines(schema, "value", 0)
    body = "\n".join(f"    {line}" for line in lines)
    return f"def read(raw, at):\n{body}\n    return value, at\n"


def flat_reader(schema: Any, named: Mapping[str, Any]) -> FlatReader | None:
    """A function that reads records of a schema; None where that is not flat."""
    try:
        source = reader_source(schema, named)
    except NotFlat:
        return None
    names: dict[str, Any] = {
        "DAY_ONE": _DAY_ONE,
        "EPOCH": _EPOCH,
        "UTC": dt.UTC,
        "double": struct.Struct("<d").unpack_from,
        "from_ordinal": dt.date.fromordinal,
        "from_timestamp": dt.datetime.fromtimestamp,
        "single": struct.Struct("<f").unpack_from,
        "timedelta": dt.timedelta,
        "varint": varint,
    }
    # What comes from the schema is in the source as literals alone: names of fields, symbols, sizes.
    exec(compile(source, "<avro schema>", "exec"), names)  # noqa: S102
    read: FlatReader = names["read"]
    return read


class _Writer:
    """Writes the lines that read one value into a variable."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named
        self._fields = 0

    def lines(self, schema: Any, target: str, level: int) -> Iterator[str]:
        if isinstance(schema, list):
            yield from self._union(schema, target, level)
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        logical = schema.get("logicalType") if isinstance(schema, dict) else None
        if kind in self._named and kind not in _PRIMITIVES:
            yield from self.lines(self._named[kind], target, level + 1)
        elif kind == "record" and level < _MAX_LEVELS:
            yield from self._record(schema, target, level)
        elif kind == "enum":
            yield from _number("n")
            yield "if n & 1: raise ValueError"
            yield f"{target} = {tuple(schema['symbols'])!r}[n >> 1]"
        elif kind == "fixed" and logical is None:
            yield f"{target} = raw[at:at + {int(schema['size'])}]; at += {int(schema['size'])}"
        elif (kind, logical) in _TIMES:
            yield from _integer("n")
            yield f"{target} = {_TIMES[kind, logical]}"
        elif kind in _PRIMITIVES and logical is None:
            yield from _PRIMITIVES[kind](target)
        else:
            raise NotFlat

    def _record(self, schema: Any, target: str, level: int) -> Iterator[str]:
        values = []
        for field in schema["fields"]:
            self._fields += 1
            if self._fields > _MAX_FIELDS:
                raise NotFlat
            values.append((field["name"], f"f{self._fields}"))
            yield from self.lines(field["type"], values[-1][1], level + 1)
        inside = ", ".join(f"{name!r}: {variable}" for name, variable in values)
        yield f"{target} = {{{inside}}}"

    def _union(self, branches: list[Any], target: str, level: int) -> Iterator[str]:
        if not branches or level >= _MAX_LEVELS:
            raise NotFlat
        yield from _number("b")
        for index, branch in enumerate(branches):
            yield f"{'el' if index else ''}if b == {2 * index}:"
            yield from (f"    {line}" for line in self.lines(branch, target, level + 1))
        yield "else: raise ValueError"


def _number(variable: str) -> Iterator[str]:
    """Reads a number as it is encoded, zigzag; without a call where it has one byte or two."""
    yield f"{variable} = raw[at]; at += 1"
    yield f"if {variable} > 127:"
    yield "    more = raw[at]"
    yield f"    if more > 127: {variable}, at = varint(raw, at)"
    yield f"    else: {variable} += (more << 7) - 128; at += 1"


def _integer(target: str) -> Iterator[str]:
    yield from _number("n")
    yield f"{target} = (n >> 1) ^ -(n & 1)"


def _piece(target: str, ending: str) -> Iterator[str]:
    yield from _number("n")
    yield "if n & 1: raise ValueError"
    yield "end = at + (n >> 1)"
    yield f"{target} = raw[at:end]{ending}; at = end"


_PRIMITIVES: Final[Mapping[str, Callable[[str], Iterator[str]]]] = {
    "null": lambda target: iter([f"{target} = None"]),
    "boolean": lambda target: iter([f"{target} = raw[at] != 0; at += 1"]),
    "int": _integer,
    "long": _integer,
    "float": lambda target: iter([f"{target} = single(raw, at)[0]; at += 4"]),
    "double": lambda target: iter([f"{target} = double(raw, at)[0]; at += 8"]),
    "bytes": lambda target: _piece(target, ""),
    "string": lambda target: _piece(target, ".decode()"),
}
