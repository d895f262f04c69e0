"""JSON lines and JSON arrays of objects, read as streams; each object is a row."""

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from reviews.errors import InvalidMessage
from trainer.data.table_rows import (
    MAX_ROW_CHARACTERS,
    BrokenTable,
    TableRow,
    finite_number,
    json_object,
    json_reason,
    refuse_constant,
)

_BLANK = b" \t\r\n"
_CHUNK_BYTES = 64 * 1024


def read_json(stream: BinaryIO) -> Iterator[TableRow]:
    """The rows of JSON lines, or of an array if the first character opens one."""
    number = 0
    while line := stream.readline(MAX_ROW_CHARACTERS + 1):
        number += 1
        if not line.strip(_BLANK):
            continue
        if line.lstrip(_BLANK).startswith(b"["):
            yield from _array_rows(stream, line.lstrip(_BLANK))
        else:
            yield _line_row(stream, number, line)
            yield from _line_rows(stream, number)
        return


def _line_rows(stream: BinaryIO, number: int) -> Iterator[TableRow]:
    while line := stream.readline(MAX_ROW_CHARACTERS + 1):
        number += 1
        if line.strip(_BLANK):
            yield _line_row(stream, number, line)


def _line_row(stream: BinaryIO, number: int, line: bytes) -> TableRow:
    if len(line) <= MAX_ROW_CHARACTERS:
        return TableRow(number, "line", None, line.strip(_BLANK))
    while not line.endswith(b"\n") and (line := stream.readline(MAX_ROW_CHARACTERS)):
        pass
    return TableRow(
        number, "line", InvalidMessage("too_long", f"The line has more than {MAX_ROW_CHARACTERS:,} bytes.")
    )


class _JsonWindow:
    """A part of a long JSON text, from the first character that was not read yet."""

    def __init__(self, stream: BinaryIO, first: bytes) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._scan = json.JSONDecoder(parse_constant=refuse_constant, parse_float=finite_number).raw_decode
        self._text = self._decode(first)
        self._place = 0
        self._is_whole = False

    def next_character(self) -> str:
        """The next one that is no blank, which is not taken; nothing at the end."""
        while True:
            rest = self._text[self._place :].lstrip(" \t\r\n")
            self._place = len(self._text) - len(rest)
            if rest or not self._grow():
                return rest[:1]

    def skip(self) -> None:
        """Take one character."""
        self._place += 1

    def next_value(self) -> object:
        """The value that begins here.

        Raises:
            ValueError: If there is none, or one that is too long; RecursionError if it is nested too deeply.
        """
        while True:
            try:
                value, end = self._scan(self._text, self._place)
            except json.JSONDecodeError:
                if not self._grow():
                    raise
                continue
            if end == len(self._text) and self._grow():
                continue  # a number may go on
            self._place = end
            return value

    def _grow(self) -> bool:
        """Whether there is more to look at now."""
        if self._is_whole:
            return False
        rest = self._text[self._place :]
        if len(rest) > MAX_ROW_CHARACTERS:
            raise ValueError(f"it has more than {MAX_ROW_CHARACTERS:,} characters")
        more = self._stream.read(max(_CHUNK_BYTES, len(rest)))
        self._is_whole = not more
        self._text = rest + self._decode(more, final=self._is_whole)
        self._place = 0
        return bool(more)


def _array_rows(stream: BinaryIO, first: bytes) -> Iterator[TableRow]:
    number = 0
    try:
        window = _JsonWindow(stream, first)
        window.skip()  # the bracket
        if window.next_character() == "]":
            window.skip()
        else:
            for value in _elements(window):
                number += 1
                yield TableRow(number, "row", json_object(value))
        if window.next_character():
            raise ValueError("something follows the end of the array")  # noqa: TRY301  one place tells of it
    except (ValueError, RecursionError) as err:
        reason = "not_utf8" if isinstance(err, UnicodeDecodeError) else "not_json"
        said = f"The array is not JSON from here on ({json_reason(err)}); nothing after it was read."
        yield TableRow(number + 1, "row", BrokenTable(reason, said))


def _elements(window: _JsonWindow) -> Iterator[object]:
    while True:
        window.next_character()  # past the blanks
        yield window.next_value()
        separator = window.next_character()
        if separator not in (",", "]"):
            raise ValueError("a comma or the end of the array is missing")
        window.skip()
        if separator == "]":
            return
