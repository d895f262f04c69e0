"""Reviews in files: CSV with a header, or JSON lines; every row becomes a message or a named mistake."""

import csv
import gzip
import json
import re
import sys
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from io import BufferedIOBase, TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from pydantic_core import PydanticSerializationError, to_json

from reviews.errors import InvalidMessage, WrongUse
from reviews.message import ReviewMessage, parse_review, review_from_fields

if TYPE_CHECKING:
    from _csv import Reader as _CsvReader

_BOM = b"\xef\xbb\xbf"
_LINE_BREAK = re.compile("\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column or field holds what; a missing optional one is simply not set."""

    id: str = "id"
    text: str = "text"
    product: str = "product"
    source: str = "source"
    published_at: str = "published_at"
    stars: str = "stars"


_FIELDS = tuple(field.name for field in fields(Columns))


class FileRow(NamedTuple):
    """One row: its number in the file (1 is the first line), and the message's bytes or the mistake."""

    line: int
    message: ReviewMessage | None
    raw: bytes
    mistake: InvalidMessage | None


@contextmanager
def open_reviews(file: Path, columns: Columns) -> Iterator[Iterator[FileRow]]:
    """The rows of a file; ``-`` is standard input, read as JSON lines.

    A row without an id gets the file's name and its line as one, so that rows of two files never replace
    each other, and publishing a file again replaces its own.

    Raises:
        WrongUse: Also from the rows, if the file cannot be read, is of no known kind or lacks a column.
    """
    if str(file) == "-":
        yield _reading(file, _json_rows(sys.stdin.buffer, columns, "stdin"))
        return
    suffixes = [suffix for suffix in file.suffixes if suffix != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    if kind not in readers:
        raise WrongUse(
            f"{file} is of no known kind: give .csv, .jsonl or .ndjson, also with .gz, or - for JSON lines."
        )
    with _open(file) as content, closing(_reading(file, readers[kind](content, columns, file.name))) as rows:
        yield rows


def _open(file: Path) -> BufferedIOBase:
    try:
        return gzip.open(file) if file.suffix == ".gz" else file.open("rb")
    except OSError as err:
        raise WrongUse(f"{file} cannot be read: {err.strerror or err}.") from err


def _reading(file: Path, rows: Iterator[FileRow]) -> Generator[FileRow]:
    """The rows; what goes wrong while reading is the file's fault, what the caller does with them is not."""
    try:
        yield from rows
    except (OSError, EOFError, zlib.error, csv.Error) as err:
        raise WrongUse(f"{file} cannot be read to its end: {err}.") from err


def _json_rows(lines: Iterable[bytes], columns: Columns, name: str) -> Iterator[FileRow]:
    renamed = columns != Columns()
    for number, line in enumerate(lines, start=1):
        raw = line.strip(b" \t\r\n").removeprefix(_BOM if number == 1 else b"")
        if not raw:
            continue
        if renamed:
            with suppress(ValueError, AttributeError, RecursionError):  # the parser says what is wrong
                raw = _to_json(json.loads(raw), columns, f"{name}:{number}")
        row = _to_row(number, raw)
        if row.mistake is not None and row.mistake.reason == "missing_id":
            row = _to_row(number, _to_json(json.loads(raw), columns, f"{name}:{number}"))
        yield row


def _csv_rows(content: BufferedIOBase, columns: Columns, name: str) -> Iterator[FileRow]:
    csv.field_size_limit(64 * 1024 * 1024)
    # What is not UTF-8 comes out as it went in, and the parser refuses that row alone.
    with TextIOWrapper(cast("BinaryIO", content), "utf-8-sig", "surrogateescape", newline="") as lines:
        reader = csv.reader(lines)
        header = next((row for row in reader if row), [])
        if columns.text not in header:
            names = ", ".join(header) or "none"
            raise WrongUse(
                f"There is no column '{columns.text}' (the file has: {names}): name it with --text-column."
            )
        places = [(field, place) for field, column in _fields(columns) for place in _last(header, column)]
        for number, row in _numbered(reader):
            # CSV knows text only: an empty cell is no value.
            values = {field: row[place] for field, place in places if place < len(row) and row[place]}
            yield _from_fields(number, _with_id(_with_stars(values), f"{name}:{number}"))


def _fields(columns: Columns) -> list[tuple[str, str]]:
    """The contract's fields, each with the column that holds it."""
    return [(field, getattr(columns, field)) for field in _FIELDS]


def _last(header: list[str], column: str) -> list[int]:
    """Where the last column of that name stands; nothing where there is none."""
    return [place for place, name in enumerate(header) if name == column][-1:]


def _numbered(reader: "_CsvReader") -> Iterator[tuple[int, list[str]]]:
    """Each row with its first line, past blank lines before it and line breaks in it."""
    last = reader.line_num
    for row in reader:
        number = reader.line_num
        if number > last + 1:
            number -= sum(len(_LINE_BREAK.findall(cell)) for cell in row)
        last = reader.line_num
        if row:
            yield number, row


def _with_stars(values: dict[str, Any]) -> dict[str, Any]:
    """Whole stars are a number."""
    stars = values.get("stars")
    if stars is not None:
        whole = stars.removesuffix(".0")
        values["stars"] = int(whole) if whole.isdecimal() and len(whole) < 10 else stars
    return values


def _to_json(row: Mapping[str, Any], columns: Columns, fallback_id: str) -> bytes:
    values = {field: row.get(column) for field, column in _fields(columns)}
    present = {field: value for field, value in values.items() if value is not None}
    if columns.id in row:  # null is no id, and stays one that nobody mends
        return _encode(present, None)
    return _encode(present, fallback_id)


def _from_fields(number: int, values: dict[str, Any]) -> FileRow:
    """A row without the way through JSON and back, where nothing is wrong with it."""
    try:
        raw = to_json(values)
    except PydanticSerializationError:
        return _to_row(number, _encode(values, None))
    message = review_from_fields(values)
    return _to_row(number, raw) if message is None else FileRow(number, message, raw, None)


def _with_id(values: dict[str, Any], fallback_id: str) -> dict[str, Any]:
    return values if "id" in values else {"id": fallback_id, **values}


def _encode(values: dict[str, Any], fallback_id: str | None) -> bytes:
    values = values if fallback_id is None else _with_id(values, fallback_id)
    try:
        return to_json(values)
    except PydanticSerializationError:  # what was not UTF-8 in the file leaves as it came
        return json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _to_row(number: int, raw: bytes) -> FileRow:
    try:
        return FileRow(number, parse_review(raw), raw, None)
    except InvalidMessage as err:
        return FileRow(number, None, raw, err)
