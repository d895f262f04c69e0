"""``reviewloop restore``: check a backup, and restore it."""

from pathlib import Path
from typing import Annotated

import typer

from reviewloop.cli.arguments import configured
from reviewloop.cli.output import FormatOption, RawOption, print_rows
from reviewloop.operations.backup import Backup, finish_restore, read_backup, read_erasures
from reviewloop.operations.backup import restore as load
from reviewloop.operations.logs import configure_logging
from reviewloop.operations.resumption import Resumption, resumptions
from reviewloop.settings import Settings, load_settings
from reviewloop.terminal import say
from reviews.errors import ReviewLoopError, Unavailable, WrongUse

_LATER = "Erasures are known until {moment}: what was erased later comes back"
_REFRESH = (
    "If the old database still answers, run 'reviewloop backup {directory} --erasures-only' there first"
)


def restore(
    directory: Annotated[Path, typer.Argument(help="What 'backup' wrote.", metavar="DIR")],
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Restore nothing: is it whole, and what has Kafka of the rest?")
    ] = False,
    erasures_only: Annotated[
        bool,
        typer.Option(
            "--erasures-only", help="The database was restored by other means: only do what has to follow."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    output: FormatOption = None,
    raw: RawOption = False,
) -> None:
    """Restore a backup into an empty database, and erase again what was erased since.

    What was restored is compared with the manifest. Then it shows for each partition how much Kafka still
    has of what came after the backup: workers read it again. What Kafka has lost becomes a recorded gap.
    Start no worker before it is done.
    """
    configure_logging()
    if check and erasures_only:
        raise WrongUse("Give --check or --erasures-only, not both.")
    if check:
        backup = read_backup(directory)
        say(f"{directory} is whole: {_about(backup)}.", err=True)
        _show(load_settings(), backup, output, raw=raw)
        return
    with configured() as (settings, database):
        if erasures_only:
            listing, erasures = read_erasures(directory)
            _agree(directory, str(listing.listed_at), yes=yes)
            done = finish_restore(settings, database, erasures)
        else:
            backup = read_backup(directory)
            _agree(directory, str(backup.listed_at), yes=yes)
            done = load(settings, database, backup)
            say(f"Restored and counted: {_about(backup)}.", err=True)
        say(f"{done.erasures:,} erasures done again, {done.reviews:,} reviews erased by them.", err=True)
        if done.open_receipts:
            say(f"{done.open_receipts:,} receipts are open: 'reviewloop forget --list'.", err=True)
        if not erasures_only:
            _show(settings, backup, output, raw=raw)
    say("Grant the roles with 'reviewloop db roles', and start the workers.", err=True)


def _agree(directory: Path, moment: str, *, yes: bool) -> None:
    said = f"{_LATER.format(moment=moment)}. {_REFRESH.format(directory=directory)}."
    say(said, err=True)
    if not yes and not typer.confirm("Was nothing erased later?", err=True):
        raise WrongUse("Nothing was restored.")


def _about(backup: Backup) -> str:
    content = backup.manifest.content
    return (
        f"{content.rows.get('review', 0):,} reviews, {len(content.adapters):,} adapters and "
        f"{len(content.positions):,} partitions, as of {backup.manifest.taken_at}"
    )


def _show(settings: Settings, backup: Backup, output: FormatOption, *, raw: bool) -> None:
    """What workers will do.

    Raises:
        ReviewLoopError: If workers would refuse to read a partition.
    """
    try:
        rows = list(resumptions(settings.kafka, backup.manifest.content.positions))
    except (Unavailable, WrongUse) as err:
        say(f"What Kafka still has is not known: {err}", err=True)
        return
    print_rows((row._asdict() for row in rows), output, table_columns=Resumption._fields, raw=raw)
    refused = [f"{row.topic}[{row.partition}]" for row in rows if row.state == "beyond the end"]
    if refused:
        raise ReviewLoopError(
            f"The stored offset of {refused[0]} is beyond the end of its topic: the brokers lost data, or "
            "are others than those of the backup. Name the right cluster, or make the topic anew."
        )
