"""``reviewloop label queue``: what waits for a label, and why; ``fill`` asks for more without a night."""

from datetime import UTC, datetime
from typing import Annotated

import numpy as np
import typer

from reviewloop.cli.misplaced import refuse_options
from reviewloop.cli.names import require_task
from reviewloop.cli.rows import (
    Format,
    RawOption,
    RecordFormat,
    RecordFormatOption,
    chosen_format,
    chosen_record_format,
    print_record,
    print_rows,
)
from reviewloop.settings import load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from storage.labels.annotation_queue import LabelTaskStore, one_a_record
from storage.learning.pool import read_texts
from trainer.nightly.annotation_queue import Desk

app = typer.Typer(help="What waits for a label, and why.")

_COUNTS = ("state", "reason", "items", "leased")
_TOP = ("text", "reason", "answers", "holder", "priority")
_WOULD_BE = ("text", "reason", "priority", "strategy")


@app.callback(invoke_without_command=True)
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
    settings = load_settings()
    wanted = task or settings.classifier.task
    with open_database(settings) as database:
        require_task(settings, database, task)
        store = LabelTaskStore(database)
        counts = [count._asdict() for count in store.counts(wanted)]
        top = [item._asdict() for item in store.top(wanted, limit)]
    form = chosen_record_format(output)
    if form is not RecordFormat.table:
        print_record({"task": wanted, "counts": counts, "top": top}, form)
        return
    print_rows(counts, Format.table, table_columns=_COUNTS, title=f"{wanted}: the queue")
    rows = ({**row, "answers": f"{row['answers']}/{row['wanted_answers']}"} for row in top)
    print_rows(rows, Format.table, table_columns=_TOP, title="Handed out next")


@app.command()
def fill(
    *,
    task: Annotated[str | None, typer.Option(help="The task; unset, the classifier's.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be queued; queue nothing.")
    ] = False,
    output: Annotated[
        Format | None,
        typer.Option("--format", help="Of a dry run. Unset: a table on a terminal, jsonl elsewhere."),
    ] = None,
    raw: RawOption = False,
) -> None:
    """Queue what a night would ask about, now and without the night: as many reviews, chosen as it would."""
    settings = load_settings()
    wanted, trainer = task or settings.classifier.task, settings.trainer
    with open_database(settings) as database:
        require_task(settings, database, task)
        desk = Desk(database, wanted, trainer.selection, trainer.nightly, now=lambda: datetime.now(UTC))
        questions = desk.questions(trainer.seed)
        if not dry_run:
            say(f"Queued {desk.queue(questions):,} reviews.")
            return
        items = sorted(one_a_record(questions), key=lambda item: (-item.priority, item.record))
        texts = read_texts(database, np.array([item.record for item in items], np.int64))
    rows = ({**item._asdict(), "text": text} for item, text in zip(items, texts, strict=True))
    print_rows(rows, chosen_format(output), table_columns=_WOULD_BE, raw=raw)
    say(f"{len(items):,} reviews would be queued.", err=True)
