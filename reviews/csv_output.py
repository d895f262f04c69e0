"""CSV output, safe for spreadsheets, that can be imported again unchanged.

For people, whose spreadsheets run a cell that begins like a formula, such cells get an apostrophe in front;
for machines they do not (``--raw``).
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from reviews.json_output import plain, to_json

# What spreadsheets read as the start of a formula, full-width signs included. An apostrophe before such a
# start is doubled, so that removing one restores every cell.
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")
_ESCAPED = re.compile("''*[=+\\-@\t\r\n＝＋－＠]")


class _Output(Protocol):
    def write(self, text: str, /) -> object: ...


class CsvWriter:
    """Writes rows as CSV with line feeds.

    Args:
        output: Where to.
        raw: Leave cells as they are, also those that spreadsheets run.
        show: Sanitises a text for a terminal.
    """

    def __init__(self, output: _Output, *, raw: bool, show: Callable[[str], str] = str) -> None:
        self._raw = raw
        self._show = show
        # Python's writer (before 3.11.9) quotes a lone carriage return only if its line end has one.
        self._writer = csv.writer(_LineFeeds(output), lineterminator="\r\n")

    def write_row(self, cells: Iterable[Any]) -> None:
        """Write one row: None is an empty cell, lists and objects are JSON."""
        self._writer.writerow([self._cell(cell) for cell in cells])

    def _cell(self, value: Any) -> Any:
        cell = to_json(value) if isinstance(value, list | tuple | dict) else plain(value)
        if not isinstance(cell, str):
            return cell
        # Half a surrogate pair, which only ASCII JSON can hold, has no bytes.
        shown = self._show(cell.encode("utf-8", "backslashreplace").decode())
        return shown if self._raw else escape_formula(shown)


class _LineFeeds:
    def __init__(self, output: _Output) -> None:
        self._output = output

    def write(self, row: str) -> object:
        return self._output.write(row[:-2] + "\n")


def to_csv(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A whole CSV for machines: what is read from it is what was written."""
    content = io.StringIO(newline="")
    writer = CsvWriter(content, raw=True)
    writer.write_row(columns)
    for row in rows:
        writer.write_row(row)
    return content.getvalue()


def escape_formula(cell: str) -> str:
    """The cell with an apostrophe in front, if a spreadsheet would run it."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def unescape_formula(cell: str) -> str:
    """The cell as it was before :func:`escape_formula`."""
    return cell[1:] if _ESCAPED.match(cell) else cell
