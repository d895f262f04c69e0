"""``reviewloop dead-letters``: records that could not become reviews."""

import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from reviewloop.cli import settling
from reviewloop.cli.moments import parse_moment
from reviewloop.cli.places import parse_place
from reviewloop.cli.rows import (
    FormatOption,
    RawOption,
    RecordFormatOption,
    chosen_format,
    chosen_record_format,
    print_record,
    print_rows,
)
from reviewloop.settings import load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from reviews.errors import WrongUse
from storage.queries import LetterFilter, count_dead_letters, find_dead_letters

app = typer.Typer(no_args_is_help=True, help="Records that could not become reviews or labels, and why.")
app.command()(settling.replay)
app.command()(settling.discard)


class LetterStage(StrEnum):
    """Where a record failed."""

    parse = "parse"
    score = "score"
    store = "store"
    label = "label"


class LetterState(StrEnum):
    """What became of a dead letter."""

    waiting = "waiting"
    replayed = "replayed"
    discarded = "discarded"
    superseded = "superseded"
    all = "all"


_TABLE = ("place", "error", "message", "state", "received_at", "attempts", "stage")


@app.command("list")
def list_letters(
    *,
    error: Annotated[str | None, typer.Option(help="Only with this reason, bad_stars for one.")] = None,
    stage: Annotated[LetterStage | None, typer.Option(help="Only from this stage.")] = None,
    topic: Annotated[str | None, typer.Option(help="Only from this topic.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Received since: ISO 8601, or an age such as 24h.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Received before: ISO 8601, or an age such as 24h.")
    ] = None,
    state: Annotated[LetterState, typer.Option(help="What became of them.")] = LetterState.waiting,
    limit: Annotated[int, typer.Option(min=0, help="At most so many, the latest first; 0: all.")] = 20,
    count: Annotated[bool, typer.Option("--count", help="Print how many have each reason instead.")] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Dead letters, the latest first, without their values: 'show' has them.

    A superseded one was published anew and failed again: the later attempt stands for it.
    """
    wanted = LetterFilter(
        error=error,
        stage=stage and stage.value,
        topic=topic,
        since=parse_moment(since),
        until=parse_moment(until),
        state=None if state is LetterState.all else state.value,
        limit=limit or None,
    )
    form = chosen_format(output)
    with open_database(load_settings()) as database:
        if count:
            reasons = count_dead_letters(database, wanted)
            rows = ({"error": name, "dead_letters": number} for name, number in reasons.items())
            printed = print_rows(rows, form, table_columns=("error", "dead_letters"), raw=raw)
        else:
            letters = map(_with_place, find_dead_letters(database, wanted))
            printed = print_rows(letters, form, table_columns=_TABLE, raw=raw)
        if error is not None and not printed:
            settling.say_reasons(database, error)


@app.command()
def show(
    place: Annotated[str, typer.Argument(help="TOPIC:PARTITION:OFFSET, as 'list' shows them.")],
    *,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the value alone, byte for byte, into a file or a pipe.")
    ] = False,
    output: RecordFormatOption = None,
) -> None:
    """One dead letter with its raw bytes."""
    if raw and sys.stdout.isatty():
        raise WrongUse("--raw writes bytes that a terminal may obey: send them into a file or a pipe.")
    wanted = LetterFilter(state=None, place=parse_place(place), limit=1)
    with open_database(load_settings()) as database:
        found = list(find_dead_letters(database, wanted, with_raw=True))
    if not found:
        raise WrongUse(f"There is no dead letter at {place}: 'reviewloop dead-letters list' shows them.")
    for name in ("raw", "key"):
        if (size := found[0][f"{name}_full_bytes"]) is not None:
            kept = len(found[0][name])
            say(f"{name} is cut: only its first {kept:,} of {size:,} bytes were kept.", err=True)
    if raw:
        sys.stdout.buffer.write(found[0]["raw"] or b"")
        return
    print_record(found[0], chosen_record_format(output))


def _with_place(row: dict[str, Any]) -> dict[str, Any]:
    place = f"{row['kafka_topic']}:{row['kafka_partition']}:{row['kafka_offset']}"
    return {"place": place, **row}
