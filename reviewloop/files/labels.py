"""Reads labels from tables and Label Studio exports; every row becomes a label or an error."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from reviewloop.files.label_studio import Annotation, is_task, read_export
from reviews.csv_output import unescape_formula
from reviews.errors import InvalidMessage
from reviews.fields import Annotator, Id, Moment, Seconds
from reviews.label import (
    Judgement,
    Label,
    LatestAnswer,
    UnpinnedLabel,
    Vocabularies,
    labelled_in_future,
    resolve_label,
)
from reviews.label_studio import of_account
from reviews.record_value import RecordParser
from trainer.data.table_rows import FieldColumns, Mistake, TableRow
from trainer.data.table_source import AS_FOUND, Form, Kind
from trainer.data.tables import checked_rows, open_table

_MAX_RECORD = 2**63 - 1
SOURCE = "import"


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
    annotator: Annotator | None = None
    labelled_at: Moment | None = None
    seconds: Seconds = None


@dataclass(frozen=True)
class LabelColumns(FieldColumns):
    """Which column or field holds what.

    Attributes:
        record: The record that was judged.
        review_id: The id of the review that was judged; for Label Studio, the field of ``data`` with it.
        task: What was decided.
        label: The answer, which every file has to have.
        annotator: Who gave it.
        labelled_at: When.
        seconds: How long it took.
    """

    record: str = "record"
    review_id: str = "review_id"
    task: str = "task"
    label: str = "label"
    annotator: str = "annotator"
    labelled_at: str = "labelled_at"
    seconds: str = "seconds"
    required = "label"


_PARSER = RecordParser(LabelRow, "a label", '{"review_id": "1", "label": "positive", "annotator": "ann"}')


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
        control: The ``Choices`` tag of Label Studio that was read; None if the file is not an export of it.
    """

    form: Form
    rows: list[LabelFileRow]
    control: str | None = None


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
    values = {name: found.get(column) for name, column in columns.names.items()}
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


class Defaults(NamedTuple):
    """What a row has that does not say it itself.

    Attributes:
        task: The task.
        annotator: Who labelled it; None: each row has to say it.
        labelled_at: The time of an answer that states none: now (UTC).
        tolerance: By how much clocks may differ; rows dated further in the future are rejected.
        models: The accounts that models answer by in Label Studio, and the models' names.
    """

    task: str
    annotator: str | None
    labelled_at: datetime
    tolerance: timedelta = timedelta(0)
    models: Mapping[str, str] = MappingProxyType({})

    def moment(self, stated: datetime | None) -> datetime:
        """When an answer was given.

        Raises:
            InvalidMessage: If that is in the future.
        """
        if stated is not None and stated > self.labelled_at + self.tolerance:
            raise labelled_in_future()
        return stated or self.labelled_at


@dataclass(slots=True)
class Import:
    """What a file holds.

    Attributes:
        dated: Labels whose rows have a time, in order.
        undated: The others, which are said now.
        mistakes: The rows that are not labels.
        silent: How many rows say nothing about what is asked.
    """

    dated: list[Label | UnpinnedLabel] = field(default_factory=list)
    undated: list[Label | UnpinnedLabel] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    silent: int = 0


def to_labels(
    rows: Iterable[LabelFileRow],
    defaults: Defaults,
    vocabularies: Vocabularies,
    unknown_records: Collection[int] = (),
) -> Import:
    """The labels in the rows of a file.

    Args:
        rows: As read.
        defaults: For what a row leaves out.
        vocabularies: The labels of each task that has an adapter.
        unknown_records: Records in the rows that are not reviews.
    """
    found = Import()
    for row in rows:
        try:
            if row.error is not None:
                raise row.error
            if row.row is None:
                found.silent += 1
            else:
                labels = found.undated if row.row.labelled_at is None else found.dated
                labels.append(_to_label(row.row, defaults, vocabularies, unknown_records))
        except InvalidMessage as err:
            found.mistakes.append(Mistake(row.place, err))
    return found


def _to_label(
    row: LabelRow,
    defaults: Defaults,
    vocabularies: Vocabularies,
    unknown_records: Collection[int],
) -> Label | UnpinnedLabel:
    annotator = row.annotator or defaults.annotator
    if annotator is None:
        raise InvalidMessage("missing_annotator", "It does not say who labelled it: give --annotator.")
    annotator = of_account(annotator, defaults.models)
    if row.record in unknown_records:
        raise InvalidMessage("unknown_record", "There is no review with this record.")
    task = row.task or defaults.task
    label = resolve_label(row.label, vocabularies.get(task))
    what = (task, label, annotator, SOURCE, defaults.moment(row.labelled_at))
    name = row.record if row.record is not None else row.review_id or ""
    mark = _mark(name, task, label, annotator, row.labelled_at and row.labelled_at.isoformat())
    if isinstance(name, int):
        return Label(name, *what, mark, row.seconds)
    return UnpinnedLabel(name, *what, mark, row.seconds)


def later_answers(
    undated: Sequence[Label | UnpinnedLabel], latest: Sequence[LatestAnswer | None]
) -> list[Label | UnpinnedLabel]:
    """The answers without a time that are news: the file that is imported later is the later answer.

    What an annotator says of a review in one file is one statement. If it ends with the answer that counts
    already, the file says nothing new; else all of it is said now, in the order of the rows.

    Args:
        undated: All with the time of the import.
        latest: What the annotator of each said last about its review.

    Returns:
        Those to be written, each with a mark that it gets again if another import says the same at the same
        turn of things.
    """
    final = {_subject(label): label.label for label in undated}
    turns: Counter[tuple[object, ...]] = Counter()
    news: list[Label | UnpinnedLabel] = []
    for label, before in zip(undated, latest, strict=True):
        subject = _subject(label)
        if before is not None and not before.is_taken_back and before.label == final[subject]:
            continue
        turn, repeats = turns[subject], turns[(*subject, label.label)]
        turns.update([subject, (*subject, label.label)])
        moment = label.labelled_at + timedelta(microseconds=turn)
        since = () if before is None else (before.labelled_at.isoformat(),)
        again = (repeats, *since) if repeats or since else ()
        mark = _mark(label[0], label.task, label.label, label.annotator, None, *again)
        news.append(label._replace(labelled_at=moment, origin=mark))
    return news


def _subject(label: Label | UnpinnedLabel) -> tuple[object, ...]:
    return label[0], label.task, label.annotator


def _mark(*content: object) -> int:
    """A negative number that the same row has again when its file is imported again (62 bits of SHA-256).

    A row without a time is the same row again whenever it is imported: hence the time that it has, and not
    the one that it is given.
    """
    digest = hashlib.sha256(json.dumps(content).encode()).digest()
    return -1 - (int.from_bytes(digest[:8], "big") >> 2)
