"""Rows and records on standard output: for people on a terminal, as CSV or JSON lines for programs.

One rule for every command: without ``--format``, a terminal gets a table and everything else JSON lines.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Annotated, Any, Literal

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table  # noqa: TID251  the one place
from rich.text import Text

from reviewloop.terminal import one_line, say
from reviews.csv_output import CsvWriter
from reviews.json_output import plain, to_json
from reviews.sanitise import sanitise

_WIDEST_PROSE = 200
_NARROWEST_PROSE = 16
_READABLE_PROSE = 40
_PROSE = {"text", "message", "reason", "labels", "base_model", "moved", "what it does"}
"""Columns that may be cut; every other one is shown whole or not at all."""
_CELL_MARGIN = 3  # a blank on either side, and a line
_FRAME = 1
_COLUMNS_BESIDE = 2
"""How many columns a wide first one gives room to, by being folded."""


Format = Literal["table", "csv", "json", "jsonl", "html", "text", "label-studio"]
"""Each value of ``--format``; a command takes some of them. ``json`` is one value, ``jsonl`` a line a row."""

RowsFormat = Literal["table", "csv", "jsonl"]

FORMAT = typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
FormatOption = Annotated[RowsFormat | None, FORMAT]
RecordFormatOption = Annotated[Literal["table", "json", "jsonl"] | None, FORMAT]
RawOption = Annotated[
    bool,
    typer.Option("--raw", help="In CSV, no apostrophe before what a spreadsheet would run; for machines."),
]


def chosen_format(asked: Format | None, for_people: Format = "table") -> Format:
    """The format asked for; else the one for people on a terminal, and JSON lines elsewhere."""
    return asked or (for_people if sys.stdout.isatty() else "jsonl")


def print_rows(
    rows: Iterable[Mapping[str, Any]],
    asked: Format | None,
    *,
    table_columns: Sequence[str],
    title: str | None = None,
    raw: bool = False,
) -> int:
    """Print rows as they come.

    Args:
        rows: Mappings with the same keys in the same order.
        asked: Table, CSV or JSON lines; None: what suits where it goes.
        table_columns: The columns that a table shows, the most important ones first: those at the end give
            way on a narrow terminal. The other formats show all.
        title: Above the table.
        raw: In CSV, leave cells as they are that spreadsheets would run.

    Returns:
        How many rows there were.
    """
    form = chosen_format(asked)
    if form == "table":
        cells = [[row[column] for column in table_columns] for row in rows]
        print_table(table_columns, cells, title=title)
        return len(cells)
    return _print_csv(rows, raw=raw) if form == "csv" else _print_jsonl(rows)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, err: bool = False
) -> None:
    """Print a table that fits its terminal.

    Args:
        columns: Their names, the most important ones first. Prose gives way first, then whole columns from
            the end. What stays is never cut: the first column is folded where it would leave the two beside
            it no room.
        rows: A cell for each column.
        title: Above the table.
        err: To standard error.
    """
    console = Console(stderr=err, highlight=False)
    cells = [[_shown(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]
    widths = _widths(columns, cells)
    # A pipe has no width to keep to.
    available = console.width if console.is_terminal else sum(widths) + _CELL_MARGIN * len(widths) + _FRAME
    fitting = _fitting(columns, widths, available)
    console.width = max(available, console.width)
    table = Table(title=None if title is None else Text(one_line(title)))
    for column, width in zip(columns, fitting, strict=False):
        is_prose = column in _PROSE
        overflow: Any = "ellipsis" if is_prose else "fold"
        table.add_column(Text(one_line(column)), width=width, no_wrap=is_prose, overflow=overflow)
    for row in cells:
        table.add_row(*map(Text, row[: len(fitting)]))
    console.print(table)
    if left_out := columns[len(fitting) :]:
        console.print(
            Text(f"No room for: {one_line(', '.join(left_out))}. A wider terminal shows them."), style="dim"
        )


def print_record(record: Mapping[str, Any], asked: Format | None) -> None:
    """Print one thing: a line for each of its fields, or a JSON object."""
    form = chosen_format(asked)
    if form != "table":
        say(to_json(record, indent=2 if form == "json" else None))
        return
    widest = max(map(len, record), default=0)
    for name, value in record.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else plain(value)
        # Further lines are indented: no value can look like another field.
        lines = sanitise("" if shown is None else str(shown)).replace("\n", "\n" + " " * (widest + 2))
        say(f"{name:>{widest}}: {lines}")


def print_csv(columns: Sequence[str], rows: Iterable[Iterable[Any]], *, raw: bool = False) -> int:
    """Print a header and rows as CSV; on a terminal sanitised.

    Args:
        columns: The header.
        rows: Their cells.
        raw: Leave cells as they are that spreadsheets would run; else an apostrophe comes before them.

    Returns:
        How many rows there were.
    """
    writer = CsvWriter(sys.stdout, raw=raw, show=sanitise if sys.stdout.isatty() else str)
    writer.write_row(columns)
    printed = 0
    for row in rows:
        writer.write_row(row)
        printed += 1
    return printed


def print_list(items: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON list, item by item, however many there are."""
    separator = "[\n"
    for item in items:
        _write(separator + to_json(item))
        separator = ",\n"
    _write("[]\n" if separator == "[\n" else "\n]\n")


def _widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, cells_of)) for cells_of in zip(map(one_line, columns), *cells, strict=True)]


def _fitting(columns: Sequence[str], widths: Sequence[int], available: int) -> list[int]:
    """The widths of as many columns as fit, one of them at least.

    Prose is readable before less important columns get any room, and has what all of them leave.
    """
    fitting: list[int] = []
    left = available - _FRAME
    widths = [min(widths[0], _first_width(columns, widths, left)), *widths[1:]]
    for column, width in zip(columns, widths, strict=True):
        least = _least(column, width)
        if fitting and least + _CELL_MARGIN > left:
            break
        wanted = min(width, _READABLE_PROSE) if column in _PROSE else width
        fitting.append(min(wanted, max(1, left - _CELL_MARGIN)))
        left -= fitting[-1] + _CELL_MARGIN
    for place, width in enumerate(fitting):
        more = min(widths[place] - width, max(0, left)) if columns[place] in _PROSE else 0
        fitting[place] += more
        left -= more
    return fitting


def _first_width(columns: Sequence[str], widths: Sequence[int], available: int) -> int:
    """The most that the first column may take: the rest of the width, if that is at least a third of it."""
    beside = zip(columns[1 : 1 + _COLUMNS_BESIDE], widths[1 : 1 + _COLUMNS_BESIDE], strict=True)
    left = available - _CELL_MARGIN - sum(_least(column, width) + _CELL_MARGIN for column, width in beside)
    return left if left >= available // 3 else max(1, available - _CELL_MARGIN)


def _least(column: str, width: int) -> int:
    return min(width, _NARROWEST_PROSE) if column in _PROSE else width


def _print_csv(rows: Iterable[Mapping[str, Any]], *, raw: bool) -> int:
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return 0
    return print_csv(tuple(first), (row.values() for row in chain((first,), rows)), raw=raw)


def _print_jsonl(rows: Iterable[Mapping[str, Any]]) -> int:
    printed = 0
    for row in rows:
        _write(to_json(row) + "\n")
        printed += 1
    return printed


def _write(json_text: str) -> None:
    """Straight into the buffer of standard output: nothing in JSON is left that a terminal obeys."""
    sys.stdout.write(json_text)  # noqa: TID251  the reason is above


def _shown(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return " ".join(_shown(column, item) for item in value)
    text = one_line(value)
    return text if column not in _PROSE or len(text) <= _WIDEST_PROSE else text[: _WIDEST_PROSE - 1] + "…"
