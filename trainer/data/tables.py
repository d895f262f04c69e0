"""One reader of tables: CSV, JSON lines, a JSON array or Parquet, from a file or standard input."""

import gzip
import hashlib
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from reviews.errors import InvalidMessage, WrongUse
from trainer.data.csv_table import open_text, read_csv, read_lines
from trainer.data.json_table import read_json
from trainer.data.parquet_table import read_parquet
from trainer.data.table_rows import Column, TableRow, UnreadableTable
from trainer.data.table_source import (
    AS_FOUND,
    GZIP_MAGIC,
    Form,
    Kind,
    TableSource,
    as_file,
    open_source,
    unreadable,
)

_SHOWN_COLUMNS = 30
_CHUNK_BYTES = 1024 * 1024
_UNREADABLE = (UnreadableTable, OSError, EOFError, zlib.error, UnicodeError)


@dataclass(frozen=True, slots=True)
class Table:
    """A file that is being read.

    Attributes:
        name: Of the file, for messages.
        form: How it is read, with what was found out.
        columns: The names of its columns; None for JSON, where each row brings its own.
        rows: Its rows, as they are read.
    """

    name: str
    form: Form
    columns: tuple[str, ...] | None
    rows: Iterator[TableRow] = field(repr=False)


@contextmanager
def open_table(
    file: Path,
    columns: Sequence[Column],
    form: Form = AS_FOUND,
    *,
    keep_all: bool = False,
) -> Iterator[Table]:
    """Read a table: the format by the ending of its name, else by how it begins; gzip as well.

    Args:
        file: Which; ``-`` is standard input.
        columns: Those that are wanted. The others are not looked at, and whatever they hold stops nothing.
        form: What is known of it.
        keep_all: Rows have all columns all the same.

    Raises:
        WrongUse: If it cannot be read or lacks a column; also from the rows, where the bytes do not come.
            A row that is none says so itself.
    """
    with open_source(file, form) as source, ExitStack() as opened:
        try:
            table = _parsed(source, columns, form, opened, keep_all=keep_all)
        except _UNREADABLE as err:
            raise _refusal(source, err) from err
        if table.columns is not None:
            require_columns(table.name, table.columns, columns)
        yield table


def checked_rows(table: Table, columns: Sequence[Column]) -> Iterator[TableRow]:
    """The rows of a table; at their end, JSON too is held to the columns that it has to have.

    Raises:
        WrongUse: If every row lacks a required one; also from the rows, as in :func:`open_table`.
    """
    missing = {column.name for column in columns if column.is_required} if table.columns is None else set()
    seen: dict[str, None] = {}
    for row in table.rows:
        if missing:
            with suppress(InvalidMessage):
                missing.difference_update(row.values)
                seen.update(dict.fromkeys(row.values))
        yield row
    if missing and seen:
        require_columns(table.name, tuple(seen), columns)


def content_sha256(file: Path) -> str:
    """Hash of a file's content, unpacked.

    Raises:
        WrongUse: If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as packed:
            is_packed = packed.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        with gzip.open(file) if is_packed else file.open("rb") as content:
            while part := content.read(_CHUNK_BYTES):
                digest.update(part)
    except _UNREADABLE as err:
        raise unreadable(str(file), err) from err
    return digest.hexdigest()


def _parsed(
    source: TableSource, columns: Sequence[Column], form: Form, opened: ExitStack, *, keep_all: bool
) -> Table:
    names: tuple[str, ...] | None
    if source.kind is Kind.parquet:
        path = opened.enter_context(as_file(source))
        names, rows = read_parquet(path, columns, keep_all=keep_all)
        found = Form(source.kind)
    elif source.kind is Kind.csv:
        text = opened.enter_context(open_text(source.stream, may_be_broken=source.may_be_broken))
        names, delimiter, rows = read_csv(text, columns, form.delimiter, keep_all=keep_all)
        found = Form(source.kind, source.encoding, delimiter)
    elif source.kind is Kind.lines:
        text = opened.enter_context(open_text(source.stream, may_be_broken=source.may_be_broken))
        column = next(column for column in columns if column.is_required)
        names, rows = (column.name,), read_lines(text, column)
        found = Form(source.kind, source.encoding)
    else:
        names, rows = None, read_json(source.stream)
        found = Form(source.kind, source.encoding)
    return Table(source.name, found, names, opened.enter_context(closing(_reading(source, rows))))


def _reading(source: TableSource, rows: Iterator[TableRow]) -> Generator[TableRow]:
    """The rows; what goes wrong while reading is the file's fault, what the caller does with them is not."""
    try:
        yield from rows
    except _UNREADABLE as err:
        raise _refusal(source, err) from err


def _refusal(source: TableSource, err: Exception) -> WrongUse:
    if isinstance(err, UnicodeError):
        reason = err.reason if isinstance(err, UnicodeDecodeError) else err
        return WrongUse(f"{source.name} is not {source.encoding} ({reason}): name its encoding (--encoding).")
    return unreadable(source.name, err)


def require_columns(name: str, found: Sequence[str], columns: Sequence[Column]) -> None:
    """Make sure that a table has what it has to have.

    Raises:
        WrongUse: If a required one is missing; names those that are there, and the option.
    """
    missing = [column for column in columns if column.is_required and column.name not in found]
    if not missing:
        return
    if not found:
        raise WrongUse(f"{name} is empty: a table begins with a line that names its columns.")
    shown = [*found[:_SHOWN_COLUMNS], *(["…"] if len(found) > _SHOWN_COLUMNS else [])]
    raise WrongUse(
        f"{name} has no column {' and no column '.join(repr(column.name) for column in missing)} (it has: "
        f"{', '.join(shown) or 'none'}): name {'it' if len(missing) == 1 else 'them'} with "
        f"{' and '.join(column.option for column in missing)}."
    )
