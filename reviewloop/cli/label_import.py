"""``reviewloop label import`` and ``publish``: labels from files into the database, or onto the topic."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reviewloop.visible import say
from reviews.errors import ReviewLoopError, WrongUse

if TYPE_CHECKING:
    from broker.publisher import OutgoingRecord
    from reviewloop.label_files import LabelFileRow

FileArgument = Annotated[
    Path, typer.Argument(help="CSV with a header, JSON lines, or Label Studio's export (.json).")
]
TaskOption = Annotated[str, typer.Option(help="The task of rows that name none.")]
AnnotatorOption = Annotated[str | None, typer.Option(help="Who labelled the rows that do not say it.")]
ControlOption = Annotated[
    str | None, typer.Option(help="Label Studio's Choices tag; unset, it has the task's name.")
]
ReviewIdColumn = Annotated[
    str, typer.Option(help="Column (for Label Studio, field of the data) with the review's id.")
]
RecordColumn = Annotated[str, typer.Option(help="Column with the record.")]
LabelColumn = Annotated[str, typer.Option(help="Column with the label.")]
AnnotatorColumn = Annotated[str, typer.Option(help="Column with the annotator.")]
TaskColumn = Annotated[str, typer.Option(help="Column with the task.")]
LabelledAtColumn = Annotated[str, typer.Option(help="Column with the time; without one, now.")]


def import_labels(
    file: FileArgument,
    *,
    task: TaskOption = "sentiment",
    annotator: AnnotatorOption = None,
    control: ControlOption = None,
    review_id_column: ReviewIdColumn = "review_id",
    record_column: RecordColumn = "record",
    label_column: LabelColumn = "label",
    annotator_column: AnnotatorColumn = "annotator",
    task_column: TaskColumn = "task",
    labelled_at_column: LabelledAtColumn = "labelled_at",
    skip_mistakes: Annotated[
        bool, typer.Option("--skip-mistakes", help="Import the rows that are labels all the same.")
    ] = False,
) -> None:
    """Import labels, all rows or none; importing a file again adds nothing.

    A label by review id judged the version that was current at its time, and waits where the review is not
    there yet; a label by record judged that version. Labels that the queue did not ask for are never taken
    for a random part of the stream: in the audit slice they are test rows.
    """
    from datetime import UTC, datetime

    from reviewloop.label_files import LabelColumns, read_labels
    from reviewloop.label_importing import Defaults, to_labels
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.labels import LabelStore

    _require_names(task, annotator)
    columns = LabelColumns(
        record_column, review_id_column, task_column, label_column, annotator_column, labelled_at_column
    )
    now = datetime.now(UTC)
    rows = list(read_labels(file, columns, control or task))
    settings = load_settings()
    with open_database(settings) as database:
        store = LabelStore(database)
        records = [row.row.record for row in rows if row.row is not None and row.row.record is not None]
        found = to_labels(
            rows,
            Defaults(task, annotator, now, settings.consumer.clock_tolerance),
            store.vocabularies(),
            store.unknown_records(records),
        )
        if found.mistakes:
            _report(file, found.mistakes)
            if not skip_mistakes:
                raise ReviewLoopError(
                    f"{len(found.mistakes):,} of {len(rows):,} rows of {file} are no labels; nothing was "
                    "imported. Mend them, or leave them out with --skip-mistakes."
                )
        landed = store.add_unpinned(found.labels)
    say(
        f"Imported {landed.added:,} labels; {landed.waiting:,} wait for their review, "
        f"{landed.known:,} were there already."
    )


def publish_labels(
    file: FileArgument,
    *,
    task: TaskOption = "sentiment",
    annotator: AnnotatorOption = None,
    control: ControlOption = None,
    topic: Annotated[str | None, typer.Option(help="Unset, the configured labels topic.")] = None,
    review_id_column: ReviewIdColumn = "review_id",
    label_column: LabelColumn = "label",
    annotator_column: AnnotatorColumn = "annotator",
    task_column: TaskColumn = "task",
    labelled_at_column: LabelledAtColumn = "labelled_at",
) -> None:
    """Publish labels onto their topic; rows that cannot be labels are listed and left out (exit code 1)."""
    from broker.publisher import publish
    from reviewloop.label_files import LabelColumns, read_labels
    from reviewloop.settings import load_settings

    _require_names(task, annotator)
    kafka = load_settings().kafka
    columns = LabelColumns(
        review_id=review_id_column,
        label=label_column,
        annotator=annotator_column,
        task=task_column,
        labelled_at=labelled_at_column,
    )
    rows = list(read_labels(file, columns, control or task))
    records, mistakes = _messages(rows, task, annotator)
    target = topic or kafka.labels_topic
    sent = publish(kafka, target, records)
    say(f"Published {sent:,} labels to '{target}'.")
    if mistakes:
        _report(file, mistakes)
        raise ReviewLoopError(f"{len(mistakes):,} rows of {file} are no labels and were not published.")


def _require_names(task: str, annotator: str | None) -> None:
    """Refuse names that no label can bear.

    Raises:
        WrongUse: Which says what is wrong with which.
    """
    from pydantic import TypeAdapter, ValidationError

    from reviews.fields import Id

    for option, name in (("--task", task), ("--annotator", annotator)):
        try:
            TypeAdapter(Id | None).validate_python(name)
        except ValidationError as err:
            reason = err.errors()[0]["msg"].removeprefix("Value error, ")
            raise WrongUse(f"{option} is no name: {reason[:1].lower()}{reason[1:]}.") from None


def _messages(
    rows: "Sequence[LabelFileRow]", task: str, annotator: str | None
) -> "tuple[list[OutgoingRecord], list[LabelFileRow]]":
    from datetime import UTC, datetime

    from broker.publisher import OutgoingRecord
    from reviews.errors import InvalidMessage
    from reviews.label import LabelMessage

    now = datetime.now(UTC)
    records, mistakes = [], []
    for row in rows:
        answer = row.row
        name = answer and (answer.annotator or annotator)
        if answer is None or answer.review_id is None or not name:
            mistake = row.mistake or InvalidMessage(
                "missing_annotator" if answer and answer.review_id else "missing_review_id",
                "A message on the topic names its review by 'review_id' and says who labelled it.",
            )
            mistakes.append(row._replace(row=None, mistake=mistake))
            continue
        message = LabelMessage(
            task=answer.task or task,
            review_id=answer.review_id,
            label=answer.label,
            annotator=name,
            labelled_at=answer.labelled_at or now,
        )
        raw = message.model_dump_json(exclude={"id"}).encode()
        records.append(OutgoingRecord(answer.review_id.encode(), raw))
    return records, mistakes


def _report(file: Path, mistakes: "Sequence[LabelFileRow]") -> None:
    from reviewloop.label_files import shown_mistakes

    for line in shown_mistakes(mistakes):
        say(f"{file}, {line}", err=True)
