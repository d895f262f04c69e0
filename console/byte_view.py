"""Bytes made visible: as hexadecimal numbers beside the characters they may be, and as text to edit."""

import re
from typing import NamedTuple

from reviews.sanitise import KEPT

_BYTES_A_LINE = 16
_CARRIAGE_RETURNS = re.compile("\r\n?")


class ByteLine(NamedTuple):
    """A few bytes in a row.

    Attributes:
        offset: Of the first one.
        numbers: Two hexadecimal digits for each.
        characters: The printable ASCII characters among them, and points for the others.
        is_marked: Whether the byte that is wrong is among them.
    """

    offset: int
    numbers: str
    characters: str
    is_marked: bool


class EditableText(NamedTuple):
    """A value as text that a person can change and publish as UTF-8.

    Attributes:
        text: Characters that cannot be seen are written as JSON escapes.
        encoding: How the bytes were read: ``utf-8``, or ``windows-1252`` where they are not UTF-8.
    """

    text: str
    encoding: str


def byte_lines(value: bytes, start: int, count: int, mark: int | None = None) -> list[ByteLine]:
    """The bytes from ``start`` on, beginning at a whole line, at most ``count`` of them.

    Args:
        value: All bytes.
        start: Where to begin.
        count: How many.
        mark: The byte that is wrong; None: none.
    """
    first = max(0, start) // _BYTES_A_LINE * _BYTES_A_LINE
    places = range(first, min(len(value), first + count), _BYTES_A_LINE)
    return [_line(value[place : place + _BYTES_A_LINE], place, mark) for place in places]


def first_broken_byte(value: bytes) -> int | None:
    """Where a value stops being UTF-8; None where it is UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError as err:
        return err.start
    return None


def editable(value: bytes) -> EditableText:
    """A value as text to edit."""
    try:
        text, encoding = value.decode().removeprefix("\ufeff"), "utf-8"
    except UnicodeDecodeError:
        text, encoding = value.decode("windows-1252", errors="replace"), "windows-1252"
    return EditableText("".join(map(_shown, _CARRIAGE_RETURNS.sub("\n", text))), encoding)


def edited(text: str) -> bytes:
    """The bytes of an edited text; forms send each line feed as two characters."""
    return _CARRIAGE_RETURNS.sub("\n", text).encode(errors="replace")


def _line(part: bytes, place: int, mark: int | None) -> ByteLine:
    characters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "·" for byte in part)
    return ByteLine(place, part.hex(" "), characters, mark is not None and place <= mark < place + len(part))


def _shown(character: str) -> str:
    if character.isprintable() or character in KEPT:
        return character
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
