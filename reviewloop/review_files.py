"""Reviews in files: CSV with a header, or JSON lines; every row becomes a message or a named mistake."""

import csv
import gzip
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from reviews.errors import InvalidMessage, WrongUse
from reviews.message import ReviewMessage, parse_review


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column or field holds what; a missing optional one is simply not set."""

    id: str = "id"
    text: str = "text"
    product: str = "product"
    source: str = "source"
    published_at: str = "published_at"
    stars: str = "stars"


class FileRow(NamedTuple):
    """One row: its number in the file (1 is the first line), and the message's bytes or the mistake."""

    line: int
    message: ReviewMessage | None
    raw: bytes
    mistake: InvalidMessage | None


@contextmanager
def open_reviews(file: Path, columns: Columns) -> Iterator[Iterator[FileRow]]:
    """The rows of a file; ``-`` is standard input, read as JSON lines.

    Raises:
        WrongUse: If the file cannot be read, is of no known kind or lacks a required column.
    """
    if str(file) == "-":
        yield _json_rows(sys.stdin, columns)
        return
    suffixes = [suffix for suffix in file.suffixes if suffix != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    if kind not in readers:
        raise WrongUse(
            f"{file} is of no known kind: give .csv, .jsonl or .ndjson, also with .gz, or - for JSON lines."
        )
    try:
        with _open(file) as lines:
            yield readers[kind](lines, columns)
    except (OSError, UnicodeDecodeError) as err:
        raise WrongUse(f"{file} cannot be read: {err}.") from err


def _open(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


def _json_rows(lines: IO[str], columns: Columns) -> Iterator[FileRow]:
    renamed = columns != Columns()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        raw = line.rstrip("\r\n").encode("utf-8", "surrogatepass")
        if renamed:
            with suppress(ValueError, AttributeError, RecursionError):  # the parser says what is wrong
                raw = _to_json(json.loads(raw), columns, number)
        yield _to_row(number, raw)


def _csv_rows(lines: IO[str], columns: Columns) -> Iterator[FileRow]:
    csv.field_size_limit(64 * 1024 * 1024)
    reader = csv.DictReader(lines)
    if columns.text not in (reader.fieldnames or ()):
        names = ", ".join(reader.fieldnames or ()) or "none"
        raise WrongUse(
            f"There is no column '{columns.text}' (the file has: {names}): name it with --text-column."
        )
    for row in reader:
        yield _to_row(reader.line_num, _to_json(_with_numbers(row, columns), columns, reader.line_num))


def _with_numbers(row: Mapping[str, str | None], columns: Columns) -> dict[str, Any]:
    """CSV knows text only: an empty cell is no value, and whole stars are a number."""
    values: dict[str, Any] = {name: value for name, value in row.items() if name and value not in {None, ""}}
    stars = values.get(columns.stars)
    if isinstance(stars, str):
        whole = stars.removesuffix(".0")
        values[columns.stars] = int(whole) if whole.isdecimal() and len(whole) < 10 else stars
    return values


def _to_json(row: Mapping[str, Any], columns: Columns, number: int) -> bytes:
    fields = {
        "id": row.get(columns.id, f"line-{number}" if columns.id not in row else None),
        "text": row.get(columns.text),
        "product": row.get(columns.product),
        "source": row.get(columns.source),
        "published_at": row.get(columns.published_at),
        "stars": row.get(columns.stars),
    }
    present = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(present, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _to_row(number: int, raw: bytes) -> FileRow:
    try:
        return FileRow(number, parse_review(raw), raw, None)
    except InvalidMessage as err:
        return FileRow(number, None, raw, err)
