"""Labels in files: a table, or Label Studio's export; every row becomes an answer or a mistake."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from reviewloop.csv_output import unescape_formula
from reviewloop.label_studio import Annotation, is_task, read_export
from reviews.errors import InvalidMessage
from reviews.fields import Id, Moment
from reviews.label import Judgement
from reviews.record_value import RecordParser
from trainer.data.table_rows import Column, TableRow, named_columns
from trainer.data.table_source import AS_FOUND, Form, Kind
from trainer.data.tables import checked_rows, open_table

_MAX_RECORD = 2**63 - 1


def _number(value: object) -> object:
    """Records may be texts of digits: JavaScript's numbers do not reach them."""
    is_digits = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20
    return int(str(value)) if is_digits else value


class LabelRow(BaseModel):
    """An answer as a file has it: about a record, or about the current version of a review by its id."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, hide_input_in_errors=True)

    record: Annotated[Annotated[int, Field(ge=0, le=_MAX_RECORD)] | None, BeforeValidator(_number)] = None
    review_id: Id | None = None
    task: Id | None = None
    label: Judgement
    annotator: Id | None = None
    labelled_at: Moment | None = None


@dataclass(frozen=True, slots=True)
class LabelColumns:
    """Which column or field holds what.

    Attributes:
        record: The record that was judged.
        review_id: The id of the review that was judged; for Label Studio, the field of ``data`` with it.
        task: What was decided.
        label: The answer, which every file has to have.
        annotator: Who gave it.
        labelled_at: When.
        named: Those of them that somebody named: a table without one is refused.
    """

    record: str = "record"
    review_id: str = "review_id"
    task: str = "task"
    label: str = "label"
    annotator: str = "annotator"
    labelled_at: str = "labelled_at"
    named: frozenset[str] = field(default=frozenset())

    def wanted(self) -> list[Column]:
        """The columns, as the reader of tables wants them."""
        names = {name: getattr(self, name) for name in _NAMES}
        return named_columns(names, {"label", *self.named})


class LabelFileRow(NamedTuple):
    """One row; with neither answer nor mistake it says nothing about what is asked.

    Attributes:
        place: Where it is, such as ``line 7``.
        row: The answer; None where it is none.
        error: What is wrong with it.
    """

    place: str
    row: LabelRow | None
    error: InvalidMessage | None


class LabelFile(NamedTuple):
    """A file of labels that was read.

    Attributes:
        form: How it was read, with what was found out.
        rows: Its rows, in order.
        control: The ``Choices`` tag of Label Studio that was read; None where it is no export of it.
    """

    form: Form
    rows: list[LabelFileRow]
    control: str | None = None


_PARSER = RecordParser(LabelRow, "a label", '{"review_id": "1", "label": "positive", "annotator": "ann"}')
_NAMES = tuple(each.name for each in fields(LabelColumns) if each.name != "named")


def read_labels(
    file: Path,
    columns: LabelColumns,
    task: str,
    control: str | None = None,
    form: Form = AS_FOUND,
    *,
    raw: bool = False,
) -> LabelFile:
    """The rows of a table, or of Label Studio's export.

    Args:
        file: Which; ``-`` is standard input.
        columns: Where each value is.
        task: What is asked, which names Label Studio's ``Choices`` tag unless ``control`` does.
        control: The name of that tag.
        form: What is known of the file.
        raw: Take the cells of a CSV as they are, and no apostrophe off that keeps spreadsheets from running
            them.

    Raises:
        WrongUse: If the file cannot be read, or lacks a column or the tag.
    """
    wanted = columns.wanted()
    with open_table(file, wanted, form) as table:
        first = next(table.rows, None)
        rows = iter([*([] if first is None else [first]), *table.rows])
        if table.columns is None and first is not None and is_task(_object(first), columns.label):
            found, read = read_export(map(_task, rows), control, task, columns.review_id)
            return LabelFile(table.form, [_from_annotation(annotation) for annotation in read], found)
        is_escaped = table.form.kind is Kind.csv and not raw
        read_rows = checked_rows(replace(table, rows=rows), wanted)
        is_json = table.columns is None
        answers = [_from_row(row, columns, is_json=is_json, is_escaped=is_escaped) for row in read_rows]
        return LabelFile(table.form, answers)


def _object(row: TableRow) -> Mapping[str, Any]:
    try:
        return row.values
    except InvalidMessage:
        return {}


def _task(row: TableRow) -> Mapping[str, Any] | InvalidMessage:
    try:
        return row.values
    except InvalidMessage as err:
        return err


def _from_annotation(annotation: Annotation) -> LabelFileRow:
    if annotation.values is None:
        return LabelFileRow(annotation.place, None, annotation.mistake)
    return _parse(annotation.place, annotation.values)


def _from_row(row: TableRow, columns: LabelColumns, *, is_json: bool, is_escaped: bool) -> LabelFileRow:
    try:
        found = row.values
    except InvalidMessage as err:
        return LabelFileRow(row.place, None, err)
    values = {name: found.get(getattr(columns, name)) for name in _NAMES}
    present = {name: value for name, value in values.items() if value is not None}
    if is_json and columns.label in found:  # null is an answer: unsure
        present["label"] = found[columns.label]
    if is_escaped:
        present = {name: unescape_formula(cell) for name, cell in present.items()}
    return _parse(row.place, present)


def _parse(place: str, values: dict[str, Any]) -> LabelFileRow:
    try:
        # By way of JSON, which holds no half surrogate pair and says best what else is wrong.
        row = _PARSER.parse(json.dumps(values).encode())
    except InvalidMessage as err:
        return LabelFileRow(place, None, err)
    if row.record is None and row.review_id is None:
        mistake = InvalidMessage("missing_review_id", "It names no review: give 'review_id' or 'record'.")
        return LabelFileRow(place, None, mistake)
    return LabelFileRow(place, row, None)
