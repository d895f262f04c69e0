"""``reviewloop label export``: reviews to be labelled elsewhere, or the answers that are there."""

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from reviewloop.cli.moments import parse_moment
from reviewloop.cli.names import require_task_and_label
from reviewloop.cli.rows import Format, RawOption, print_list, print_rows
from reviewloop.label_studio import to_config, to_task
from reviewloop.settings import load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from reviews.errors import WrongUse
from reviews.slices import slice_of
from storage.labels.store import ItemFilter, LabelStore, find_items

_MODELS_WORDS = ("label", "confidence", "margin", "adapter_version")


class ExportFormat(StrEnum):
    """What is written."""

    label_studio = "label-studio"
    csv = "csv"
    jsonl = "jsonl"


def export(
    *,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="Tasks of Label Studio, or rows.")
    ] = ExportFormat.label_studio,
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

    Reviews of the audit slice never have it: who sees it tends to agree. What people answered is not among
    it: nobody sees it before their own answer. With --answers it is all that is written, with its history.
    """
    if answers and form is ExportFormat.label_studio:
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
    settings = load_settings()
    shares = settings.trainer.nightly.shares

    def is_audit(item: Mapping[str, Any]) -> bool:
        return slice_of(item["review_id"], shares) == "audit"

    with open_database(settings) as database:
        require_task_and_label(settings, database, task, label)
        store = LabelStore(database)
        if config:
            vocabulary = store.vocabulary(task)
            if vocabulary is None:
                raise WrongUse(f"The task '{task}' has no adapter yet, and so no labels to choose from.")
            say(to_config(control or task, [*vocabulary.ordered, "unsure"]).removesuffix("\n"))
        elif answers:
            print_rows(_answers(store.all_answers(task)), Format(form.value), table_columns=(), raw=raw)
        elif form is ExportFormat.label_studio:
            items = find_items(database, wanted)
            print_list(to_task(item, control or task, blind=blind or is_audit(item)) for item in items)
        else:
            items = (
                _shown(item, blind=blind, is_audit=is_audit(item)) for item in find_items(database, wanted)
            )
            print_rows(items, Format(form.value), table_columns=(), raw=raw)


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
        }


def _shown(item: Mapping[str, Any], *, blind: bool, is_audit: bool) -> dict[str, Any]:
    """The columns of a row; the model's are called so, as "label" is for the answer that is to come."""
    kept = {name: value for name, value in item.items() if name not in _MODELS_WORDS}
    said = {} if blind else {f"model_{name}": None if is_audit else item[name] for name in _MODELS_WORDS}
    return {**kept, **said}
