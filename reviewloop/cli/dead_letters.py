"""``reviewloop dead-letters``: records that could not become reviews."""

from typing import Annotated, Any

import typer

from reviewloop.cli.rows import Format, chosen_format, print_rows
from reviews.errors import WrongUse

app = typer.Typer(no_args_is_help=True, help="Records that could not become reviews, and why.")

_TABLE = ("place", "stage", "error", "message", "state", "received_at")


@app.command("list")
def list_letters(
    *,
    error: Annotated[str | None, typer.Option(help="Only with this reason, bad_stars for one.")] = None,
    state: Annotated[str, typer.Option(help="waiting, replayed, discarded or all.")] = "waiting",
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the latest first; 0: all.")] = 20,
    output: Annotated[
        Format | None, typer.Option("--format", help="Unset: a table on a terminal, jsonl elsewhere.")
    ] = None,
) -> None:
    """Dead letters, the latest first."""
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.queries import find_dead_letters

    if state not in {"waiting", "replayed", "discarded", "all"}:
        raise WrongUse(f"There is no state '{state}': give waiting, replayed, discarded or all.")
    with open_database(load_settings()) as database:
        rows = find_dead_letters(
            database, error=error, state=None if state == "all" else state, limit=limit or None
        )
        print_rows(map(_with_place, rows), chosen_format(output), table_columns=_TABLE)


@app.command()
def show(
    place: Annotated[str, typer.Argument(help="TOPIC:PARTITION:OFFSET, as 'list' shows them.")],
) -> None:
    """One dead letter with its raw bytes."""
    from reviewloop.settings import load_settings
    from reviewloop.wiring import open_database
    from storage.queries import find_dead_letters

    with open_database(load_settings()) as database:
        found = list(find_dead_letters(database, state=None, place=parse_place(place), limit=1))
    if not found:
        raise WrongUse(f"There is no dead letter at {place}: 'reviewloop dead-letters list' shows them.")
    for name, value in found[0].items():
        shown = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        typer.echo(f"{name:>16}: {shown}")


def _with_place(row: dict[str, Any]) -> dict[str, Any]:
    place = f"{row['kafka_topic']}:{row['kafka_partition']}:{row['kafka_offset']}"
    return {"place": place, **row}


def parse_place(place: str) -> tuple[str, int, int]:
    """Topic, partition and offset of ``TOPIC:PARTITION:OFFSET``.

    Raises:
        WrongUse: If it does not look like that.
    """
    topic, _, rest = place.partition(":")
    partition, _, offset = rest.partition(":")
    if not (topic and partition.isdecimal() and offset.isdecimal()):
        raise WrongUse(f"'{place}' names no record: give TOPIC:PARTITION:OFFSET, for example reviews:0:42.")
    return topic, int(partition), int(offset)
