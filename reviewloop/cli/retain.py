"""``reviewloop data retain``: delete what is older than the settings keep it."""

import threading
from typing import Annotated

import typer

from reviewloop.cli.arguments import configured
from reviewloop.cli.output import FormatOption, RawOption, chosen_format, print_rows
from reviewloop.cli.running import on_signals, show_progress
from reviewloop.operations.logs import configure_logging
from reviewloop.terminal import say
from reviews.errors import ReviewLoopError, WrongUse
from storage.lifecycle.retention import Retention, RetentionReport

_TABLE = ("table", "rows", "megabytes_before", "megabytes_after")


def retain(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go; change nothing.")] = False,
    busy_share: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Share of the time to work in; unset, retention.busy_share."),
    ] = None,
    shrink: Annotated[
        bool,
        typer.Option("--shrink", help="Instead, give free room back to the disk; for owners of the tables."),
    ] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Delete what is older than the section 'retention' of the settings keeps it, beside running workers.

    It works in small steps, and killed or stopped at any moment, the next run goes on. Run it as the owner of
    the tables, or with the role of 'db roles --keeper'. 'trainer schedule' does the same every night.
    """
    configure_logging()
    stopping = threading.Event()
    with configured() as (settings, database), on_signals(stopping):
        wanted = settings.retention
        if shrink and dry_run:
            raise WrongUse("Give one of --dry-run and --shrink.")
        if wanted.keeps_everything and not shrink:
            raise WrongUse(
                "Everything is kept for ever: set retention.texts_days, or another of the section."
            )
        if busy_share is not None:
            wanted = wanted.model_copy(update={"busy_share": busy_share})
        what = "counting aged rows" if dry_run else "moving rows" if shrink else "deleting aged rows"
        with show_progress(what) as progress:
            job = Retention(database, wanted, wait=stopping.wait, progress=progress)
            report = job.rehearse() if dry_run else job.shrink() if shrink else job.run()
    say(f"Kept: {wanted.in_words()}.", err=True)
    print_rows(_rows(report), output, table_columns=_TABLE[:2] if dry_run else _TABLE, raw=raw)
    for sentence in report.unvacuumed:
        say(f"Not vacuumed, which autovacuum does later: {sentence}.", err=True)
    if not report.is_complete:
        raise ReviewLoopError("It was stopped; run it again to go on.")
    if not report.rows and chosen_format(output) == "table":
        say("Nothing was to be done.", err=True)


def _rows(report: RetentionReport) -> list[dict[str, object]]:
    sizes = (report.bytes_before, report.bytes_after)
    names = ("megabytes_before", "megabytes_after")
    return [
        {"table": table, "rows": rows}
        | {name: round(size[table] / 1e6, 1) for name, size in zip(names, sizes, strict=True) if size}
        for table, rows in report.rows.items()
    ]
