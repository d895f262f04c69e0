"""Labels in files: CSV, JSON lines, or Label Studio's export; every row becomes an answer or a mistake."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from reviewloop.label_studio import read_export
from reviews.errors import InvalidMessage, WrongUse
from reviews.fields import Id, Moment
from reviews.json_record import RecordParser
from reviews.label import Judgement

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
    """Which column or field holds what; a missing optional one is simply not set."""

    record: str = "record"
    review_id: str = "review_id"
    task: str = "task"
    label: str = "label"
    annotator: str = "annotator"
    labelled_at: str = "labelled_at"


class LabelFileRow(NamedTuple):
    """One row.

    Attributes:
        place: Where it stands, such as ``line 7``.
        row: The answer; None where it is none.
        mistake: What is wrong with it.
    """

    place: str
    row: LabelRow | None
    mistake: InvalidMessage | None


_PARSER = RecordParser(LabelRow, "a label", '{"review_id": "1", "label": "positive", "annotator": "ann"}')
_NAMES = tuple(field.name for field in fields(LabelColumns))


def read_labels(file: Path, columns: LabelColumns, control: str) -> Iterator[LabelFileRow]:
    """The rows of a file, by its ending: .csv, .jsonl (or .ndjson), or .json for Label Studio's export.

    Args:
        file: Which.
        columns: Where each value stands; for Label Studio, ``review_id`` names the field of ``data``.
        control: The name of Label Studio's ``Choices`` tag.

    Raises:
        WrongUse: Also from the rows, if the file cannot be read, is of no known kind or lacks a column.
    """
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows}
    try:
        if file.suffix == ".json":
            yield from _label_studio_rows(file, columns, control)
        elif file.suffix in readers:
            yield from readers[file.suffix](file, columns)
        else:
            raise WrongUse(
                f"{file} is of no known kind: give .csv, .jsonl, .ndjson or Label Studio's export (.json)."
            )
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise WrongUse(f"{file} cannot be read: {getattr(err, 'strerror', None) or err}.") from err


def _csv_rows(file: Path, columns: LabelColumns) -> Iterator[LabelFileRow]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        names = reader.fieldnames or ()
        if columns.label not in names:
            raise WrongUse(
                f"There is no column '{columns.label}' (the file has: {', '.join(names) or 'none'}): name it "
                "with --label-column."
            )
        for row in reader:
            # CSV knows text only: an empty cell is no value.
            cells = {name: cell for name, cell in row.items() if name is not None and cell}
            yield _parse(f"line {reader.line_num}", json.dumps(_renamed(cells, columns)).encode())


def _json_rows(file: Path, columns: LabelColumns) -> Iterator[LabelFileRow]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            raw = line.strip()
            if raw and columns != LabelColumns():
                raw = _rename_raw(raw, columns)
            if raw:
                yield _parse(f"line {number}", raw)


def _label_studio_rows(file: Path, columns: LabelColumns, control: str) -> Iterator[LabelFileRow]:
    try:
        tasks = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as err:
        raise WrongUse(f"{file} is no JSON: {err}.") from err
    for annotation in read_export(tasks, control, columns.review_id):
        if annotation.mistake is not None:
            yield LabelFileRow(annotation.place, None, annotation.mistake)
        else:
            yield _parse(annotation.place, json.dumps(annotation.values).encode())


def _renamed(row: Mapping[str, Any], columns: LabelColumns) -> dict[str, Any]:
    values = {name: row.get(getattr(columns, name)) for name in _NAMES}
    present = {name: value for name, value in values.items() if value is not None}
    if columns.label in row:  # null is an answer: unsure
        present["label"] = row[columns.label]
    return present


def _rename_raw(raw: bytes, columns: LabelColumns) -> bytes:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return raw  # the parser says what is wrong
    return json.dumps(_renamed(row, columns)).encode() if isinstance(row, dict) else raw


def _parse(place: str, raw: bytes) -> LabelFileRow:
    try:
        row = _PARSER.parse(raw)
    except InvalidMessage as err:
        return LabelFileRow(place, None, err)
    if row.record is None and row.review_id is None:
        mistake = InvalidMessage("missing_review_id", "It names no review: give 'review_id' or 'record'.")
        return LabelFileRow(place, None, mistake)
    return LabelFileRow(place, row, None)


def shown_mistakes(rows: Iterable[LabelFileRow], most: int = 20) -> list[str]:
    """The mistakes in sentences, the first so many, each with its place."""
    wrong = [row for row in rows if row.mistake is not None]
    lines = [f"{row.place}: {row.mistake}" for row in wrong[:most]]
    return [*lines, f"… and {len(wrong) - most:,} more"] if len(wrong) > most else lines
