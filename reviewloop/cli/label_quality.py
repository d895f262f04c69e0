"""Quality of labels and the annotation queue: ``label agreement``, ``suspects`` and ``queue``."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import typer

from reviewloop.cli.arguments import configured, refuse_options
from reviewloop.cli.output import (
    FormatOption,
    RawOption,
    RecordFormatOption,
    RowsFormat,
    chosen_format,
    print_record,
    print_rows,
)
from reviewloop.terminal import say
from reviews.fields import is_model
from reviews.label_set import called_now
from reviews.queue_item import NewItem
from reviews.slices import SliceShares, slice_of
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.label_sets import LabelSetStore
from storage.labels.models import model_agreement
from storage.labels.queue_contents import QueueContents, one_a_record
from storage.labels.store import LabelStore
from storage.labels.time_spent import TimeSpent, time_spent, timed_answers
from storage.learning.texts import read_texts
from trainer.labels.agreement import answer_matrix, compare_annotators, krippendorff_alpha
from trainer.labels.suspects import SuspectLabel, suspect_labels
from trainer.nightly.labels_and_questions import LabelExchange
from trainer.nightly.snapshot import HELD_OUT
from trainer.selection.cost import measured_cost

queue_app = typer.Typer(help="What waits for a label, and why.")

_COUNTS = ("state", "reason", "items", "leased")
_TOP = ("text", "reason", "answers", "holder", "priority")
_WOULD_BE = ("text", "reason", "priority", "strategy")

TaskOption = Annotated[str, typer.Option(help="The task.")]
_SPENT = ("annotator", "answers", "timed", "median_seconds", "hours")
_CONFIRMED = 2  # a label that was given so often was looked at again


def agreement(*, task: TaskOption = "sentiment", output: FormatOption = None, raw: RawOption = False) -> None:
    """How much people agree beyond chance: Krippendorff's alpha, and each beside the others.

    Of each annotator's answers about a review the latest counts; "unsure" is counted, but is not a label.
    Models are compared with what people agree on, and count for nothing in alpha.
    """
    with configured(task) as (_, database):
        matrix = answer_matrix(LabelStore(database).latest_answers(task))
        models = model_agreement(database, task)
    alpha = krippendorff_alpha(matrix.answers)
    rows = [
        _agreement_row("(all)", alpha.answers, sum(matrix.unsure), alpha.records)
        | {"alpha": alpha.value, "alpha_low": alpha.low, "alpha_high": alpha.high}
    ]
    for item in compare_annotators(matrix):
        share = item.agreeing / item.compared if item.compared else None
        rows.append(_agreement_row(item.annotator, item.answers, item.unsure, item.compared, share))
    rows += [_agreement_row(one.model, one.answers, one.unsure, one.compared, one.share) for one in models]
    print_rows(rows, output, table_columns=tuple(rows[0]), raw=raw)


def _agreement_row(
    annotator: str, answers: int, unsure: int, compared: int, share: float | None = None
) -> dict[str, Any]:
    return {
        "annotator": annotator,
        "answers": answers,
        "unsure": unsure,
        "compared": compared,
        "agrees": share,
        "alpha": None,
        "alpha_low": None,
        "alpha_high": None,
    }


def progress(*, task: TaskOption = "sentiment", output: FormatOption = None, raw: RawOption = False) -> None:
    """What labels cost: how long each person takes for an answer, among the newest 20,000.

    Only answers with a time count: those of the terminal and the console, and imported ones that bring it. No
    answer counts for more than ten minutes.
    """
    with configured(task) as (settings, database):
        spent = time_spent(database, task)
        timed = timed_answers(database, task)
    rows = [
        {**one._asdict(), "hours": round(one.seconds / 3600, 2)}
        for one in (*([_together(spent)] if len(spent) > 1 else []), *spent)
    ]
    print_rows(rows, output, table_columns=_SPENT, raw=raw)
    seconds = np.array([one.seconds for one in timed], np.float64)
    cost = measured_cost(seconds, np.array([one.characters for one in timed], np.int64))
    if cost is not None:
        expected = settings.trainer.selection
        say(
            f"{cost.answers:,} answers: {cost.answer_seconds:.1f} s each, and {cost.characters_a_second:.0f} "
            f"characters a second (trainer.selection: {expected.answer_seconds:g} s, "
            f"{expected.characters_a_second:g}).",
            err=True,
        )


def _together(spent: Sequence[TimeSpent]) -> TimeSpent:
    answers, timed = sum(one.answers for one in spent), sum(one.timed for one in spent)
    return TimeSpent("(all)", answers, timed, sum(one.seconds for one in spent), None)


def suspects(
    *,
    task: TaskOption = "sentiment",
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the worst first; 0: all.")] = 20,
    queue: Annotated[
        bool, typer.Option("--queue", help="Also put them into the queue, for a second look.")
    ] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Labels that look wrong, by confident learning on the probabilities stored with the reviews.

    A label that somebody confirmed by giving it again is left out. Test and audit reviews are shown but never
    queued: rows that judge the model must not be relabelled because the model disagrees with them.
    """
    with configured(task) as (settings, database):
        found = _find(database, task)[: limit or None]
        asked = _without_held_out(found, settings.trainer.nightly.shares)
        queued = _queue(database, task, asked) if queue else 0
    print_rows(map(_suspect_row, found), output, table_columns=_SUSPECT_COLUMNS, raw=raw)
    if queue:
        left_out = f"{len(found) - len(asked):,} are of the test and audit slices and were not"
        say(f"{queued:,} of {len(found):,} were queued for a second look; {left_out}.", err=True)


def _find(database: Database, task: str) -> list[SuspectLabel]:
    labels = LabelStore(database)
    label_set = LabelSetStore(database).declared(task)
    versions = AdapterStore(database).list_versions(task)
    orders = {adapter.version: called_now(adapter.labels, label_set) for adapter in versions}
    found = suspect_labels(labels.labelled(task), orders)
    confirmed = _confirmed(labels, task, [item.review.record for item in found])
    return [item for item in found if (item.review.record, item.review.label) not in confirmed]


def _confirmed(labels: LabelStore, task: str, records: Sequence[int]) -> set[tuple[int, str | None]]:
    given = Counter(
        (answer.record, answer.label)
        for answer in labels.answers(task, records)
        if not is_model(answer.annotator)
    )
    return {answer for answer, times in given.items() if times >= _CONFIRMED}


def _without_held_out(found: Sequence[SuspectLabel], shares: SliceShares) -> list[SuspectLabel]:
    return [item for item in found if slice_of(item.review.review_id, shares) not in HELD_OUT]


def _queue(database: Database, task: str, found: Sequence[SuspectLabel]) -> int:
    items = [
        # From 0.5 to 1: the more the model is against the label, the earlier it is looked at again.
        NewItem(item.review.record, task, "second_look", "confident-learning", 0.5 - item.margin / 2)
        for item in found
    ]
    return QueueContents(database).add(items)


_SUSPECT_COLUMNS = ("review_id", "label", "suggested", "text", "margin", "adapter_version")


def _suspect_row(item: SuspectLabel) -> dict[str, Any]:
    return {
        "record": item.review.record,
        "review_id": item.review.review_id,
        "label": item.review.label,
        "suggested": item.suggested,
        "margin": item.margin,
        "adapter_version": item.review.adapter_version,
        "labelled_at": item.review.labelled_at,
        "text": item.review.text,
    }


@queue_app.callback(invoke_without_command=True)
def queue(
    context: typer.Context,
    task: Annotated[str | None, typer.Option(help="The task; unset, the classifier's.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="So many items of the top are shown.")] = 10,
    output: RecordFormatOption = None,
) -> None:
    """How many items there are by state and reason, and those that are handed out next."""
    if context.invoked_subcommand is not None:
        refuse_options(context, "the list of the queue")
        return
    with configured(task) as (settings, database):
        wanted = task or settings.classifier.task
        store = QueueContents(database)
        counts = [count._asdict() for count in store.counts(wanted)]
        top = [item._asdict() for item in store.top(wanted, limit)]
    form = chosen_format(output)
    if form != "table":
        print_record({"task": wanted, "counts": counts, "top": top}, form)
        return
    print_rows(counts, "table", table_columns=_COUNTS, title=f"{wanted}: the queue")
    rows = ({**row, "answers": f"{row['answers']}/{row['wanted_answers']}"} for row in top)
    print_rows(rows, "table", table_columns=_TOP, title="Handed out next")


@queue_app.command()
def fill(
    *,
    task: Annotated[str | None, typer.Option(help="The task; unset, the classifier's.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be queued; queue nothing.")
    ] = False,
    output: Annotated[
        RowsFormat | None,
        typer.Option("--format", help="Of a dry run. Unset: a table on a terminal, jsonl elsewhere."),
    ] = None,
    raw: RawOption = False,
) -> None:
    """Queue what a nightly run would ask about, without a run: as many reviews, chosen in the same way."""
    with configured(task) as (settings, database):
        wanted, trainer = task or settings.classifier.task, settings.trainer
        queue = LabelExchange(database, wanted, trainer.selection, trainer.nightly)
        questions = queue.questions(trainer.seed)
        if not dry_run:
            say(f"Queued {queue.add(questions):,} reviews.")
            return
        items = sorted(one_a_record(questions), key=lambda item: (-item.priority, item.record))
        texts = read_texts(database, np.array([item.record for item in items], np.int64))
    rows = ({**item._asdict(), "text": text} for item, text in zip(items, texts, strict=True))
    print_rows(rows, output, table_columns=_WOULD_BE, raw=raw)
    say(f"{len(items):,} reviews would be queued.", err=True)
