"""``reviewloop dead-letters``: records that could not become reviews."""

import sys
from typing import Annotated, Any

import typer

from reviewloop.cli import settling
from reviewloop.cli.moments import parse_moment
from reviewloop.cli.places import parse_place
from reviewloop.cli.rows import Format, chosen_format, print_rows
from reviews.errors import WrongUse

app = typer.Typer(no_args_is_help=True, help="Records that could not become reviews or labels, and why.")
app.command()(settling.replay)
app.command()(settling.discard)

_TABLE = ("place", "stage", "error", "message", "state", "received_at")


@app.command("list")
def list_letters(
    *,
    error: Annotated[str | None, typer.Option(help="Only with this reason, bad_stars for one.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only from this stage: parse, score or label.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only from this topic.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Received since: ISO 8601, or an age such as 24h.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Received before: ISO 8601, or an age such as 24h.")
    ] = None,
    state: Annotated[str, typer.Option(help="waiting, replayed, discarded or all.")] = "waiting",
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the latest first; 0: all.")] = 20,
    count: Annotated[bool, typer.Option("--count", help="Print how many have each reason instead.")] = False,
    output: Annotated[
        Format | None, typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
    ] = None,
) -> None:
    """Dead letters, the latest first."""
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.queries import LetterFilter, count_dead_letters, find_dead_letters

    if state not in {"waiting", "replayed", "discarded", "all"}:
        raise WrongUse(f"There is no state '{state}': give waiting, replayed, discarded or all.")
    wanted = LetterFilter(
        error=error,
        stage=stage,
        topic=topic,
        since=parse_moment(since),
        until=parse_moment(until),
        state=None if state == "all" else state,
        limit=limit or None,
    )
    form = chosen_format(output)
    with open_database(load_settings()) as database:
        if count:
            reasons = count_dead_letters(database, wanted)
            rows = ({"error": name, "dead_letters": number} for name, number in reasons.items())
            print_rows(rows, form, table_columns=("error", "dead_letters"))
        else:
            print_rows(map(_with_place, find_dead_letters(database, wanted)), form, table_columns=_TABLE)


@app.command()
def show(
    place: Annotated[str, typer.Argument(help="TOPIC:PARTITION:OFFSET, as 'list' shows them.")],
    *,
    raw: Annotated[bool, typer.Option("--raw", help="Write the value alone, byte for byte.")] = False,
) -> None:
    """One dead letter with its raw bytes."""
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.queries import LetterFilter, find_dead_letters

    wanted = LetterFilter(state=None, place=parse_place(place), limit=1)
    with open_database(load_settings()) as database:
        found = list(find_dead_letters(database, wanted))
    if not found:
        raise WrongUse(f"There is no dead letter at {place}: 'reviewloop dead-letters list' shows them.")
    if raw:
        sys.stdout.buffer.write(found[0]["raw"] or b"")
        return
    for name, value in found[0].items():
        shown = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        typer.echo(f"{name:>16}: {shown}")


def _with_place(row: dict[str, Any]) -> dict[str, Any]:
    place = f"{row['kafka_topic']}:{row['kafka_partition']}:{row['kafka_offset']}"
    return {"place": place, **row}
