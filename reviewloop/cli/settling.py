"""``reviewloop dead-letters replay`` and ``discard``: what becomes of those that wait."""

import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from broker.publisher import OutgoingRecord, publish
from reviewloop.cli.places import parse_place
from reviewloop.settings import load_settings
from reviewloop.visible import say
from reviewloop.wiring import open_database
from reviews.dead_letter import StoredLetter, replay_headers
from reviews.errors import WrongUse
from storage.database import Database
from storage.queries import LetterFilter, count_dead_letters
from storage.stream.dead_letters import Choice, ChosenLetter, DeadLetterStore

Places = Annotated[list[str] | None, typer.Argument(help="TOPIC:PARTITION:OFFSET …, as 'list' shows them.")]
ErrorOption = Annotated[str | None, typer.Option(help="Those that wait with this reason, bad_stars for one.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that wait.")]


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
        raise WrongUse("--value-file mends one dead letter: name its place.")
    value = None if value_file is None else _read_value(value_file)
    settings = load_settings()
    published = 0
    with open_database(settings) as database:
        store = DeadLetterStore(database)
        chosen = _choose(store, places, error, everything=everything)
        _refuse_settled(letter for letter in chosen if letter.state == "replayed")
        if value is None:
            chosen = _leave_out_cut(chosen, is_named=bool(places))
        letters = store.read(chosen)
        for target, some in groupby(letters, key=lambda letter: topic or letter.topic):
            published += publish(settings.kafka, target, (_anew(letter, value) for letter in some))
        if error is not None and not chosen:
            say_reasons(database, error)
    say(f"Published {published:,} dead letters anew.")


def discard(
    places: Places = None,
    *,
    error: ErrorOption = None,
    everything: AllOption = False,
    reason: Annotated[str, typer.Option(help="Why, in a sentence; it is kept.")],
) -> None:
    """Settle dead letters that nobody will mend; they stay in the database with the reason."""
    if not reason.strip() or "\x00" in reason:
        raise WrongUse("--reason is empty: say in a sentence why.")
    with open_database(load_settings()) as database:
        store = DeadLetterStore(database)
        chosen = _choose(store, places, error, everything=everything)
        _refuse_settled(letter for letter in chosen if letter.state not in {"waiting", "superseded"})
        discarded = store.discard([letter.record for letter in chosen], reason)
        if error is not None and not chosen:
            say_reasons(database, error)
    say(f"Discarded {discarded:,} dead letters.")


def say_reasons(database: Database, error: str) -> None:
    """Help with a misspelt reason; one that is right may have no dead letters, which is no mistake."""
    known = count_dead_letters(database, LetterFilter(state=None))
    if error not in known:
        there_are = ", ".join(sorted(known)) or "none yet"
        say(f"No dead letter has the reason '{error}'. Reasons that occurred: {there_are}.", err=True)


def _choose(
    store: DeadLetterStore, places: Sequence[str] | None, error: str | None, *, everything: bool
) -> list[ChosenLetter]:
    if sum(map(bool, (places, error, everything))) != 1:
        raise WrongUse("Say which dead letters: their places, --error REASON or --all.")
    wanted = tuple(map(parse_place, places or ()))
    chosen = store.choose(Choice(wanted, error))
    missing = set(wanted) - {letter.place for letter in chosen}
    if missing:
        place = ":".join(map(str, min(missing)))
        raise WrongUse(f"There is no dead letter at {place}: 'reviewloop dead-letters list' shows them.")
    return chosen


def _refuse_settled(settled: Iterable[ChosenLetter]) -> None:
    for letter in settled:
        place = ":".join(map(str, letter.place))
        raise WrongUse(
            f"The dead letter at {place} is {letter.state} already: "
            f"see 'reviewloop dead-letters show {place}'."
        )


def _leave_out_cut(chosen: list[ChosenLetter], *, is_named: bool) -> list[ChosenLetter]:
    """Those that are there whole.

    Raises:
        WrongUse: If one of the others was asked for by its place.
    """
    cut = [":".join(map(str, letter.place)) for letter in chosen if letter.is_cut]
    if cut and is_named:
        raise WrongUse(
            f"Of the dead letter at {cut[0]} only the beginning was kept, since it was too long: give the "
            "value to publish with --value-file, or let its publisher send it again."
        )
    if cut:
        say(
            f"Left out {len(cut):,} dead letters of which only the beginning was kept, {cut[0]} for one.",
            err=True,
        )
    return [letter for letter in chosen if not letter.is_cut]


def _anew(letter: StoredLetter, value: bytes | None) -> OutgoingRecord:
    return OutgoingRecord(letter.key, letter.raw if value is None else value, replay_headers(letter))


def _read_value(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as err:
        raise WrongUse(f"{file} cannot be read: {err.strerror}.") from err
