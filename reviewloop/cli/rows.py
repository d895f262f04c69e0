"""Rows on standard output, as a table for people or as CSV and JSON lines for programs."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from reviewloop.visible import visible

_WIDEST_CELL = 200
_NARROWEST_PROSE = 20
_PROSE = {"text", "message"}


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    jsonl = "jsonl"


def chosen_format(asked: Format | None) -> Format:
    """The format asked for; else a table on a terminal and JSON lines elsewhere."""
    return asked or (Format.table if sys.stdout.isatty() else Format.jsonl)


def print_rows(
    rows: Iterable[Mapping[str, Any]], form: Format, *, table_columns: Sequence[str], title: str | None = None
) -> int:
    """Print rows as they come.

    Args:
        rows: Mappings with the same keys in the same order.
        form: Table, CSV or JSON lines.
        table_columns: The columns that a table shows; the other formats show all.
        title: Above the table.

    Returns:
        How many rows there were.
    """
    if form is Format.table:
        return _print_table(rows, table_columns, title)
    return _print_csv(rows) if form is Format.csv else _print_jsonl(rows)


def _print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], title: str | None) -> int:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    cells = [[_short(row[column]) for column in columns] for row in rows]
    widths = [max(map(cell_len, cells_of)) for cells_of in zip(columns, *cells, strict=True)]
    taken = sum(width + 3 for column, width in zip(columns, widths, strict=True) if column not in _PROSE)
    table = Table(title=title)
    for column, width in zip(columns, widths, strict=True):
        # One line a row: prose gives way to the terminal's width, everything else is shown whole.
        shown = min(width, max(_NARROWEST_PROSE, console.width - taken - 4)) if column in _PROSE else width
        table.add_column(column, width=shown, no_wrap=True, overflow="ellipsis")
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)
    return len(cells)


def _print_csv(rows: Iterable[Mapping[str, Any]]) -> int:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    printed = 0
    for row in rows:
        if not printed:
            writer.writerow(row)
        writer.writerow(_csv_cell(value) for value in row.values())
        printed += 1
    return printed


def _print_jsonl(rows: Iterable[Mapping[str, Any]]) -> int:
    printed = 0
    for row in rows:
        sys.stdout.write(json.dumps(row, default=_json_value, ensure_ascii=False) + "\n")
        printed += 1
    return printed


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " ".join(map(_short, value))
    text = " ".join(visible(str(value)).split())
    return text if len(text) <= _WIDEST_CELL else text[: _WIDEST_CELL - 1] + "…"


def _csv_cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else _json_value(value)


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value
