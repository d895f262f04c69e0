"""``reviewloop label queue``: what waits for a label, and why."""

import json
from enum import StrEnum
from typing import Annotated

import typer

from reviewloop.cli.rows import Format as Rows
from reviewloop.cli.rows import print_rows

app = typer.Typer(help="What waits for a label, and why.")

_COUNTS = ("state", "reason", "items", "leased")
_TOP = ("priority", "reason", "answers", "holder", "text")


class Format(StrEnum):
    """How the queue is printed."""

    table = "table"
    json = "json"


@app.callback(invoke_without_command=True)
def queue(
    context: typer.Context,
    task: Annotated[str | None, typer.Option(help="The task; unset, the classifier's.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="So many items of the top are shown.")] = 10,
    output: Annotated[Format, typer.Option("--format", help="table or json.")] = Format.table,
) -> None:
    """How many items there are by state and reason, and those that are handed out next."""
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.label_tasks import LabelTaskStore

    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    wanted = task or settings.classifier.task
    with open_database(settings) as database:
        store = LabelTaskStore(database)
        counts = [count._asdict() for count in store.counts(wanted)]
        top = [item._asdict() for item in store.top(wanted, limit)]
    if output is Format.json:
        found = {"task": wanted, "counts": counts, "top": top}
        typer.echo(json.dumps(found, indent=2, default=str, ensure_ascii=False))
        return
    print_rows(counts, Rows.table, table_columns=_COUNTS, title=f"{wanted}: the queue")
    rows = ({**row, "answers": f"{row['answers']}/{row['wanted_answers']}"} for row in top)
    print_rows(rows, Rows.table, table_columns=_TOP, title="Handed out next")
