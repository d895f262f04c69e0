"""Labels from files, and reviews to be labelled elsewhere: ``label import``, ``publish`` and ``export``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from broker.publisher import OutgoingRecord, publish
from reviewloop.cli.arguments import DelimiterOption, EncodingOption, KindOption, configured, guessed, to_form
from reviewloop.cli.output import RawOption, print_list, print_rows
from reviewloop.files.label_studio import to_config, to_task
from reviewloop.files.labels import (
    Defaults,
    LabelColumns,
    LabelFileRow,
    LabelRow,
    later_answers,
    read_labels,
    to_labels,
)
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviews.errors import InvalidMessage, ReviewLoopError, WrongUse
from reviews.fields import Annotator, Id
from reviews.label import LabelMessage, Vocabularies
from reviews.moments import parse_moment
from reviews.slices import slice_of
from storage.labels.store import ItemFilter, LabelStore, find_items
from trainer.data.table_rows import BrokenTable, Mistake, shown_mistakes
from trainer.data.table_source import Form, name_of

FileArgument = Annotated[
    Path,
    typer.Argument(
        help="CSV, JSON lines or array, Parquet (also .gz) or Label Studio's export; - is standard input."
    ),
]
TaskOption = Annotated[str, typer.Option(help="The task of rows that name none.")]
AnnotatorOption = Annotated[str | None, typer.Option(help="Who labelled the rows that do not say it.")]
ControlOption = Annotated[
    str | None,
    typer.Option(help="Label Studio's Choices tag. Unset: the one with the task's name, or the only one."),
]
ReviewIdColumn = Annotated[
    str | None,
    typer.Option(help="Column (for Label Studio, field of the data) with the review's id. Unset: review_id."),
]
RecordColumn = Annotated[str | None, typer.Option(help="Column with the record. Unset: record.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column with the label. Unset: label.")]
AnnotatorColumn = Annotated[str | None, typer.Option(help="Column with the annotator. Unset: annotator.")]
TaskColumn = Annotated[str | None, typer.Option(help="Column with the task. Unset: task.")]
LabelledAtColumn = Annotated[
    str | None, typer.Option(help="Column with the time. Unset: labelled_at, and without one, now.")
]
EscapedOption = Annotated[
    bool, typer.Option("--raw", help="Keep an apostrophe before what a spreadsheet would run, as in '=1.")
]


def import_labels(
    file: FileArgument,
    *,
    task: TaskOption = "sentiment",
    annotator: AnnotatorOption = None,
    control: ControlOption = None,
    review_id_column: ReviewIdColumn = None,
    record_column: RecordColumn = None,
    label_column: LabelColumn = None,
    annotator_column: AnnotatorColumn = None,
    task_column: TaskColumn = None,
    labelled_at_column: LabelledAtColumn = None,
    kind: KindOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    raw: EscapedOption = False,
    skip_mistakes: Annotated[
        bool, typer.Option("--skip-mistakes", help="Import the rows that are labels all the same.")
    ] = False,
) -> None:
    """Import labels, all rows or none; importing a file again adds nothing.

    Rows without a time are said when they are imported: the file that is imported later is the later answer.
    A label by review id judged the version that was current at its time, and waits where the review is not
    there yet; a label by record judged that version. Labels that the queue did not ask for are never taken
    for a random part of the stream: in the audit slice they are test rows.
    """
    _require_names(task, annotator)
    columns = _columns(
        record=record_column,
        review_id=review_id_column,
        task=task_column,
        label=label_column,
        annotator=annotator_column,
        labelled_at=labelled_at_column,
    )
    now = datetime.now(UTC)
    rows = _read(file, columns, (task, control), to_form(kind, encoding, delimiter), raw=raw)
    with configured() as (settings, database):
        store = LabelStore(database)
        vocabularies = store.vocabularies()
        records = [row.row.record for row in rows if row.row is not None and row.row.record is not None]
        found = to_labels(
            rows,
            Defaults(task, annotator, now, settings.consumer.clock_tolerance, settings.label_studio.models),
            vocabularies,
            store.unknown_records(records),
        )
        if found.mistakes:
            _report(file, found.mistakes)
            if not skip_mistakes or any(isinstance(mistake.error, BrokenTable) for mistake in found.mistakes):
                raise ReviewLoopError(
                    f"{len(found.mistakes):,} of {len(rows):,} rows of {name_of(file)} are not labels; "
                    "nothing was imported. Correct them, or give --skip-mistakes (which leaves out rows, but "
                    "imports no part of a file that cannot be read to its end)."
                )
        news = later_answers(found.undated, store.latest_of(found.undated))
        stored = store.add([*found.dated, *news])
    known = stored.known + len(found.undated) - len(news)
    say(
        f"Imported {stored.added:,} labels; {stored.waiting:,} wait for their review, "
        f"{known:,} were there already."
    )
    say_new_tasks((one.task for one in (*found.dated, *found.undated)), vocabularies)
    if found.silent:
        say(f"{found.silent:,} annotations answer only what other Choices tags ask.", err=True)


def publish_labels(
    file: FileArgument,
    *,
    task: TaskOption = "sentiment",
    annotator: AnnotatorOption = None,
    control: ControlOption = None,
    topic: Annotated[str | None, typer.Option(help="Unset, the configured labels topic.")] = None,
    review_id_column: ReviewIdColumn = None,
    label_column: LabelColumn = None,
    annotator_column: AnnotatorColumn = None,
    task_column: TaskColumn = None,
    labelled_at_column: LabelledAtColumn = None,
    kind: KindOption = None,
    encoding: EncodingOption = None,
    delimiter: DelimiterOption = None,
    raw: EscapedOption = False,
) -> None:
    """Publish labels onto their topic; rows that cannot be labels are listed and left out (exit code 1)."""
    _require_names(task, annotator)
    settings = load_settings()
    columns = _columns(
        review_id=review_id_column,
        task=task_column,
        label=label_column,
        annotator=annotator_column,
        labelled_at=labelled_at_column,
    )
    rows = _read(file, columns, (task, control), to_form(kind, encoding, delimiter), raw=raw)
    defaults = Defaults(task, annotator, datetime.now(UTC), settings.consumer.clock_tolerance)
    records, mistakes = _messages(rows, defaults)
    target = topic or settings.kafka.labels_topic
    sent = publish(settings.kafka, target, records)
    say(f"Published {sent:,} labels to '{target}'.")
    if mistakes:
        _report(file, mistakes)
        raise ReviewLoopError(
            f"{len(mistakes):,} rows of {name_of(file)} are not labels and were not published."
        )


def say_new_tasks(tasks: Iterable[str], vocabularies: Vocabularies) -> None:
    """Name the tasks that no adapter has: one of them may be misspelt, and any label of theirs is taken."""
    if new := sorted(set(tasks) - set(vocabularies)):
        known = ", ".join(sorted(vocabularies)) or "none"
        say(
            f"No adapter has the task {', '.join(new)} (adapters have: {known}); its labels were taken "
            "unchecked.",
            err=True,
        )


def _columns(**names: str | None) -> LabelColumns:
    """The columns that were named, and the usual names for the others."""
    named = {field: name for field, name in names.items() if name is not None}
    return LabelColumns(**named, named=frozenset(named))


def _read(
    file: Path, columns: LabelColumns, asked: tuple[str, str | None], form: Form, *, raw: bool
) -> list[LabelFileRow]:
    """The rows of a file; prints what was guessed about its format.

    Args:
        file: Which.
        columns: Where each value is.
        asked: The task, and Label Studio's tag if one is named.
        form: What is known of the file.
        raw: Whether cells are taken as they are.
    """
    task, control = asked
    found = read_labels(file, columns, task, control, form, raw=raw)
    if (note := guessed(file, form, found.form)) is not None:
        say(note, err=True)
    if found.control not in (None, control, task):
        say(f"Read the answers under Label Studio's tag '{found.control}', the only one.", err=True)
    return found.rows


def _require_names(task: str, annotator: str | None) -> None:
    """Refuse names that no label can bear.

    Raises:
        WrongUse: Which says what is wrong with which.
    """
    for option, name in (("--task", task), ("--annotator", annotator)):
        try:
            TypeAdapter(Annotator | None if option == "--annotator" else Id | None).validate_python(name)
        except ValidationError as err:
            reason = err.errors()[0]["msg"].removeprefix("Value error, ")
            raise WrongUse(f"{option} is not a valid name: {reason[:1].lower()}{reason[1:]}.") from None


def _messages(rows: Sequence[LabelFileRow], defaults: Defaults) -> tuple[list[OutgoingRecord], list[Mistake]]:
    records, mistakes = [], []
    for row in rows:
        try:
            if row.error is not None:
                raise row.error
            if row.row is not None:  # else it says nothing about the task
                message = _message(row.row, defaults)
                unsaid = {"id"} if message.seconds is not None else {"id", "seconds"}
                raw = message.model_dump_json(exclude=unsaid).encode()
                records.append(OutgoingRecord(message.review_id.encode(), raw))
        except InvalidMessage as err:
            mistakes.append(Mistake(row.place, err))
    return records, mistakes


def _message(answer: LabelRow, defaults: Defaults) -> LabelMessage:
    """What is published of an answer.

    Raises:
        InvalidMessage: If it is none that the topic takes.
    """
    name = answer.annotator or defaults.annotator
    if answer.review_id is None or not name:
        raise InvalidMessage(
            "missing_annotator" if answer.review_id else "missing_review_id",
            "A message on the topic names its review by 'review_id' and says who labelled it.",
        )
    return LabelMessage(
        task=answer.task or defaults.task,
        review_id=answer.review_id,
        label=answer.label,
        annotator=name,
        labelled_at=defaults.moment(answer.labelled_at),
        seconds=answer.seconds,
    )


def _report(file: Path, mistakes: Sequence[Mistake]) -> None:
    for line in shown_mistakes(mistakes):
        say(f"{name_of(file)}, {line}", err=True)


_MODELS_WORDS = ("label", "confidence", "margin", "adapter_version")


def export(
    *,
    form: Annotated[
        Literal["label-studio", "csv", "jsonl"],
        typer.Option("--format", help="Tasks of Label Studio, or rows."),
    ] = "label-studio",
    task: Annotated[str, typer.Option(help="The task to be decided.")] = "sentiment",
    answers: Annotated[
        bool, typer.Option("--answers", help="The answers that are there, to be imported elsewhere.")
    ] = False,
    blind: Annotated[bool, typer.Option("--blind", help="Without what the model says.")] = False,
    queued: Annotated[bool, typer.Option("--queued", help="Only what waits in the queue.")] = False,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Only what nobody has labelled.")] = False,
    label: Annotated[str | None, typer.Option(help="Only with this label of the model's.")] = None,
    product: Annotated[str | None, typer.Option(help="Only of this product.")] = None,
    source: Annotated[str | None, typer.Option(help="Only from this source.")] = None,
    since: Annotated[str | None, typer.Option(help="Scored since: ISO 8601, or an age such as 24h.")] = None,
    until: Annotated[str | None, typer.Option(help="Scored before: ISO 8601, or an age such as 24h.")] = None,
    uncertain: Annotated[bool, typer.Option("--uncertain", help="Only where two labels are close.")] = False,
    control: Annotated[
        str | None, typer.Option(help="Label Studio's Choices tag; unset, it has the task's name.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many; 0: all.")] = 0,
    raw: RawOption = False,
    config: Annotated[
        bool, typer.Option("--config", help="Print the labelling configuration for Label Studio instead.")
    ] = False,
) -> None:
    """Write reviews for labelling to standard output: the current version of each, with the model's answer.

    Reviews of the audit slice never have the model's answer, since people who see it tend to agree. What
    other people answered is left out for the same reason. With --answers, only people's answers are written,
    with their history.
    """
    if answers and form == "label-studio":
        raise WrongUse("Answers are written as rows: add --format csv or --format jsonl.")
    wanted = ItemFilter(
        task=task,
        queued=queued,
        unlabelled=unlabelled,
        label=label,
        product=product,
        source=source,
        since=parse_moment(since),
        until=parse_moment(until),
        uncertain=uncertain,
        limit=limit or None,
    )
    with configured(task, label) as (settings, database):
        shares = settings.trainer.nightly.shares

        def is_audit(item: Mapping[str, Any]) -> bool:
            return slice_of(item["review_id"], shares) == "audit"

        store = LabelStore(database)
        if config:
            vocabulary = store.vocabulary(task)
            if vocabulary is None:
                raise WrongUse(f"The task '{task}' has no adapter yet, and so no labels to choose from.")
            say(to_config(control or task, [*vocabulary.ordered, "unsure"]).removesuffix("\n"))
        elif answers:
            print_rows(_answers(store.all_answers(task)), form, table_columns=(), raw=raw)
            if gone := store.without_text(task):
                say(f"{gone:,} labelled reviews are left out: their texts were deleted.", err=True)
        elif form == "label-studio":
            items = find_items(database, wanted)
            print_list(to_task(item, control or task, blind=blind or is_audit(item)) for item in items)
        else:
            items = (
                _shown(item, blind=blind, is_audit=is_audit(item)) for item in find_items(database, wanted)
            )
            print_rows(items, form, table_columns=(), raw=raw)


def _answers(answers: Iterable[Any]) -> Iterator[dict[str, Any]]:
    for review_id, answer in answers:
        yield {
            "record": answer.record,
            "review_id": review_id,
            "task": answer.task,
            "label": answer.label or "unsure",
            "annotator": answer.annotator,
            "source": answer.source,
            "labelled_at": answer.labelled_at,
            "seconds": answer.seconds,
        }


def _shown(item: Mapping[str, Any], *, blind: bool, is_audit: bool) -> dict[str, Any]:
    """The columns of a row; the model's have the prefix ``model_``: "label" is the annotator's column."""
    kept = {name: value for name, value in item.items() if name not in _MODELS_WORDS}
    said = {} if blind else {f"model_{name}": None if is_audit else item[name] for name in _MODELS_WORDS}
    return {**kept, **said}
