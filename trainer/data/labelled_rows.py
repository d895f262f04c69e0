"""Texts with their labels from a table; what is wrong with a row is told by its place."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reviews.errors import InvalidMessage
from trainer.data.table_rows import Column, Mistake, TableRow, text_of
from trainer.data.table_source import AS_FOUND, STANDARD_INPUT, Form
from trainer.data.tables import Table, checked_rows, content_sha256, open_table

TEXT_COLUMN = "text"
LABEL_COLUMN = "label"
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One row that can be used.

    Attributes:
        place: Where it is in the file, such as ``line 3``.
        text: The body.
        label: The class as it is written there; a whole number without a fraction of zeros.
        values: Its columns by name, the two above included; all columns where they were asked for.
    """

    place: str
    text: str
    label: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """A file's rows, the sound and the unsound.

    Attributes:
        path: The file.
        form: How it was read, with what was found out.
        columns: Names of its columns, in order, as rows have them.
        entries: Every row, in order: what can be used, or what is wrong with it.
        sha256: Hash of the content, unpacked.
    """

    path: Path
    form: Form
    columns: tuple[str, ...]
    entries: tuple[LabelledRow | Mistake, ...]
    sha256: str

    @property
    def rows(self) -> list[LabelledRow]:
        """What can be used."""
        return [entry for entry in self.entries if isinstance(entry, LabelledRow)]

    @property
    def mistakes(self) -> list[Mistake]:
        """What cannot."""
        return [entry for entry in self.entries if isinstance(entry, Mistake)]


def read_labelled(
    path: Path,
    text_column: str = TEXT_COLUMN,
    label_column: str = LABEL_COLUMN,
    form: Form = AS_FOUND,
    *,
    keep_all: bool = False,
) -> LabelledTable:
    """The labelled texts of a table (see :func:`trainer.data.tables.open_table`).

    Args:
        path: The file; ``-`` is standard input.
        text_column: Column or field with the texts.
        label_column: Column or field with the labels.
        form: What is known of the file.
        keep_all: Whether rows keep the other columns as well.

    Raises:
        WrongUse: If the file or a column is missing, or the file is not of its kind.
    """
    columns = (Column(text_column, "--text-column"), Column(label_column, "--label-column"))
    with open_table(path, columns, form, keep_all=keep_all) as table:
        entries = tuple(_entry(row, text_column, label_column) for row in checked_rows(table, columns))
        return LabelledTable(path, table.form, _names(table, entries), entries, _sha256(path, entries))


def written_label(value: object) -> str:
    """A label as text; whole numbers may come with a fraction of zeros, as data frames write them.

    Returns:
        Nothing, if the value is no label.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and not value.is_integer():
        return ""
    written = f"{value:.0f}" if isinstance(value, float) else str(value).strip()
    whole = _WHOLE.fullmatch(written)
    return whole[1] if whole else written


def _entry(row: TableRow, text_column: str, label_column: str) -> LabelledRow | Mistake:
    try:
        text = text_of(row.values, text_column)
        return LabelledRow(row.place, text, _label(row.values.get(label_column)), row.values)
    except InvalidMessage as err:
        return Mistake(row.place, err)


def _label(value: object) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InvalidMessage("missing_label", "The label is empty.")
    if not (label := written_label(value)):
        raise InvalidMessage("bad_label", "The label is no name and no whole number.")
    return label


def _names(table: Table, entries: tuple[LabelledRow | Mistake, ...]) -> tuple[str, ...]:
    rows = (entry for entry in entries if isinstance(entry, LabelledRow))
    return tuple(dict.fromkeys(name for row in rows for name in row.values)) or table.columns or ()


def _sha256(path: Path, entries: tuple[LabelledRow | Mistake, ...]) -> str:
    if path != STANDARD_INPUT and path.is_file():
        return content_sha256(path)
    return hashlib.sha256(repr([str(entry) for entry in entries]).encode(errors="surrogatepass")).hexdigest()
