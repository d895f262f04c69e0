"""CSV, read strictly: a row that does not fit its header, or an unclosed quote, is an error.

The standard library's reader does the parsing, and not PyArrow's: it says on which line a row begins, it can
be held to a bound, it refuses in strict mode what closes a quote in the middle of a text, it streams from a
pipe, and it needs no optional package.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

from reviews.errors import InvalidMessage
from trainer.data.table_rows import (
    MAX_ROW_CHARACTERS,
    BrokenTable,
    Column,
    TableRow,
    UnreadableTable,
    check_once,
    sound_values,
    unique_names,
)

DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE | re.DOTALL)
_MOST_HEADER_LINES = 100
_OPEN_QUOTE = (
    "A quote is opened in this row and never closed, so that nothing after it was read: close it, or write a "
    "quote inside a quoted text twice."
)
_BAD_QUOTE = (
    "Behind a closing quote there is something else than the end of the cell, so that nothing after it was "
    "read: write a quote inside a quoted text twice."
)


class CsvTable(NamedTuple):
    """A CSV file with its header read.

    Attributes:
        columns: The names in the header.
        delimiter: What is between two cells.
        rows: The rows, as they are read.
    """

    columns: tuple[str, ...]
    delimiter: str
    rows: Iterator[TableRow]


class _Layout(NamedTuple):
    """What the rows are read by.

    Attributes:
        before: How many lines come before the header.
        width: How many cells a row has.
        places: Of the cells that rows have, with their columns' names.
        columns: Those that are wanted.
        delimiter: For messages.
    """

    before: int
    width: int
    places: list[tuple[str, int]]
    columns: Sequence[Column]
    delimiter: str


class _TooLong(Exception):
    """A row is longer than any."""


class _CsvLines:
    """The lines of a text, each as it ends there, of which one row may have so many characters.

    Attributes:
        number: Of the line that was read last.
        may_be_broken: Whether there may be bytes in them that are not UTF-8.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self.may_be_broken = text.errors != "strict"
        self._text = text
        self._left = MAX_ROW_CHARACTERS
        self.number = 0

    def __iter__(self) -> "_CsvLines":
        return self

    def __next__(self) -> str:
        line = self._text.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._left -= len(line)
        if self._left < 0:
            raise _TooLong
        self.number += 1
        return line

    def begin_row(self) -> None:
        """Whatever comes now belongs to another row."""
        self._left = MAX_ROW_CHARACTERS


def open_text(stream: BinaryIO, *, may_be_broken: bool) -> io.TextIOWrapper:
    """The text of a CSV, as it ends its lines.

    Args:
        stream: UTF-8 without a byte order mark.
        may_be_broken: Whether it may have bytes that are none, which are kept then, and looked for.
    """
    return io.TextIOWrapper(stream, "utf-8", "surrogateescape" if may_be_broken else "strict", newline="")


def read_csv(
    text: io.TextIOWrapper, columns: Sequence[Column], delimiter: str | None, *, keep_all: bool
) -> CsvTable:
    """The rows of a CSV.

    Args:
        text: From :func:`open_text`.
        columns: Those that are wanted.
        delimiter: What is between two cells; None: what a line ``sep=;`` says, else the one by which the
            header has most of the wanted columns.
        keep_all: Whether rows have all columns of the file, or the wanted ones alone.

    Raises:
        UnreadableTable: If the header cannot be read, or has a wanted column twice.
    """
    # The standard library's own limit of 131,072 characters is one for all readers of a process.
    csv.field_size_limit(MAX_ROW_CHARACTERS)
    lines = _CsvLines(text)
    header_lines, first, declared = _header(lines)
    if delimiter is None:
        delimiter = declared or _likeliest_delimiter(header_lines, columns)
    reader = csv.reader(chain(header_lines, lines), delimiter=delimiter, strict=True)
    try:
        header = tuple(name.strip() for name in next(reader, []))
    except csv.Error as err:
        raise UnreadableTable(f"its header is no row of a CSV ({err})") from err
    _check_header(header)
    check_once(header, columns)
    places = _places(header, columns, keep_all=keep_all)
    layout = _Layout(first - 1, len(header), places, columns, delimiter)
    return CsvTable(header, delimiter, _rows(reader, lines, layout))


def read_lines(text: io.TextIOWrapper, column: Column) -> Iterator[TableRow]:
    """The lines of a text as the only column of a table; blank ones are none.

    Args:
        text: From :func:`open_text`.
        column: What it is.
    """
    lines = _CsvLines(text)
    while True:
        lines.begin_row()
        try:
            line = next(lines, None)
        except _TooLong as err:
            yield TableRow(lines.number + 1, "line", _broken(err))
            return
        if line is None:
            return
        if line.strip():
            values: dict[str, Any] = {column.name: line.rstrip("\r\n")}
            yield TableRow(lines.number, "line", sound_values(values, [column]))


def _header(lines: _CsvLines) -> tuple[list[str], int, str | None]:
    """The lines of the header, the number of the first, and the delimiter that a line before them names."""
    declared, header, first = None, "", 1
    try:
        for line in lines:
            if not header and not line.strip():
                continue
            named = _SEPARATOR_LINE.fullmatch(line) if not header and declared is None else None
            if named is not None:
                declared = named[1]
                continue
            first = first if header else lines.number
            header += line
            # A name may hold a line break, in quotes.
            if header.count('"') % 2 == 0 or lines.number - first >= _MOST_HEADER_LINES:
                break
    except _TooLong:
        raise UnreadableTable(f"its first row has more than {MAX_ROW_CHARACTERS:,} characters") from None
    return io.StringIO(header, newline="").readlines(), first, declared


def _likeliest_delimiter(header_lines: Sequence[str], columns: Sequence[Column]) -> str:
    def score(delimiter: str) -> tuple[int, int, int]:
        try:
            cells = next(csv.reader(header_lines, delimiter=delimiter, strict=True), [])
        except csv.Error:
            return (-1, -1, -1)
        names = {cell.strip() for cell in cells}
        found = [column for column in columns if column.name in names]
        return sum(column.is_required for column in found), len(found), len(cells)

    return max(DELIMITERS, key=score)  # of equal ones the first


def _check_header(header: Sequence[str]) -> None:
    if any("\x00" in name for name in header):
        raise UnreadableTable(
            "its header has NUL characters, as other files than CSV have, and UTF-16 without its mark "
            "(for which say --encoding utf-16-le)"
        )


def _places(header: Sequence[str], columns: Sequence[Column], *, keep_all: bool) -> list[tuple[str, int]]:
    """Which cell of a row has which name."""
    if keep_all:
        return [(name, place) for place, name in enumerate(unique_names(header))]
    return [(column.name, header.index(column.name)) for column in columns if column.name in header]


def _rows(reader: Any, lines: _CsvLines, layout: _Layout) -> Iterator[TableRow]:
    before, width, places, columns, delimiter = layout
    while True:
        lines.begin_row()
        number = before + reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLong) as err:
            yield TableRow(number, "line", _broken(err))
            return
        if not cells:
            continue  # a blank line is no row
        if len(cells) != width:
            yield TableRow(number, "line", _wrong_width(len(cells), width, delimiter))
            continue
        # CSV knows text only: an empty cell is no value.
        values: dict[str, Any] = {name: cells[place] or None for name, place in places}
        yield TableRow(number, "line", sound_values(values, columns) if lines.may_be_broken else values)


def _broken(err: csv.Error | _TooLong) -> BrokenTable:
    if isinstance(err, _TooLong) or "field larger than" in str(err):
        return BrokenTable(
            "too_long",
            f"The row has more than {MAX_ROW_CHARACTERS:,} characters, so that nothing after it was read: "
            "shorten it, or close the quote that it opens.",
        )
    if "end of data" in str(err):
        return BrokenTable("open_quote", _OPEN_QUOTE)
    return BrokenTable("bad_quote", _BAD_QUOTE)


def _wrong_width(found: int, expected: int, delimiter: str) -> InvalidMessage:
    name = "a tab" if delimiter == "\t" else f"'{delimiter}'"
    return InvalidMessage(
        "wrong_width",
        f"The row has {found} cells and the header {expected}: put a text with {name} or a line break in it "
        "into double quotes.",
    )
