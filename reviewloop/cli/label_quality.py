"""``reviewloop label agreement`` and ``suspects``: how far the labels can be trusted."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from reviewloop.cli.names import require_task
from reviewloop.cli.rows import Format, RawOption, chosen_format, print_rows
from reviewloop.settings import load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from reviews.label_task import NewTask
from reviews.slices import SliceShares, slice_of
from storage.adapters.registry import AdapterStore
from storage.database import Database
from storage.labels.annotation_queue import LabelTaskStore
from storage.labels.store import LabelStore
from trainer.labels.agreement import answer_matrix, compare_annotators, krippendorff_alpha
from trainer.labels.suspects import SuspectLabel, suspect_labels
from trainer.nightly.snapshot import HELD_OUT

TaskOption = Annotated[str, typer.Option(help="The task.")]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
]
_CONFIRMED = 2  # a label that was given so often was looked at again


def agreement(*, task: TaskOption = "sentiment", output: FormatOption = None, raw: RawOption = False) -> None:
    """How much annotators agree beyond chance: Krippendorff's alpha, and each beside the others.

    Of each annotator's answers about a review the latest counts; "unsure" is counted, but is no label.
    """
    settings = load_settings()
    with open_database(settings) as database:
        require_task(settings, database, task)
        matrix = answer_matrix(LabelStore(database).latest_answers(task))
    alpha = krippendorff_alpha(matrix.answers)
    rows = [
        _agreement_row("(all)", alpha.answers, sum(matrix.unsure), alpha.records)
        | {"alpha": alpha.value, "alpha_low": alpha.low, "alpha_high": alpha.high}
    ]
    for item in compare_annotators(matrix):
        share = item.agreeing / item.compared if item.compared else None
        rows.append(_agreement_row(item.annotator, item.answers, item.unsure, item.compared, share))
    print_rows(rows, chosen_format(output), table_columns=tuple(rows[0]), raw=raw)


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

    A label that somebody confirmed by giving it again is left out. Test and audit reviews are shown and never
    queued: what the model is judged by is not looked at again because the model says so.
    """
    settings = load_settings()
    with open_database(settings) as database:
        require_task(settings, database, task)
        found = _find(database, task)[: limit or None]
        asked = _without_held_out(found, settings.trainer.nightly.shares)
        queued = _queue(database, task, asked) if queue else 0
    print_rows(map(_suspect_row, found), chosen_format(output), table_columns=_SUSPECT_COLUMNS, raw=raw)
    if queue:
        left_out = f"{len(found) - len(asked):,} are of the test and audit slices and were not"
        say(f"{queued:,} of {len(found):,} were queued for a second look; {left_out}.", err=True)


def _find(database: Database, task: str) -> list[SuspectLabel]:
    labels = LabelStore(database)
    orders = {adapter.version: adapter.labels for adapter in AdapterStore(database).list_versions(task)}
    found = suspect_labels(labels.labelled(task), orders)
    confirmed = _confirmed(labels, task, [item.review.record for item in found])
    return [item for item in found if (item.review.record, item.review.label) not in confirmed]


def _confirmed(labels: LabelStore, task: str, records: Sequence[int]) -> set[tuple[int, str | None]]:
    given = Counter((answer.record, answer.label) for answer in labels.answers(task, records))
    return {answer for answer, times in given.items() if times >= _CONFIRMED}


def _without_held_out(found: Sequence[SuspectLabel], shares: SliceShares) -> list[SuspectLabel]:
    return [item for item in found if slice_of(item.review.review_id, shares) not in HELD_OUT]


def _queue(database: Database, task: str, found: Sequence[SuspectLabel]) -> int:
    items = [
        # From 0.5 to 1: the more the model is against the label, the earlier it is looked at again.
        NewTask(item.review.record, task, "second_look", "confident-learning", 0.5 - item.margin / 2)
        for item in found
    ]
    return LabelTaskStore(database).add(items)


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
