"""``reviewloop dead-letters``: records that could not become reviews."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from console.replaying import choose_letters, discard_letters, replay_letters
from reviewloop.cli.arguments import configured, parse_place
from reviewloop.cli.output import (
    FormatOption,
    RawOption,
    RecordFormatOption,
    chosen_format,
    print_record,
    print_rows,
)
from reviewloop.settings import load_settings
from reviewloop.terminal import say
from reviewloop.wiring.registry import open_database
from reviews.errors import WrongUse
from reviews.moments import parse_moment
from storage.database import Database
from storage.queries.dead_letters import LetterFilter, count_dead_letters, find_dead_letters
from storage.queries.label_counts import COUNTED_AT_ONCE
from storage.stream.dead_letters import Choice, ChosenLetter, DeadLetterStore

app = typer.Typer(no_args_is_help=True, help="Records that could not become reviews or labels, and why.")


class LetterStage(StrEnum):
    """Where a record failed."""

    parse = "parse"
    decode = "decode"
    map = "map"
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
    with configured() as (_, database):
        if count:
            reasons = count_dead_letters(database, wanted)
            rows = ({"error": name, "dead_letters": number} for name, number in reasons.items())
            printed = print_rows(rows, form, table_columns=("error", "dead_letters"), raw=raw)
            if sum(reasons.values()) == COUNTED_AT_ONCE:
                say(f"There may be more: counting ended at {COUNTED_AT_ONCE:,}.", err=True)
        else:
            letters = map(_with_place, find_dead_letters(database, wanted))
            printed = print_rows(letters, form, table_columns=_TABLE, raw=raw)
        if error is not None and not printed:
            _say_reasons(database, error)


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
    with configured() as (_, database):
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
    print_record(found[0], chosen_format(output))


def _with_place(row: dict[str, Any]) -> dict[str, Any]:
    place = f"{row['kafka_topic']}:{row['kafka_partition']}:{row['kafka_offset']}"
    return {"place": place, **row}


Places = Annotated[list[str] | None, typer.Argument(help="TOPIC:PARTITION:OFFSET …, as 'list' shows them.")]
ErrorOption = Annotated[str | None, typer.Option(help="Those that wait with this reason, bad_stars for one.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that wait.")]


@app.command()
def replay(
    places: Places = None,
    *,
    error: ErrorOption = None,
    everything: AllOption = False,
    value_file: Annotated[
        Path | None, typer.Option(help="Publish this file's bytes instead, for one letter; - is stdin.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Where to, instead of where it came from.")] = None,
) -> None:
    """Publish dead letters anew; each is marked replayed in the transaction that stores its review.

    One that fails again becomes another dead letter, which counts the attempts and waits in its place. One of
    which only the beginning was kept, since it was too long, cannot be published without --value-file.
    """
    if value_file is not None and len(places or ()) != 1:
        raise WrongUse("--value-file corrects one dead letter: name its place.")
    value = None if value_file is None else _read_value(value_file)
    settings = load_settings()
    with open_database(settings) as database:
        store = DeadLetterStore(database)
        chosen = _choose(store, places, error, everything=everything)
        result = replay_letters(
            settings.kafka, store, chosen, value=value, topic=topic, is_named=bool(places)
        )
        if error is not None and not chosen:
            _say_reasons(database, error)
    if result.cut:
        say(
            f"Left out {len(result.cut):,} dead letters of which only the beginning was kept, "
            f"{result.cut[0]} for one.",
            err=True,
        )
    say(f"Published {result.published:,} dead letters anew.")


@app.command()
def discard(
    places: Places = None,
    *,
    error: ErrorOption = None,
    everything: AllOption = False,
    reason: Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")],
) -> None:
    """Settle dead letters that nobody will correct; they stay in the database with the reason."""
    with configured() as (_, database):
        store = DeadLetterStore(database)
        chosen = _choose(store, places, error, everything=everything)
        discarded = discard_letters(store, chosen, reason)
        if error is not None and not chosen:
            _say_reasons(database, error)
    say(f"Discarded {discarded:,} dead letters.")


def _say_reasons(database: Database, error: str) -> None:
    """Suggest a name for a misspelt reason; a valid reason may simply have no dead letters."""
    known = count_dead_letters(database, LetterFilter(state=None))
    if error not in known:
        there_are = ", ".join(sorted(known)) or "none yet"
        say(f"No dead letter has the reason '{error}'. Reasons that occurred: {there_are}.", err=True)


def _choose(
    store: DeadLetterStore, places: Sequence[str] | None, error: str | None, *, everything: bool
) -> list[ChosenLetter]:
    if sum(map(bool, (places, error, everything))) != 1:
        raise WrongUse("Say which dead letters: their places, --error REASON or --all.")
    return choose_letters(store, Choice(tuple(map(parse_place, places or ())), error))


def _read_value(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as err:
        raise WrongUse(f"{file} cannot be read: {err.strerror}.") from err
