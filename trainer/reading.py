"""Labelled rows from CSV, JSON Lines or Parquet; what is wrong with a row is told by its line."""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviews.errors import WrongUse

TEXT_COLUMN = "text"
LABEL_COLUMN = "label"


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in the file.

    Attributes:
        where: ``line 3``, or ``row 3`` of a Parquet file; the header is line 1.
        text: The body.
        label: The class as it is written there.
        fields: Every column, the two above included.
    """

    where: str
    text: str
    label: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that cannot be used, and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Table:
    """A file's rows, the sound and the unsound.

    Attributes:
        path: The file.
        columns: Names of its columns, in order.
        rows: What can be used.
        problems: What cannot; rows and problems together are every row of the file.
        sha256: Hash of the content, unpacked.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...]
    sha256: str


_Raw = tuple[str, Mapping[str, Any] | str]  # where it stands, and its fields or what is wrong


def read_table(path: Path, text_column: str = TEXT_COLUMN, label_column: str = LABEL_COLUMN) -> Table:
    """The rows of ``.csv``, ``.jsonl``/``.ndjson`` (both ``.gz`` too) or ``.parquet``; else taken for CSV.

    Args:
        path: The file; text is UTF-8.
        text_column: Column or field with the texts.
        label_column: Column or field with the labels.

    Raises:
        WrongUse: If the file or a column is missing, or the file is not of its kind.
    """
    content = _content(path)
    columns, raw = _reader(path)(path, content)
    missing = [name for name in (text_column, label_column) if name not in columns]
    if missing:
        found = ", ".join(columns) or "none"
        raise WrongUse(
            f"{path} has no column {' and no column '.join(missing)}; its columns: {found}. "
            "Name others with --text-column and --label-column."
        )
    rows: list[Row] = []
    problems: list[Problem] = []
    for where, fields in raw:
        checked = _checked(where, fields, text_column, label_column)
        (rows if isinstance(checked, Row) else problems).append(checked)  # type: ignore[arg-type]
    return Table(path, columns, tuple(rows), tuple(problems), hashlib.sha256(content).hexdigest())


def _checked(
    where: str, fields: Mapping[str, Any] | str, text_column: str, label_column: str
) -> Row | Problem:
    if isinstance(fields, str):
        return Problem(where, fields)
    text, label = fields.get(text_column), fields.get(label_column)
    if text is None or (isinstance(text, str) and not text.strip()):
        return Problem(where, "the text is empty")
    if not isinstance(text, str):
        return Problem(where, f"the text is a {type(text).__name__}, not a string")
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return Problem(where, "the text holds NUL or half a surrogate pair, which no database stores")
    written = _label(label)
    if not written:
        return Problem(
            where, "the label is empty" if label in (None, "") else f"the label {label!r} is no name"
        )
    return Row(where, text, written, fields)


def _label(value: object) -> str:
    """A label as text; whole numbers may come as floats, as data frames write columns with gaps."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _reader(path: Path) -> Callable[[Path, bytes], tuple[tuple[str, ...], list[_Raw]]]:
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    return {".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}.get(kind, _csv)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except FileNotFoundError as err:
        raise WrongUse(f"There is no file {path}.") from err
    except (OSError, EOFError, zlib.error) as err:
        raise WrongUse(f"{path} cannot be read: {getattr(err, 'strerror', None) or err}.") from err


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise WrongUse(f"{path} is not UTF-8 (byte {err.start}); save it as UTF-8.") from err


def _csv(path: Path, content: bytes) -> tuple[tuple[str, ...], list[_Raw]]:
    reader = csv.reader(io.StringIO(_decoded(path, content), newline=""), strict=True)
    try:
        columns = tuple(next(reader, []))
        return columns, list(_csv_rows(reader, columns))
    except csv.Error as err:
        raise WrongUse(f"{path} is no valid CSV near line {reader.line_num}: {err}.") from err


def _csv_rows(reader: Any, columns: tuple[str, ...]) -> Iterator[_Raw]:
    start = reader.line_num + 1
    for values in reader:
        if values:  # a blank line is no row
            fits = len(values) == len(columns)
            wrong = f"it has {len(values)} fields, the header {len(columns)}"
            yield f"line {start}", dict(zip(columns, values, strict=True)) if fits else wrong
        start = reader.line_num + 1  # a quoted text may span several lines


def _json_lines(path: Path, content: bytes) -> tuple[tuple[str, ...], list[_Raw]]:
    columns: dict[str, None] = {}
    rows: list[_Raw] = []
    for number, line in enumerate(_decoded(path, content).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as err:
            rows.append((f"line {number}", f"it is not JSON ({getattr(err, 'msg', 'nested too deep')})"))
            continue
        if isinstance(value, dict):
            columns.update(dict.fromkeys(value))
        rows.append((f"line {number}", value if isinstance(value, dict) else "it is no JSON object"))
    return tuple(columns), rows


def _parquet(path: Path, content: bytes) -> tuple[tuple[str, ...], list[_Raw]]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as err:
        raise WrongUse(f"{path} is Parquet, which needs PyArrow: install reviewloop[train].") from err
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as err:
        raise WrongUse(f"{path} is no valid Parquet file: {str(err).splitlines()[0]}.") from err
    rows: list[_Raw] = [(f"row {number}", fields) for number, fields in enumerate(table.to_pylist(), start=1)]
    return tuple(table.column_names), rows
