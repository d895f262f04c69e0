"""Parquet: only the requested columns are read; values that Python cannot represent become text.

The file is read by its path, in the thread that asks: read from bytes of Python's, PyArrow starts threads of
its own, and one that is still starting when the process ends aborts it.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reviews.errors import InvalidMessage
from trainer.data.table_rows import (
    MAX_ROW_CHARACTERS,
    Column,
    TableRow,
    UnreadableTable,
    check_once,
    sound_values,
    unique_names,
)

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_PYTHON = (
    ValueError,
    OverflowError,
    LookupError,
    TypeError,
    NotImplementedError,
)  # PyArrow's own are these
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


class ParquetTable(NamedTuple):
    """A Parquet file with its schema read.

    Attributes:
        columns: Their names.
        rows: The rows, as they are read.
    """

    columns: tuple[str, ...]
    rows: Iterator[TableRow]


def read_parquet(path: Path, columns: Sequence[Column], *, keep_all: bool) -> ParquetTable:
    """The rows of a Parquet file.

    Args:
        path: The file.
        columns: Those that are wanted.
        keep_all: Whether rows have all columns of the file, or the wanted ones alone.

    Raises:
        UnreadableTable: If it is none, or PyArrow is not installed; from the rows, if it is damaged.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as err:
        raise UnreadableTable("it is Parquet, which needs PyArrow: install reviewloop[train]") from err
    try:
        file = parquet.ParquetFile(path, pre_buffer=False)
        names = tuple(file.schema_arrow.names)
    except (pa.ArrowException, OSError, ValueError) as err:
        raise UnreadableTable(f"it is no Parquet file that can be read ({_first_line(err)})") from err
    check_once(names, columns)
    wanted = None if keep_all else [column.name for column in columns if column.name in names]
    return ParquetTable(names, _rows(file, columns, wanted))


def _rows(file: Any, columns: Sequence[Column], wanted: Sequence[str] | None) -> Iterator[TableRow]:
    import pyarrow as pa

    number = 0
    try:
        for batch in file.iter_batches(_BATCH_ROWS, columns=wanted, use_threads=False):
            names = unique_names(batch.schema.names)
            for cells in zip(*map(_values, batch.columns), strict=True):
                number += 1
                values = dict(zip(names, cells, strict=True))
                yield TableRow(number, "row", _too_long(cells) or sound_values(values, columns))
    except (pa.ArrowException, OSError) as err:
        raise UnreadableTable(f"it is damaged behind row {number} ({_first_line(err)})") from err


def _too_long(cells: Sequence[Any]) -> InvalidMessage | None:
    if sum(len(cell) for cell in cells if isinstance(cell, str)) <= MAX_ROW_CHARACTERS:
        return None
    return InvalidMessage("too_long", f"The row has more than {MAX_ROW_CHARACTERS:,} characters.")


def _first_line(err: Exception) -> str:
    return str(err).partition("\n")[0]


def _values(column: "pa.Array") -> list[Any]:
    """The values of a column as JSON has them; what has no such form is text."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
        return _values(column.storage)
    if pa.types.is_timestamp(kind):
        return [_moment(value, kind.unit) for value in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = column.cast(pa.large_binary())  # which holds what is not UTF-8 as well
    try:
        return [_plain(value) for value in column.to_pylist()]
    except _NOT_PYTHON:
        return [_plain_scalar(scalar) for scalar in column]


def _moment(value: int | None, unit: str) -> str | None:
    """A moment as ISO 8601; a naive one counts as UTC. Fractions of a microsecond are dropped."""
    if value is None:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=value * 10**6 // _PER_SECOND[unit])
    except OverflowError:
        return f"{value} {unit} since 1970"
    return moment.isoformat()


def _plain_scalar(scalar: Any) -> Any:
    for read in (lambda: _plain(scalar.as_py()), lambda: str(scalar)):
        try:
            return read()
        except _NOT_PYTHON:
            continue
    return f"({scalar.type})"


def _plain(value: Any, errors: str = "surrogateescape") -> Any:
    if isinstance(value, dict):
        return {name: _plain(part, "backslashreplace") for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, "backslashreplace") for part in value]
    return _plain_number(value) if isinstance(value, float | Decimal) else _plain_text(value, errors)


def _plain_number(value: float | Decimal) -> float | str | None:
    if isinstance(value, float):
        # NaN is how data frames write what is missing; JSON has no infinity.
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    return int(value) if value == value.to_integral_value() else str(value)


def _plain_text(value: Any, errors: str) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", errors)
    return value.isoformat() if isinstance(value, datetime | date | time) else str(value)
